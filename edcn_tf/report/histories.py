"""The section of a report that shows which past items predictions attended to."""

from html import escape

import numpy as np

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
from edcn_tf.report.plotting import BLUE, SIZE, VERMILLION, style, subplots, svg

ROWS = 3
CONSIDERED = 2_000  # rows that these are chosen from
MOST_ITEMS = 20  # the newest
WEIGHT = "weight"


@style()
def histories(run):
    """For a few rows the weight of each past item; "" for data without sequences."""
    schema, model = run.scorer.spec.schema, run.scorer.model
    if not schema.sequences:
        return ""
    title = "<h2>Histories</h2>"
    ids, scores = run.sample.thinned(CONSIDERED)
    weights = model.attention(ids) if hasattr(model, "attention") else {}
    if not weights:
        names = ", ".join(group[0].name for group in schema.sequences)
        return title + note(
            f"This {run.model} pools histories ({names}): all items of one count alike."
        )
    html = title
    for name, of_rows in weights.items():
        of_rows = np.asarray(of_rows, np.float64)
        [group] = [each for each in schema.sequences if each[0].name == name]
        columns, names = _columns(run.scorer.spec), _names(run, group)
        lengths = (ids[:, columns[name]] > 0).sum(axis=1)
        figures, tables = [], []
        for row in _chosen(lengths, scores.probabilities):
            items = _items(group, ids[row], columns, names, of_rows[row])
            about = _about(run.group, group[0], ids[row], columns, names)
            told = f"{about}; scored {scores.probabilities[row]:.3f}"
            told += ", clicked" if scores.labels[row] else ", not clicked"
            strongest = max(items, key=lambda item: abs(item[WEIGHT]))
            figures.append(
                image(
                    svg(_bars(items, name)),
                    f"Weights of the past items of {about}; the largest is "
                    f"{strongest[WEIGHT]:.3g}, of {strongest[name]}.",
                    told,
                )
            )
            tables.append(f"<p>{escape(told)}</p>" + _table(items))
        html += grid(*figures)
        html += note(
            f"How much each item of {name} counts, the newest on top, for rows of the "
            "split with a long history and a high, a middle and a low score."
        )
        html += folded(f"All weights of {escape(name)}", scrolled("".join(tables)))
    return html


def _chosen(lengths, probabilities):
    """Of the rows with the longest histories the best, the middle, the worst score."""
    long = np.flatnonzero(lengths >= np.quantile(lengths, 0.75))
    order = long[np.argsort(-probabilities[long], kind="stable")]
    places = np.linspace(0, len(order) - 1, min(ROWS, len(order))).round().astype(int)
    return [int(order[place]) for place in dict.fromkeys(places.tolist())]


def _columns(spec):
    """Name of a field -> its slots among the ids."""
    starts = np.cumsum([0, *(own.field.slots for own in spec.fields)])
    return {
        own.field.name: slice(start, start + own.field.slots)
        for own, start in zip(spec.fields, starts)
    }


def _names(run, group):
    """Name of a field -> what each of its rows, by the id, stands for.

    Of a sequence and those along it, of what they are `of`, and of the user.
    """
    own = {each.field.name: each for each in run.scorer.spec.fields}
    wanted = {run.group, *(f.name for f in group), *(f.of for f in group)}
    names = {}
    for name in wanted & own.keys():
        rows = own[name].owner.row_names()
        names[name] = {0: ""} | dict(enumerate(rows, own[name].offset))
    return names


def _items(group, ids, columns, names, weights):
    """The positions of a row's history, newest first: dicts of names and the weight."""
    used = np.flatnonzero(ids[columns[group[0].name]] > 0)[::-1][:MOST_ITEMS]
    items = []
    for position in used:
        item = {
            field.name: names[field.name][ids[columns[field.name]][position]]
            for field in group
        }
        items.append({**item, WEIGHT: float(weights[position])})
    return items


def _about(group, sequence, ids, columns, names):
    """Which user and which candidate a row is about."""
    told = [
        f"{name} {short(names[name][ids[columns[name]][0]])}"
        for name in (group, sequence.of)
        if name in names
    ]
    return ", ".join(told) or "a row"


def _bars(items, name):
    height = 0.9 + 0.24 * max(len(items), 4)
    figure, [axes] = subplots(1, height=max(height, 0.6 * SIZE[1]))
    weights = [item[WEIGHT] for item in items]
    colors = [BLUE if weight >= 0 else VERMILLION for weight in weights]
    places = range(len(items))
    axes.barh(places, weights, color=colors)
    axes.set_yticks(places, [short(item[name], 18) for item in items])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel(WEIGHT)
    axes.set_ylabel("newest on top")
    return figure


def _table(items):
    heads = [breakable(name) for name in items[0]]
    rows = [
        (
            *(breakable(value) for key, value in item.items() if key != WEIGHT),
            f"{item[WEIGHT]:.4f}",
        )
        for item in items
    ]
    return table("setting", heads, rows)
