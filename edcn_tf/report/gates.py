"""The section of a report that shows gates: the paper's figure 5."""

import numpy as np
from matplotlib.colors import CenteredNorm, LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from edcn_tf.evaluation.gate_weights import mean_gate_weights
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
from edcn_tf.report.plotting import BLUE, VERMILLION, style, subplots, svg

GATE_COLORS = LinearSegmentedColormap.from_list("gate", [VERMILLION, "white", BLUE])
FIELDS_A_ROW = 16  # of the heat map
FIELDS_WITH_VALUES = 8
ROWS = 20_000  # whose weights are averaged, where each row has its own


def gates_of(run):
    """Name of the tower -> weights `[L, F]`; of gates that differ by row their mean."""
    model = run.scorer.model
    fixed = {name: gate.numpy() for name, gate in model.gates().items()}
    return fixed or mean_gate_weights(model, run.sample.thinned(ROWS).ids)


@style()
def gates(run, weights):
    """Heat maps of the weights that `gates_of` gives, a row a layer."""
    if not weights:
        why = "has no gates"
        if run.config.get("gate", "none") != "none":
            why = f"has gates ({run.config['gate']}) that give fields no weight"
        return note(f"There is no heat map, since this {run.model} {why}.")
    by_row = not run.scorer.model.gates()
    neutral = _neutral(run, by_row)
    everything = np.concatenate(list(weights.values()))
    reach = max(np.abs(everything - neutral).max(), neutral / 100)
    figures = []
    for tower, of_tower in weights.items():
        layer, field = np.unravel_index(of_tower.argmax(), of_tower.shape)
        figures.append(
            image(
                svg(_heat_map(run.fields, of_tower, CenteredNorm(neutral, reach))),
                f"Heat map of the {tower} tower's gates; the largest weight is "
                f"{of_tower.max():.3g}, of {run.fields[field]} in layer {layer + 1}.",
                f"Gates of the {tower} tower: blue fields count for more than the "
                f"neutral {neutral:.3g}, orange ones for less; as embeddings differ in "
                "size, a weight alone does not measure what a field is worth.",
            )
        )
    html = grid(*figures)
    if by_row:
        rows = len(run.sample.thinned(ROWS).ids)
        html += note(
            f"The weights of {run.config['gate']} gates differ by row: these are means "
            f"over {rows:,} rows of the split and over each field's components."
        )
    if run.config["gate_batch_norm"]:
        html += note("A BatchNorm after each gate rescales what these weights do.")
    tables = "".join(_gates_table(run.fields, *tower) for tower in weights.items())
    return html + folded("All weights", scrolled(tables))


def _neutral(run, by_row):
    """The weight that a field starts with."""
    if run.config["gate"] == "lhuc" or run.config["gate_scale"]:
        return 1
    return 1 / 2 if by_row else 1 / len(run.fields)


def _heat_map(fields, weights, norm):
    """A row a layer, a column a field; many fields go on in further panels."""
    layers = len(weights)
    panels = -(-len(fields) // FIELDS_A_ROW)
    width = -(-len(fields) // panels)
    figure, panel_axes = subplots(panels, height=0.9 + panels * (1.1 + 0.42 * layers))
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
