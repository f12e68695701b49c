"""The sections of a report that are drawn: learning, curves and gates.

Each takes what `report` read of a run, or of a run and its baseline, and gives HTML.
"""

import numpy as np
from matplotlib.colors import CenteredNorm, LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from edcn_tf import metrics
from edcn_tf.plotting import BLUE, GREY, LINES, ORANGE, VERMILLION
from edcn_tf.plotting import style as _style
from edcn_tf.plotting import subplots as _axes
from edcn_tf.plotting import svg as _svg
from edcn_tf.report_page import breakable, grid, image, note, short, table

GATE_COLORS = LinearSegmentedColormap.from_list("gate", [VERMILLION, "white", BLUE])
FIELDS_A_ROW = 16  # of the heat map
FIELDS_WITH_VALUES = 8


@_style()
def learning(runs):
    run = runs[0]
    if run.history is None:
        why = "since history.csv is missing or damaged"
        return note(f"There are no learning curves, {why}.")
    losses, (loss,) = _axes(1)
    _draw_history(runs, loss, "loss", "training loss")
    loss.set_xlabel("epoch")
    validation, (auc, log_loss) = _axes(2, sharex=True)
    _draw_history(runs, auc, "val_auc", "AUC")
    _draw_history(runs, log_loss, "val_log_loss", "log loss")
    log_loss.set_xlabel("epoch")
    _legend(loss, runs)
    first, last = run.history["loss"][[0, -1]]
    best = np.argmax(run.history["val_auc"])
    epoch = f"{run.history['epoch'][best] + 1:.0f}"
    drops = "; dotted lines: where the learning rate drops" * (len(_drops(run)) > 0)
    return grid(
        image(
            _svg(losses),
            f"Training loss by epoch, from {first:.4f} to {last:.4f}.",
            "Training loss, the L2 penalty included: while it falls, the model still "
            f"learns{drops}.",
        ),
        image(
            _svg(validation),
            f"AUC and log loss on the validation split by epoch; the best AUC is "
            f"{run.history['val_auc'][best]:.4f} in epoch {epoch}.",
            f"Validation split: the star marks epoch {epoch}, whose weights were kept "
            f"because its AUC is the highest{drops}.",
        ),
    )


def _draw_history(runs, axes, key, name):
    for run, (color, dashes) in zip(runs, LINES):
        if run.history is None:
            continue
        epochs, values = run.history["epoch"] + 1, run.history[key]
        best = np.argmax(run.history["val_auc"])
        axes.plot(epochs, values, dashes, color=color, marker=".", label=run.label)
        axes.plot(epochs[best], values[best], "*", color=color, markersize=13)
    for epoch in _drops(runs[0]):
        axes.axvline(epoch + 0.5, color=GREY, linestyle=":")
    axes.set_ylabel(name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _drops(run):
    """The epochs, counted from 0, that begin with a lower learning rate."""
    return run.history["epoch"][1:][np.diff(run.history["learning_rate"]) < 0]


@_style()
def curves(runs):
    labels = runs[0].scores.labels
    figures = [_reliability(runs), *map(_histogram, runs)]
    if labels.min() < labels.max():
        return grid(_roc(runs), *figures)
    why = "There is no ROC curve, since the rows hold one class only."
    return grid(*figures) + note(why)


def _roc(runs):
    figure, (axes,) = _axes(1)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for run, (color, dashes) in zip(runs, LINES):
        false, true = metrics.roc_curve(run.scores.labels, run.scores.probabilities)
        axes.plot(false, true, dashes, color=color, label=run.label)
    axes.set(xlabel="non-clicks let through", ylabel="clicks found")
    _legend(axes, runs)
    return image(
        _svg(figure),
        f"ROC curve; the area under it is {runs[0].figures['auc']:.4f}.",
        "ROC curve: the share of clicks found against the share of non-clicks let "
        "through, as the threshold falls; the further above the diagonal, the better.",
    )


def _reliability(runs):
    figure, (axes,) = _axes(1)
    for run, (color, dashes), marker in zip(runs, LINES, "os"):
        scores = run.scores
        x, y, rows = metrics.reliability(
            scores.labels, scores.probabilities, weights=scores.weights
        )
        axes.plot(x, y, dashes, color=color, linewidth=1)
        sizes = 15 + 45 * rows / rows.max()
        axes.scatter(x, y, sizes, color=color, marker=marker, label=run.label)
    top = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle=":")
    axes.set(xlabel="predicted probability", ylabel="click rate")
    _legend(axes, runs)
    return image(
        _svg(figure),
        "Reliability diagram; predicted over true clicks is "
        f"{runs[0].figures['calibration']:.3f}.",
        "Reliability: each marker is a bin of about equally many rows (the larger, the "
        "more); above the diagonal the model predicts too few clicks, below too many.",
    )


def _histogram(run):
    labels, probabilities = run.scores.labels, run.scores.probabilities
    figure, (axes,) = _axes(1)
    low, high = np.quantile(probabilities, [0.005, 0.995])  # outliers would squeeze it
    bins = np.linspace(low, max(high, low + 1e-6), 41)
    for label, name, color, style in [
        (0, "no click", ORANGE, {"alpha": 0.55}),
        (1, "click", BLUE, {"histtype": "step", "linewidth": 1.8}),
    ]:
        values = probabilities[labels == label].clip(low, high)
        weights = np.full(len(values), 100 / max(len(values), 1))
        axes.hist(values, bins, weights=weights, color=color, label=name, **style)
    axes.set(xlabel="predicted probability", ylabel="% of the class")
    axes.legend()
    means = [
        f"{np.mean(probabilities[labels == label]):.3f} for {name}"
        for label, name in [(0, "non-clicks"), (1, "clicks")]
        if (labels == label).any()
    ]
    return image(
        _svg(figure),
        f"Histogram of probabilities by label; the mean is {' and '.join(means)}.",
        f"Scores of {run.label}: the less the two shapes overlap, the better it ranks "
        "(the outer bars also hold the 0.5 % beyond them).",
    )


@_style()
def gates(run):
    if not run.gates:
        why = "has no gates"
        if run.config.get("gate", "none") != "none":
            why = "has gates that treat each row in its own way"
        return note(f"There is no heat map, since this {run.model} {why}.")
    neutral = 1 if run.config["gate_scale"] else 1 / len(run.fields)
    everything = np.concatenate(list(run.gates.values()))
    reach = max(np.abs(everything - neutral).max(), neutral / 100)
    figures = []
    for tower, weights in run.gates.items():
        layer, field = np.unravel_index(weights.argmax(), weights.shape)
        figures.append(
            image(
                _svg(_heat_map(run.fields, weights, CenteredNorm(neutral, reach))),
                f"Heat map of the {tower} tower's gates; the largest weight is "
                f"{weights.max():.3g}, of {run.fields[field]} in layer {layer + 1}.",
                f"Gates of the {tower} tower: blue fields count for more than the "
                f"neutral {neutral:.3g}, orange ones for less; as embeddings differ in "
                "size, a weight alone does not measure what a field is worth.",
            )
        )
    html = grid(*figures)
    if run.config["gate_batch_norm"]:
        html += note("A BatchNorm after each gate rescales what these weights do.")
    html += '<details><summary>All weights</summary>\n<div class="scroll">'
    html += "".join(_gates_table(run.fields, *tower) for tower in run.gates.items())
    return html + "</div></details>"


def _heat_map(fields, weights, norm):
    """A row a layer, a column a field; many fields go on in further panels."""
    layers = len(weights)
    panels = -(-len(fields) // FIELDS_A_ROW)
    width = -(-len(fields) // panels)
    figure, panel_axes = _axes(panels, height=0.9 + panels * (1.1 + 0.42 * layers))
    for panel, axes in enumerate(panel_axes):
        names = fields[panel * width : (panel + 1) * width]
        values = np.full((layers, width), np.nan)
        values[:, : len(names)] = weights[:, panel * width :][:, :width]
        heat = axes.imshow(values, GATE_COLORS, norm, aspect="auto")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_yticks(range(layers), [f"layer {i + 1}" for i in range(layers)])
        tilted = {"rotation": 40, "rotation_mode": "anchor", "ha": "right"}
        axes.set_xticks(range(len(names)), [short(name) for name in names], **tilted)
        if len(fields) <= FIELDS_WITH_VALUES:
            for (layer, field), value in np.ndenumerate(values):
                dark = abs(value - norm.vcenter) > 0.6 * norm.halfrange
                centered = {"ha": "center", "va": "center"}
                color = "white" if dark else "black"
                axes.text(field, layer, f"{value:.2f}", color=color, **centered)
    below = {"ax": panel_axes, "orientation": "horizontal", "aspect": 40}
    bar = figure.colorbar(heat, label="weight", **below)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(5)
    return figure


def _gates_table(fields, tower, weights):
    heads = [f"{tower} tower", *(f"layer {i + 1}" for i in range(len(weights)))]
    rows = [
        (breakable(name), *(f"{weight:.4f}" for weight in column))
        for name, column in zip(fields, weights.T)
    ]
    return table("setting", heads, rows)


def _legend(axes, runs):
    if len(runs) > 1:
        axes.legend()
