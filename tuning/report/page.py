"""What a search found, as one HTML page: `report.html`."""

from html import escape
from pathlib import Path

import numpy as np

from edcn_tf.files import replaced
from edcn_tf.report.html import capital, grid, note, page

from . import figures
from .analysis import completed, figure_name, furthest, score_name
from .answer import answer
from .effects import TRIALS_NEEDED, effects
from .tables import retrained_table, settings_table, trials_tables


def write_page(
    path, *, title, trials, retrained, objective, command=None, seconds=None
):
    """Writes a self-contained HTML page about a search and returns its path.

    The page needs no network, no other file and no JavaScript. What cannot be given
    (too few trials, nothing trained anew, no latency) is left out and the page says
    why.

    Args:
        path: Of the page, which is replaced if it is there.
        title: For people, such as the directory's name.
        trials: `TrialResult`s, in the order in which they began.
        retrained: `Retrained`s, the default's (`trial=None`) among them; may be empty.
        objective: `Objective`: `figure` (`"auc"` or `"log_loss"`), `title` (such as
            `"validation AUC"`), `higher_is_better`, `latency_charge`,
            `parameter_charge` and `best`.
        command: What was run, one line, to be shown.
        seconds: How long the search took.

    Returns:
        The `Path` of the page.
    """
    path = Path(path)
    sections = [
        f'<h1>{escape(title)}</h1>\n<p class="result">'
        f"{escape(answer(trials, retrained, objective))}</p>",
        _facts(trials, objective, seconds),
        "<h2>The best, trained anew</h2>",
        _seeds(trials, retrained, objective),
        "<h2>Trials and memory over time</h2>",
        _over_time(trials, objective),
        "<h2>Each parameter's effect</h2>",
        effects(trials, objective, score_name(objective)),
        f"<h2>{capital(figure_name(objective))} and cost</h2>",
        _cost(trials, objective),
        "<h2>All trials</h2>",
        trials_tables(trials, objective),
    ]
    if command:
        sections += ["<h2>Command</h2>", f"<pre>{escape(command)}</pre>"]
    text = page(title, sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def _facts(trials, objective, seconds):
    failed = len(trials) - len(completed(trials))
    took = "" if seconds is None else f" in {_duration(seconds)}"
    told = f"{len(trials)} trials{took}, of which {failed or 'none'} failed"
    charges = [
        f"{charge:g} for each {unit}"
        for charge, unit in [
            (objective.latency_charge, "millisecond of latency"),
            (objective.parameter_charge, "million parameters"),
        ]
        if charge
    ]
    ranked = f"Ranked by {objective.title}"
    if charges:
        change = "less" if objective.higher_is_better else "plus"
        ranked += f", {change} {' and '.join(charges)}"
    return note(f"{told}. {ranked}.")


def _seeds(trials, retrained, objective):
    if not retrained:
        return note(
            "No setting was trained anew with other seeds, so it is not known how much "
            "of the best score is luck."
        )
    ranked = objective.best(retrained)
    ranked.sort(key=lambda one: one.trial is not None)  # the default on top
    searched = {
        trial.number: getattr(trial, objective.figure) for trial in completed(trials)
    }
    shown = [figures.seeds(ranked, searched, objective, "validation")]
    if all(one.test_auc for one in ranked):
        shown.append(figures.seeds(ranked, {}, objective, "test"))
    told = "± is the standard deviation over seeds. "
    told += _optimism(ranked, searched, objective)
    if len(shown) == 1:
        told += " There is no test split."
    return (
        retrained_table(ranked, searched, objective)
        + note(told)
        + grid(*shown)
        + settings_table(ranked)
    )


def _optimism(retrained, searched, objective):
    """How much better the search had it: the winner's curse."""
    gaps = [
        searched[one.trial] - np.mean(getattr(one, f"valid_{objective.figure}"))
        for one in retrained
        if one.trial in searched
    ]
    if not gaps:
        return "No trial was trained anew."
    gap = np.mean(gaps)
    better = (gap > 0) == objective.higher_is_better
    told = f"In the search these settings were {abs(gap):.4f} "
    if better:
        return told + (
            "better on average than trained anew: they were chosen for it, so a part "
            "of it was luck."
        )
    return told + "worse on average than trained anew, or trained for fewer epochs."


def _over_time(trials, objective):
    shown, lacking = [], []
    if completed(trials):
        shown.append(figures.scores_in_order(trials, objective, score_name(objective)))
    else:
        lacking.append("There is no score, since no trial was completed.")
    if np.isfinite([t.peak_memory_mib for t in trials]).any():
        shown.append(figures.memory(trials))
    else:
        lacking.append("Memory was not measured.")
    return grid(*shown) + note(" ".join(lacking)) * bool(lacking)


def _cost(trials, objective):
    shown, lacking = [], []
    for key, name in figures.COSTS.items():
        known = [t for t in furthest(trials) if getattr(t, key) is not None]
        if len(known) >= TRIALS_NEEDED:
            shown.append(figures.cost(known, objective, key))
        elif known:
            lacking.append(
                f"{name.capitalize()} is known of {len(known)} settings only, and "
                f"{TRIALS_NEEDED} are needed."
            )
        else:
            lacking.append(f"{name.capitalize()}: not measured.")
    return grid(*shown) + note(" ".join(lacking)) * bool(lacking)


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
