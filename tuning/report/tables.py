"""The tables of a search's page, as HTML."""

import math
from collections import Counter
from html import escape

from edcn_tf.report.html import breakable, folded, note, scrolled, table

from ..results import FAILED
from .analysis import completed, figure_name
from .answer import spread
from .parameter_axis import label

UNKNOWN = "n/a"
REASONS_TOLD = 3


def retrained_table(retrained, searched, objective):
    """The figures of each setting, in the search and anew.

    Args:
        retrained: `Retrained`s.
        searched: Number of a trial -> its figure in the search.
        objective: `Objective`.
    """
    figure = figure_name(objective)
    heads = ["", f"validation {figure}<small>in the search</small>"]
    keys = [f"valid_{objective.figure}"]
    heads.append(f"validation {figure}<small>trained anew</small>")
    if all(one.test_auc for one in retrained):
        heads.append(f"test {figure}<small>trained anew</small>")
        keys.append(f"test_{objective.figure}")
    heads += ["latency<small>ms</small>", "parameters"]
    best = objective.best(retrained)[0]
    rows = []
    for one in retrained:
        name = escape(one.name)
        rows.append(
            (
                f"<b>{name}</b><small>the best</small>" if one is best else name,
                _number(searched.get(one.trial), ".4f"),
                *(spread(getattr(one, key)) for key in keys),
                _number(one.latency_ms, ".3g"),
                _number(one.parameters, ",d"),
            )
        )
    return scrolled(table("retrained", heads, rows))


def settings_table(retrained):
    """What each setting has that the default has not."""
    trials = [one for one in retrained if one.trial is not None]
    keys = list(dict.fromkeys(key for one in trials for key in one.config))
    if not keys:
        return note("No setting differs from the default.")
    rows = [
        (
            breakable(key),
            *(
                breakable(label(one.config[key])) if key in one.config else "="
                for one in trials
            ),
        )
        for key in keys
    ]
    heads = ["", *(escape(one.name) for one in trials)]
    told = note("What differs from the default's setting (= where it does not):")
    return told + scrolled(table("setting", heads, rows))


def trials_tables(trials, objective):
    """All trials, folded away; failures first, with their reasons."""
    done = objective.best(completed(trials))
    failed = [trial for trial in trials if trial.status == FAILED]
    html = ""
    if failed:
        reasons = Counter(trial.reason for trial in failed).most_common()
        told = [f"{reason} ({count})" for reason, count in reasons[:REASONS_TOLD]]
        more = len(reasons) - REASONS_TOLD
        if more > 0:
            told.append(f"{more} more reasons")
        html += note(f"{len(failed)} failed: {'; '.join(told)}.")
    if not trials:
        return note("There are none.")
    summary = "The trials, the best first"
    summary += " after those that failed" * bool(failed and done)
    tables = ""
    if failed:
        rows = [
            (f"trial {t.number}", _text(t.reason), _settings(t.settings))
            for t in failed
        ]
        tables += scrolled(
            table("trials", ["failed", _text("reason"), _text("setting")], rows)
        )
    if done:
        tables += scrolled(_completed_table(done))
    return html + folded(summary, tables)


def _completed_table(trials):
    heads = ["completed", "score", "AUC", "log loss", "epochs<small>best</small>"]
    heads += ["latency<small>ms</small>", "parameters", "seconds"]
    heads += ["memory<small>MiB</small>", _text("setting")]
    rows = []
    for t in trials:
        name = f"trial {t.number}"
        if t.continues is not None:
            name += f"<small>went on with trial {t.continues}</small>"
        rows.append(
            (
                name,
                *(_number(value, ".4f") for value in (t.score, t.auc, t.log_loss)),
                f"{t.epochs}<small>{_number(t.best_epoch, 'd')}</small>",
                _number(t.latency_ms, ".3g"),
                _number(t.parameters, ",d"),
                _number(t.training_seconds, ",.0f"),
                _number(t.peak_memory_mib, ",.0f"),
                _settings(t.settings),
            )
        )
    return table("trials", heads, rows)


def _settings(settings):
    told = ", ".join(f"{name}={label(value)}" for name, value in settings.items())
    return _text(told, "wide text")


def _text(text, kind="text"):
    return f'<div class="{kind}">{escape(text)}</div>'


def _number(value, form):
    is_known = value is not None and not math.isnan(value)
    return format(value, form) if is_known else UNKNOWN
