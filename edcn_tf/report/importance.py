"""The section of a report that says what each field is worth to the model."""

import numpy as np
from matplotlib.figure import Figure

from edcn_tf.evaluation.importance import permutation_importance, spearman
from edcn_tf.evaluation.scoring import BATCH_ROWS
from edcn_tf.report.html import (
    breakable,
    folded,
    image,
    note,
    scrolled,
    short,
    single,
    table,
)
from edcn_tf.report.plotting import BLUE, GREY, MARKERS, SIZE, VERMILLION, style, svg

ROWS = 20_000
SHUFFLES = 5
FIELDS_DRAWN = 25


@style()
def importance(run, gates):
    """What shuffling each field costs, beside the weights of `report_gates.gates_of`.

    Of the gates those of the first layer alone: deeper ones weigh what the layers below
    have mixed.
    """
    if not run.has_both_classes:
        why = "since the rows hold one class only and have no AUC to lose"
        return note(f"There is no importance of fields, {why}.")
    sample = run.sample.thinned(ROWS)
    found = permutation_importance(
        _scores(run.scorer),
        sample.ids,
        sample.scores.labels,
        [spec.field.slots for spec in run.scorer.spec.fields],
        weights=sample.scores.weights,
        repeats=SHUFFLES,
    )
    means, spread = found.drops.mean(axis=1), found.drops.std(axis=1, ddof=1)
    order = np.argsort(-means, kind="stable")
    first = {tower: weights[0] for tower, weights in gates.items()}
    best = order[0]
    html = image(
        svg(_draw(run.fields, means, spread, first, order[:FIELDS_DRAWN])),
        f"AUC lost when a field is shuffled, by field; most by {run.fields[best]}, "
        f"{means[best]:.4f}.",
        f"Left: AUC lost when a field's values are shuffled among {len(sample.ids):,} "
        f"rows of the split (AUC {found.auc:.4f} as they are): mean of {SHUFFLES} "
        "shuffles, the line one standard deviation to each side. What two fields tell "
        "alike is lost with neither."
        + " Right: the weights of the first layer's gates."
        * bool(first),
    )
    html = single(html) + _agreement(means, first)
    if len(order) > FIELDS_DRAWN:
        html += note(f"Drawn are the {FIELDS_DRAWN} fields of the largest drops.")
    heads = ["", "AUC lost", "deviation", *(f"{tower} gate" for tower in first)]
    rows = [
        (
            breakable(run.fields[field]),
            f"{means[field]:.5f}",
            f"{spread[field]:.5f}",
            *(f"{weights[field]:.4f}" for weights in first.values()),
        )
        for field in order
    ]
    return html + folded("All fields", scrolled(table("setting", heads, rows)))


def _scores(scorer):
    """The model as a function of ids, a batch at a time."""

    def score(ids):
        starts = range(0, len(ids), BATCH_ROWS)
        parts = [scorer.predict(ids[start : start + BATCH_ROWS]) for start in starts]
        return np.concatenate([part.numpy()[:, 0] for part in parts])

    return score


def _agreement(means, gates):
    if not gates:
        return note("There is no ranking by gates, since no gate gives fields weights.")
    coefficient = spearman(means, np.mean(list(gates.values()), axis=0))
    if np.isnan(coefficient):
        return note("The two rankings cannot be compared: one holds all fields equal.")
    return note(
        f"Spearman's coefficient of the two rankings, the gates' by the mean of the "
        f"towers: {coefficient:.2f} over {len(means)} fields (1 the same order, 0 "
        "unrelated, -1 the reverse). A gate's weight is relative to the size of its "
        "field's embeddings, so the two need not agree."
    )


def _draw(fields, means, spread, gates, order):
    size = (SIZE[0], 0.9 + 0.28 * max(len(order), 3))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, 1 + bool(gates), squeeze=False, sharey=True)[0]
    places = np.arange(len(order))
    panels[0].barh(places, means[order], color=BLUE, height=0.65)
    line = {"fmt": "none", "ecolor": "black", "elinewidth": 1.2, "capsize": 2.5}
    panels[0].errorbar(means[order], places, xerr=spread[order], **line)
    panels[0].axvline(0, color=GREY, linewidth=1)
    panels[0].set_yticks(places, [short(fields[field]) for field in order])
    panels[0].set(xlabel="AUC lost")
    panels[0].invert_yaxis()
    for axes in panels:
        axes.grid(axis="y", visible=False)
        axes.locator_params(axis="x", nbins=4)
    for (tower, weights), color, marker in zip(
        gates.items(), (BLUE, VERMILLION), MARKERS
    ):
        panels[1].plot(weights[order], places, marker, color=color, label=tower)
        panels[1].set_xlabel("gate, first layer")
    if len(gates) > 1:
        panels[1].legend(fontsize="small")
    return figure
