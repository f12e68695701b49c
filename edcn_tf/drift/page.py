"""A page about a `Drift`: what is an alarm, and what has changed in what way."""

import math
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from edcn_tf.drift.telling import dominated, independent, told, unjudged
from edcn_tf.files import refuse_existing, replaced
from edcn_tf.report.html import (
    breakable,
    folded,
    grid,
    image,
    note,
    page,
    scrolled,
    short,
    single,
    table,
)
from edcn_tf.report.plotting import (
    BLUE,
    GREY,
    ORANGE,
    SIZE,
    VERMILLION,
    style,
    subplots,
    svg,
)

FIELDS_DRAWN = 30
CHANGED_FIELDS = 6  # whose values are drawn
HIGHEST_INDEX = 2.0  # as far as bars go


def write_drift(drift, path):
    """Writes a self-contained HTML page about a `Drift`.

    Args:
        drift: The `Drift`.
        path: A new file, which comes to be when it is whole.

    Raises:
        InputError: If the file exists.
    """
    path = Path(path)
    refuse_existing(path)
    sections = [
        _head(drift),
        "<h2>Fields</h2>",
        _fields(drift),
        "<h2>Values</h2>",
        _values(drift),
        "<h2>Scores</h2>",
        _scores(drift),
        "<h2>How to read it</h2>",
        *map(note, _explained(drift)),
    ]
    text = page(f"Drift of {Path(drift.run).name}", sections)
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _head(drift):
    alarms, logs = drift.alarms, ", ".join(Path(log).name for log in drift.logs)
    result = "No alarm: nothing is both beyond chance and large."
    if alarms:
        names = ", ".join(dict.fromkeys(alarm.name for alarm in alarms))
        number = f"{len(alarms)} alarm" + "s" * (len(alarms) > 1)
        result = f"{number}: {names}."
    html = (
        f"<h1>Drift of {escape(Path(drift.run).name)}</h1>\n"
        f"<p>{drift.rows:,} rows of {escape(logs)}</p>\n"
        f'<p class="result">{escape(result)}</p>'
    )
    if not alarms:
        return html
    rows = [
        (
            breakable(alarm.name),
            f'<div class="text">{escape(alarm.told)}</div>',
            f"{alarm.p:.1g}",
        )
        for alarm in alarms
    ]
    heads = ["", '<div class="text">what differs</div>', "p, corrected"]
    return html + scrolled(table("trials", heads, rows))


@style()
def _fields(drift):
    limit = drift.limits.psi
    order = sorted(
        (f for f in drift.fields if not math.isnan(f.known.psi)),
        key=lambda field: -field.known.excess,
    )
    html = ""
    if order:
        html = single(_indices(order[:FIELDS_DRAWN], limit))
    if len(order) > FIELDS_DRAWN:
        html += note(f"Drawn are the {FIELDS_DRAWN} fields of the largest index.")
    rows = [
        (
            breakable(field.name) + "<small>ignored</small>" * field.ignored,
            _share(field.missing),
            _share(field.unseen),
            _number(field.known.psi),
            _number(field.known.by_chance),
            _number(field.known.divergence),
            f"{field.known.p:.1g}",
            {"train": "training", "valid": "validation"}[field.split],
        )
        for field in drift.fields
    ]
    heads = ["", "missing", "unseen", "PSI", "by chance", "JS, bits", "p", "split"]
    return html + scrolled(table("trials", heads, rows))


def _indices(fields, limit):
    figure = Figure(
        figsize=(SIZE[0], 1.0 + 0.28 * max(len(fields), 3)), layout="constrained"
    )
    axes, places = figure.subplots(), np.arange(len(fields))
    values = [min(field.known.psi, HIGHEST_INDEX) for field in fields]
    chance = [min(field.known.by_chance, HIGHEST_INDEX) for field in fields]
    colors = [VERMILLION if f.known.excess >= limit else BLUE for f in fields]
    axes.barh(places, values, color=colors, height=0.65)
    axes.plot(chance, places, "|", color="black", markersize=11, label="by chance")
    limits = [min(field.known.by_chance + limit, HIGHEST_INDEX) for field in fields]
    axes.plot(limits, places, "|", color=GREY, markersize=11, label="limit")
    axes.set_yticks(places, [short(field.name) for field in fields])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("population stability index")
    _legend(figure, axes)
    first = fields[0]
    return image(
        svg(figure),
        f"Population stability index by field; the largest is {first.known.psi:.3f}, "
        f"of {first.name}.",
        "Known values of each field against training: the bar is the index, the black "
        f"mark what chance alone gives on average, the grey one the limit, {limit:g} "
        "above that. From there on the bar is orange; an alarm, if chance does not "
        f"explain it. Nothing is drawn beyond {HIGHEST_INDEX:g}.",
    )


@style()
def _values(drift):
    alarmed = {alarm.name for alarm in drift.alarms}
    order = sorted(
        (field for field in drift.fields if field.changes),
        key=lambda field: (field.name not in alarmed, -field.known.excess),
    )
    drawn = [field for field in order if field.known.excess > 0][:CHANGED_FIELDS]
    if not drawn:
        return note("No field's values differ by more than chance gives on average.")
    figures = [_changes(field) for field in drawn]
    rows = [
        (breakable(field.name), breakable(str(label)), f"{own:.2%}", f"{before:.2%}")
        for field in order
        for label, own, before in field.changes
    ]
    heads = ["", "value", "share", "before"]
    html = grid(*figures) + note(
        "Shares of the known values, of those that differ most; the first contributes "
        "most to the index. Fields with an alarm come first."
    )
    every = folded("All fields", scrolled(table("setting", heads, rows)))
    return html + every


def _changes(field):
    labels, own, before = zip(*field.changes)
    figure, (axes,) = subplots(1, height=1.1 + 0.3 * max(len(labels), 3))
    places = np.arange(len(labels))
    split = {"train": "training", "valid": "validation"}[field.split]
    shares = ((before, -0.2, GREY, split), (own, 0.2, ORANGE, "the log"))
    for values, shift, color, name in shares:
        percent = 100 * np.array(values)
        axes.barh(places + shift, percent, 0.38, color=color, label=name)
    axes.set_yticks(places, [short(str(label)) for label in labels])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("% of the known values")
    figure.suptitle(short(field.name, 40), fontsize="medium", fontweight="bold")
    _legend(figure, axes)
    return image(
        svg(figure),
        f"Shares of values of {field.name}: {labels[0]} has {own[0]:.1%}, before "
        f"{before[0]:.1%}.",
        f"{field.name}: index {field.known.psi:.3f}, {field.known.by_chance:.3f} by "
        "chance.",
    )


@style()
def _scores(drift):
    edges, own, before = map(np.asarray, drift.histogram)
    figure, (axes,) = subplots(1)
    axes.stairs(100 * before, edges, fill=True, color=GREY, alpha=0.5, label="before")
    axes.stairs(100 * own, edges, color=VERMILLION, linewidth=1.8, label="the log")
    axes.set(xlabel="predicted probability", ylabel="% of the rows")
    axes.legend()
    drawn = image(
        svg(figure),
        f"Histograms of scores; the mean is {drift.mean[0]:.4g}, before "
        f"{drift.mean[1]:.4g}.",
        f"Scores of the log, and before of {drift.validation_rows:,} validation rows.",
    )
    rows = [
        ("Rows", f"{drift.rows:,}", f"{drift.validation_rows:,}", ""),
        ("Mean score", *(f"{mean:.4g}" for mean in drift.mean), ""),
        (
            "PSI<small>of ten ranges</small>",
            f"{_number(drift.scores.psi)}",
            f"{_number(drift.scores.by_chance)} by chance",
            f"{drift.scores.p:.1g}",
        ),
        ("JS, bits", _number(drift.scores.divergence), "", ""),
    ]
    for name, figure, scale in (
        ("Predicted / true clicks", drift.calibration, math.exp),
        ("AUC", drift.auc, float),
    ):
        if figure:
            value, _, before = told(figure, scale).partition(", before ")
            rows.append((name, value, before, f"{figure.p:.1g}"))
    html = single(drawn) + scrolled(table("trials", ["", "log", "before", "p"], rows))
    for line in unjudged(drift):
        html += note(f"{line}.")
    if not drift.labels:
        html += note("The log has no labels, so there is no AUC and no calibration.")
    return html


def _legend(figure, axes):
    """Below the axes, where it covers nothing."""
    lines = axes.get_legend_handles_labels()
    figure.legend(*lines, fontsize="small", ncols=2, loc="outside lower right")


def _explained(drift):
    limits = drift.limits
    yield (
        "An alarm is a difference that is beyond chance (p, corrected for the number "
        f"of figures by Holm's procedure, below {limits.level:g}) and large: an index "
        f"{limits.psi:g} above what chance gives, a share of missing or unseen values "
        f"{limits.share:.0%} away, calibration {1 + limits.calibration:g} times as "
        f"high or as low, AUC {limits.auc:g} lower. PSI is the population stability "
        "index, JS the Jensen-Shannon divergence; both are of the known values."
    )
    if drift.independent:
        yield f"{independent()}."
    if drift.dominated:
        yield f"{dominated(drift)}."
    if drift.left_out:
        told = "; ".join(f"{name} ({why})" for name, why in drift.left_out.items())
        yield f"Not compared: {told}."
    yield f"Scores before are those of the validation split of {drift.data}."


def _share(share):
    if share is None or math.isnan(share.value):
        return "n/a"
    error = f" ± {share.error:.1%}" if share.error else ""
    return f"{share.value:.1%}{error}<small>before {share.reference:.1%}</small>"


def _number(value):
    return "n/a" if math.isnan(value) else f"{value:.3f}"
