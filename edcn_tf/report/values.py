"""The section of a report that shows for which values of fields the model is worst."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from edcn_tf.evaluation.value_figures import figures_by_value
from edcn_tf.report.html import (
    breakable,
    folded,
    grid,
    image,
    note,
    scrolled,
    short,
    table,
)
from edcn_tf.report.plotting import BLUE, GREY, SIZE, VERMILLION, style, svg

MIN_ROWS = 50
MAX_VALUES = 12
MAX_FIELDS = 12


@style()
def values(run):
    """AUC and calibration for the frequent values of categorical fields."""
    if not run.scores.labels.any():
        return note("There is nothing here, since no row is a click.")
    specs = run.scorer.spec.fields
    starts = np.cumsum([0, *(spec.field.slots for spec in specs)])
    left_out = {
        f"no value has {MIN_ROWS} rows": [],
        "their values are hashed and have no names": [],
        f"the page has room for {MAX_FIELDS} fields": [],
    }
    few, hashed, beyond = left_out.values()
    found = []  # name of the field, names of its values, figures
    for spec, start in zip(specs, starts):
        name = spec.field.name
        if spec.field.kind not in ("categorical", "cross"):
            continue
        if spec.field.hash_buckets:
            hashed.append(name)
            continue
        if len(found) == MAX_FIELDS:
            beyond.append(name)
            continue
        ids = run.sample.ids[:, start : start + spec.field.slots]
        figures = figures_by_value(
            ids, *run.sample.scores[:3], min_rows=MIN_ROWS, max_values=MAX_VALUES
        )
        if not figures.values:
            few.append(name)
            continue
        row_names = spec.row_names()
        names = [row_names[each.id - spec.offset] for each in figures.values]
        found.append((name, names, figures))
    html = ""
    if found:
        html = _explained([figures for *_, figures in found], len(run.sample.ids))
        html += grid(*(_figure(*field) for field in found))
        tables = "".join(_table(*field) for field in found)
        html += folded("All of these figures", scrolled(tables))
    for why, names in left_out.items():
        if names:
            html += note(f"Not here: {', '.join(names)}, since {why}.")
    return html or note("There is nothing here, since no field is categorical.")


def _explained(fields, rows):
    """How to read the charts: what stands out, and how much would by chance."""
    values = [(field.auc, each) for field in fields for each in field.values]
    ranked = [(mean, each) for mean, each in values if not np.isnan(each.auc.high)]
    low = sum(each.auc.high < mean for mean, each in ranked)
    off = sum(each.calibration.excludes(1) for _, each in values)
    text = (
        f"Of {rows:,} rows, the values of each categorical field that have {MIN_ROWS} "
        f"or more, at most its {MAX_VALUES} most frequent. Lines are 95 % intervals; "
        "those that exclude the dashed line are orange, with a diamond. "
    )
    if ranked:
        text += (
            "AUC, the lowest first: dashed is the mean within a value, below the AUC "
            "of all rows, since within a value the field itself tells nothing. Of "
            f"{len(ranked)} intervals, {low} lie below the mean; chance alone gives "
            f"about {0.025 * len(ranked):.1f}. "
        )
    return note(
        f"{text}Calibration, predicted over true clicks: dashed is 1. Of "
        f"{len(values)} intervals, {off} exclude it; chance alone gives about "
        f"{0.05 * len(values):.1f}."
    )


def _figure(field, names, figures):
    panels = [
        ("AUC", [each.auc for each in figures.values], figures.auc),
        ("predicted / true clicks", [each.calibration for each in figures.values], 1),
    ]
    if np.isnan(figures.auc):
        del panels[0]
    size = (SIZE[0], 1.0 + 0.28 * max(len(names), 3))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(field, fontsize="medium", fontweight="bold")
    all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (name, intervals, line) in zip(all_axes, panels):
        _draw(axes, intervals, line)
        axes.set_xlabel(name)
    all_axes[0].set_yticks(range(len(names)), [short(name, 16) for name in names])
    all_axes[0].set_ylim(len(names) - 0.5, -0.5)
    worst, alt = figures.values[0].auc.value, f"Figures by value of {field}"
    if not np.isnan(worst):
        alt += f"; the lowest AUC is {worst:.3f}, of {names[0]}"
    count = f"{len(names)} value{'s' * (len(names) > 1)}"
    if figures.too_few:
        count += f"; of fewer than {MIN_ROWS} rows: {figures.too_few:,}"
    return image(svg(figure), f"{alt}.", f"{field}: {count}.")


def _draw(axes, intervals, line):
    """Points with their intervals; what chance does not explain in another colour."""
    axes.axvline(line, color=GREY, linestyle="--", linewidth=1)
    for place, each in enumerate(intervals):
        color, marker = (BLUE, "o")
        if each.excludes(line):
            color, marker = (VERMILLION, "D")
        axes.plot([each.low, each.high], [place, place], color=color, linewidth=1.5)
        axes.plot(each.value, place, marker, color=color, markersize=5)
    # An interval of few clicks may be long, but shall not squeeze the others.
    furthest = np.nanmax([line, *(each.value for each in intervals)])
    axes.set_xlim(right=min(axes.get_xlim()[1], 1.5 * furthest))
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(3))


def _table(field, names, figures):
    rows = [
        (breakable(name), f"{each.rows:,}", _text(each.auc), _text(each.calibration))
        for name, each in zip(names, figures.values)
    ]
    return table("setting", [breakable(field), "rows", "AUC", "calibration"], rows)


def _text(interval):
    if np.isnan(interval.value):
        return "n/a"
    if np.isnan(interval.low):
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
