"""The sections of a report that lay the curves of runs over one another.

Each takes what `report_run` read of the runs and gives HTML.
"""

import numpy as np
from matplotlib.ticker import MaxNLocator

from edcn_tf.evaluation import metrics
from edcn_tf.report.html import grid, image, note, short, single
from edcn_tf.report.plotting import (
    BLUE,
    GREY,
    LINES,
    MARKERS,
    ORANGE,
    style,
    subplots,
    svg,
)


@style()
def difference_chart(runs, differences):
    """AUC of each further run minus that of the first, with its interval."""
    drawn = [
        (run, style, each)
        for (run, style), each in zip([*_styled(runs)][1:], differences)
        if each is not None and not np.isnan(each.difference)
    ]
    if not drawn:
        return ""
    figure, (axes,) = subplots(1, 0.9 + 0.3 * max(len(drawn), 3))
    axes.axvline(0, color=GREY, linestyle="--", linewidth=1)
    for place, (_, (color, _, marker), each) in enumerate(drawn):
        axes.plot([each.low, each.high], [place, place], color=color)
        axes.plot(each.difference, place, marker, color=color)
    axes.set_yticks(range(len(drawn)), [short(run.name) for run, *_ in drawn])
    axes.set_ylim(len(drawn) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"AUC minus that of {short(runs[0].name)}")
    chart = image(
        svg(figure),
        "Difference of AUC to the first run, with 95 % intervals.",
        "Difference of AUC to the first run, with 95 % intervals: right of the dashed "
        "line is better; an interval that holds it may be the chance of the rows.",
    )
    return single(chart)


@style()
def learning(runs):
    drawn = [run for run in runs if run.epochs is not None]
    lacking = [run for run in runs if run.epochs is None]
    why = "since its history.csv is missing or damaged"
    if not drawn:
        return note(f"There are no learning curves: of no run, {why}.")
    losses, (loss,) = subplots(1)
    _draw_epochs(runs, loss, "loss", "training loss")
    loss.set_xlabel("epoch")
    validation, (auc, log_loss) = subplots(2, sharex=True)
    _draw_epochs(runs, auc, "val_auc", "AUC")
    _draw_epochs(runs, log_loss, "val_log_loss", "log loss")
    log_loss.set_xlabel("epoch")
    _legend(loss, runs)
    _legend(auc, runs)
    run, more = drawn[0], "; ".join(map(_told, drawn[1:]))
    first, last = run.epochs["loss"][[0, -1]]
    drops = (
        f"; dotted lines: where the learning rate of {run.label} drops"
        if len(_drops(run))
        else ""
    )
    epochs = _told(run) + f"; {more}" * bool(more)
    html = grid(
        image(
            svg(losses),
            f"Training loss by epoch, from {first:.4f} to {last:.4f}.",
            "Training loss, the L2 penalty included: while it falls, the model still "
            f"learns{drops}.",
        ),
        image(
            svg(validation),
            f"AUC and log loss on the validation split by epoch; the best AUC: "
            f"{epochs}.",
            f"Validation split: stars mark the epochs whose weights were kept because "
            f"their AUC is the highest: {epochs}{drops}.",
        ),
    )
    return html + "".join(
        note(f"There is no learning curve of {run.label}, {why}.") for run in lacking
    )


def _told(run):
    epoch = run.epochs["epoch"][_best(run)] + 1
    return f"{run.label} {run.epochs['val_auc'][_best(run)]:.4f} in epoch {epoch:.0f}"


def _best(run):
    return np.argmax(run.epochs["val_auc"])


def _draw_epochs(runs, axes, key, name):
    drawn = [(run, style) for run, style in _styled(runs) if run.epochs is not None]
    for run, (color, dashes, marker) in drawn:
        epochs, values = run.epochs["epoch"] + 1, run.epochs[key]
        axes.plot(
            epochs,
            values,
            dashes,
            color=color,
            marker=marker,
            markersize=4,
            label=short(run.name),
        )
        axes.plot(epochs[_best(run)], values[_best(run)], "*", color=color, ms=13)
    for epoch in _drops(drawn[0][0]):
        axes.axvline(epoch + 0.5, color=GREY, linestyle=":")
    axes.set_ylabel(name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _styled(runs):
    """Each run with its colour, dashes and marker; from the seventh on they repeat."""
    for number, run in enumerate(runs):
        yield run, (*LINES[number % len(LINES)], MARKERS[number % len(MARKERS)])


def _drops(run):
    """The epochs, counted from 0, that begin with a lower learning rate."""
    return run.epochs["epoch"][1:][np.diff(run.epochs["learning_rate"]) < 0]


@style()
def curves(runs):
    figures = [_reliability(runs), *map(_histogram, runs)]
    ranked = [pair for pair in _styled(runs) if pair[0].has_both_classes]
    if ranked:
        return grid(_roc(ranked), *figures)
    why = "There is no ROC curve, since the rows hold one class only."
    return grid(*figures) + note(why)


def _roc(styled):
    figure, (axes,) = subplots(1)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for run, (color, dashes, _) in styled:
        false, true = metrics.roc_curve(run.scores.labels, run.scores.probabilities)
        axes.plot(false, true, dashes, color=color, label=short(run.name))
    axes.set(xlabel="non-clicks let through", ylabel="clicks found")
    _legend(axes, styled)
    areas = ", ".join(f"{run.figures['auc']:.4f}" for run, _ in styled)
    return image(
        svg(figure),
        f"ROC curve; the area under it is {areas}.",
        "ROC curve: the share of clicks found against the share of non-clicks let "
        "through, as the threshold falls; the further above the diagonal, the better.",
    )


def _reliability(runs):
    figure, (axes,) = subplots(1)
    for run, (color, dashes, marker) in _styled(runs):
        scores = run.scores
        x, y, rows = metrics.reliability(
            scores.labels, scores.probabilities, weights=scores.weights
        )
        axes.plot(x, y, dashes, color=color, linewidth=1)
        sizes = 15 + 45 * rows / rows.max()
        axes.scatter(x, y, sizes, color=color, marker=marker, label=short(run.name))
    top = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle=":")
    axes.set(xlabel="predicted probability", ylabel="click rate")
    _legend(axes, runs)
    return image(
        svg(figure),
        "Reliability diagram; predicted over true clicks is "
        f"{runs[0].figures['calibration']:.3f}.",
        "Reliability: each marker is a bin of about equally many rows (the larger, the "
        "more); above the diagonal the model predicts too few clicks, below too many.",
    )


def _histogram(run):
    labels, probabilities = run.scores.labels, run.scores.probabilities
    figure, (axes,) = subplots(1)
    low, high = np.quantile(probabilities, [0.005, 0.995])  # outliers would squeeze it
    bins = np.linspace(low, max(high, low + 1e-6), 41)
    for label, name, color, look in [
        (0, "no click", ORANGE, {"alpha": 0.55}),
        (1, "click", BLUE, {"histtype": "step", "linewidth": 1.8}),
    ]:
        values = probabilities[labels == label].clip(low, high)
        weights = np.full(len(values), 100 / max(len(values), 1))
        axes.hist(values, bins, weights=weights, color=color, label=name, **look)
    axes.set(xlabel="predicted probability", ylabel="% of the class")
    axes.legend()
    means = [
        f"{np.mean(probabilities[labels == label]):.3f} for {name}"
        for label, name in [(0, "non-clicks"), (1, "clicks")]
        if (labels == label).any()
    ]
    return image(
        svg(figure),
        f"Histogram of probabilities by label; the mean is {' and '.join(means)}.",
        f"Scores of {run.label}: the less the two shapes overlap, the better it ranks "
        "(the outer bars also hold the 0.5 % beyond them).",
    )


def _legend(axes, runs):
    """Above the axes, where it covers nothing."""
    if len(runs) > 1:
        lines = axes.get_legend_handles_labels()
        place = {"loc": "outside upper left", "ncols": 2 if len(runs) > 2 else 1}
        axes.figure.legend(*lines, fontsize="small", **place)
