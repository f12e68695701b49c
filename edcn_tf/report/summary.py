"""The head of a report: its result in a sentence, and the table of figures."""

import math
from html import escape

import numpy as np

from edcn_tf.evaluation.comparison import RESAMPLES, paired_bootstrap
from edcn_tf.report.html import (
    breakable,
    capital,
    note,
    percent,
    scrolled,
    short,
    spaced,
    table,
)

HIGHER, LOWER, ONE = "Higher is better.", "Lower is better.", "1 is best."

# Key, name, what it says, which direction is better, format.
FIGURES = (
    ("auc", "AUC", "Share of pairs ranked rightly; 0.5 is chance.", HIGHER, ".4f"),
    ("log_loss", "Log loss", "Cost of wrong probabilities, in nats.", LOWER, ".4f"),
    ("gauc", "GAUC", "AUC within each group, averaged by rows.", HIGHER, ".4f"),
    (
        "gauc_rows_left_out_share",
        "Left out of GAUC",
        "Rows of no group, and of groups with clicks only, or none: they have no AUC.",
        "",
        ".1%",
    ),
    ("calibration", "Calibration", "Predicted over true clicks.", ONE, ".3f"),
    (
        "ece",
        "ECE",
        "Expected calibration error: mean gap of probability and click rate.",
        LOWER,
        ".4f",
    ),
    (
        "normalized_entropy",
        "Normalized entropy",
        "Log loss over that of the click rate alone.",
        LOWER,
        ".4f",
    ),
    ("rows", "Rows", "Rows that were scored.", "", ",d"),
    (
        "examples_per_second",
        "Training examples/s",
        "On the machine of that run.",
        HIGHER,
        ",d",
    ),
)
ROWS_DRAWN = 200_000_000  # fewer draws of a long split, which needs fewer
FEWEST_DRAWS = 200


def head(runs, split):
    """Name, model, and how well it ranks."""
    run, *others = runs
    auc, kind = run.figures["auc"], {"valid": "validation"}.get(split, split)
    rows = f"{run.figures['rows']:,} {kind} rows"
    result = f"The {rows} hold one class only, so there is no AUC"
    if not math.isnan(auc):
        result = (
            f"{capital(run.model)} ranks a click above a non-click in "
            f"{percent(auc)} of pairs (AUC {auc:.4f}) on {rows}"
        )
        for other in others:
            if not math.isnan(other.figures["auc"]):
                result += f"; {other.label} in {percent(other.figures['auc'])}"
    return (
        f"<h1>{escape(run.name)}</h1>\n<p>{run.model}</p>\n"
        f'<p class="result">{escape(result)}.</p>'
    )


def differences(runs):
    """Of each run to the first, a `Difference` of AUC; None on other rows."""
    (labels, first, weights, *_), *others = (run.scores for run in runs)
    draws = int(np.clip(ROWS_DRAWN // len(labels), FEWEST_DRAWS, RESAMPLES))
    return [
        paired_bootstrap(labels, first, other.probabilities, weights, draws)
        if np.array_equal(labels, other.labels)
        else None
        for other in others
    ]


def figures_table(runs, differences):
    """The figures of all runs, the best of each in bold, and what is to know."""
    comparable = all(differences)  # figures of other rows are not better or worse
    rows = []
    for key, name, meaning, better, form in FIGURES:
        values = [run.figures.get(key, math.nan) for run in runs]
        cells = ["n/a" if math.isnan(v) else spaced(format(v, form)) for v in values]
        if better and comparable and len(set(cells)) > 1 and "n/a" not in cells:
            sign = {HIGHER: -1, LOWER: 1}.get(better)
            badness = [sign * v if sign else abs(v - 1) for v in values]
            # All that show the same figure are the best.
            best = cells[badness.index(min(badness))]
            cells = [f"<b>{cell}</b>" if cell == best else cell for cell in cells]
        rows.append((f"{name}<small>{meaning} {better}</small>", *cells))
        if key == "auc" and differences:
            rows.append(_difference_row(differences))
    html = table("runs", ["", *map(run_head, runs)], rows)
    text = _notes(runs[0]) + _verdicts(runs, differences)
    return scrolled(html) + note(text)


def _difference_row(differences):
    cells = [""]
    for each in differences:
        if each is None or math.isnan(each.difference):
            cells.append("n/a")
        else:
            interval = f"{each.low:+.4f} to {each.high:+.4f}"
            cells.append(f"{each.difference:+.4f}<small>{interval}</small>")
    meaning = "AUC minus that of the first run, with its 95\N{NO-BREAK SPACE}% interval"
    return (f"Difference<small>{meaning} (paired bootstrap of rows).</small>", *cells)


def _verdicts(runs, differences):
    """What the intervals say, a sentence for each of the kinds of them."""
    above, below, within, elsewhere = [], [], [], []
    for run, each in zip(runs[1:], differences):
        if each is None:
            elsewhere.append(f"{run.label}, on {run.data},")
        elif not math.isnan(each.difference):
            kind = above if each.low > 0 else below if each.high < 0 else within
            kind.append(run.label)
    sentences = [
        (above, "AUC above the first run's, beyond the chance of the rows: {}."),
        (below, "AUC below the first run's, beyond the chance of the rows: {}."),
        (within, "AUC that differs from the first run's by no more than chance: {}."),
        (
            elsewhere,
            "Scored on other rows than the first run: {} so there is no interval of "
            "the difference, and no best figure is marked.",
        ),
    ]
    said = [text.format(", ".join(names)) for names, text in sentences if names]
    if above or below or within:
        said.append("These intervals know nothing of the chance of seeds.")
    return "".join(f" {sentence}" for sentence in said)


def _notes(run):
    notes = [f"Clicks are {percent(np.mean(run.scores.labels))} of the rows."]
    if run.group is None:
        notes.append("There is no GAUC, since the schema names no group column.")
    elif math.isnan(run.figures["gauc"]):
        notes.append("There is no GAUC, since no group holds both classes.")
    else:
        notes.append(f"Groups of GAUC are the values of {run.group}.")
    if run.weight:
        notes.append(
            f"Figures and the reliability diagram weigh rows by {run.weight}; the "
            "ROC curve and the histogram count each once."
        )
    if np.ptp(run.scores.probabilities) == 0:
        notes.append(
            f"The model gives every row the same probability, "
            f"{run.scores.probabilities[0]:.4g}, so it ranks nothing."
        )
    if run.statistics:
        notes.append(f"Statistics are {run.statistics}.")
    rate = run.calibration.negative_sampling_rate
    if rate < 1:
        notes.append(f"Probabilities are corrected for a share of {rate:g} negatives.")
        if run.calibration.splits_sampled:
            notes.append(f"A row without a click counts {1 / rate:g} times in them.")
    return " ".join(notes)


def run_head(run):
    """The head of a run's column, HTML."""
    return f"{breakable(short(run.name))}<small>{run.model}</small>"
