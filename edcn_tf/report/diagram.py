"""A drawing of a model: its towers, gates and bridges, from the ids upwards."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from edcn_tf import layers
from edcn_tf.errors import InputError
from edcn_tf.files import refuse_existing, replaced
from edcn_tf.models import ParallelCTR
from edcn_tf.report.plotting import MATPLOTLIB

# Light tints of Okabe and Ito's colours, which colour-blind readers can tell apart.
COLORS = {
    "embedding": "#e4e4e4",
    "gate": "#f7dfae",
    "explicit": "#b3d6ec",
    "deep": "#f3c6b0",
    "bridge": "#b8e0d2",
    "output": "#e4e4e4",
}
NAMES = {
    layers.FieldGate: "softmax gate",
    layers.LHUCGate: "LHUC gate",
    layers.SqueezeExcitationGate: "squeeze-excitation",
    layers.FeatureEmbeddingGate: "GateNet gate",
    layers.DenseGate: "dense gate",
    layers.Cross: "cross",
    layers.MatrixCross: "matrix cross",
    layers.MixtureCross: "mixture cross",
    layers.FactorizationMachine: "FM",
    layers.CompressedInteraction: "CIN",
    layers.FieldAttention: "self-attention",
    layers.InnerProducts: "inner products",
    layers.LocalActivation: "local activation",
    layers.InterestEvolution: "interest evolution",
    layers.HistoryTransformer: "transformer",
}
SUFFIXES = (".svg", ".png", ".pdf")
EXPLICIT, MIDDLE, DEEP = -1.0, 0.0, 1.0  # where columns stand
GATE_SIZE, SIZE, BRIDGE_SIZE, WIDE = (1.3, 0.42), (1.5, 0.6), (1.1, 0.5), (3.4, 0.5)
STEP = 0.95  # from one row of boxes to the next


def draw_model(model, path):
    """Draws a `ParallelCTR` (or an EDCN) into a new .svg, .png or .pdf file.

    Raises:
        InputError: If the file exists, or its name has another ending, or the model
            has no towers.
    """
    path = Path(path)
    if not isinstance(model, ParallelCTR):
        raise InputError(f"A {type(model).__name__} has no towers to draw")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: the name must end in one of {', '.join(SUFFIXES)}")
    refuse_existing(path)
    drawing = _Drawing()
    top = _towers(drawing, model)
    form = path.suffix[1:]
    # The same model gives the same file.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    with matplotlib.rc_context(MATPLOTLIB), replaced(path) as partial:
        drawing.figure(top).savefig(partial, format=form, dpi=150, metadata=metadata)


class _Drawing:
    """Boxes and arrows, collected first and drawn when the size is known."""

    def __init__(self):
        self.boxes, self.arrows = [], []

    def box(self, kind, text, x, y, size=SIZE):
        self.boxes.append((kind, text, x, y, size))
        return x, y, size

    def arrow(self, start, end):
        """From the top of one box to the bottom of another."""
        (x, y, (_, height)), (to_x, to_y, (to_width, to_height)) = start, end
        reach = to_width / 2 - 0.15
        landing = min(max(x, to_x - reach), to_x + reach)
        if abs(x - to_x) > reach:
            landing = to_x + (0.3 if x > to_x else -0.3)
        self.arrows.append(((x, y + height / 2), (landing, to_y - to_height / 2)))

    def figure(self, top):
        figure = Figure(figsize=(5.2, 0.62 * top + 0.8))
        axes = figure.add_axes([0, 0, 1, 1])
        axes.set(xlim=(-2.35, 2.35), ylim=(-0.5, top + 0.5))
        axes.axis("off")
        for start, end in self.arrows:
            style = {"arrowstyle": "-|>", "color": "#555555", "shrinkA": 0}
            axes.annotate("", end, start, arrowprops={**style, "shrinkB": 0})
        for kind, text, x, y, (width, height) in self.boxes:
            corner = x - width / 2, y - height / 2
            rounded = "round,pad=0,rounding_size=0.08"
            style = {"facecolor": COLORS[kind], "edgecolor": "#555555"}
            patch = FancyBboxPatch(corner, width, height, boxstyle=rounded, **style)
            axes.add_patch(patch)
            size = 8 if kind == "gate" else 9
            axes.text(x, y, text, ha="center", va="center", fontsize=size)
        return figure


def _towers(drawing, model):
    """Everything, upwards; returns where it ends."""
    widths = sorted(set(model.widths))
    each = f"{widths[0]}" if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"
    text = f"embedding: {len(model.widths)} fields x {each}"
    embedding = drawing.box("embedding", text, MIDDLE, 0, WIDE)
    y = 0
    for layer, names in zip(model.histories, model.embedding.sequences):
        y += STEP
        text = f"{_label(layer)} of {names[0]}"
        history = drawing.box("embedding", text, MIDDLE, y, WIDE)
        drawing.arrow(embedding, history)
        embedding = history
    below = {"explicit": embedding, "deep": embedding}  # what a tower goes on from
    ends = {}  # tower -> its last box
    y += STEP
    for layer, columns in _rounds(model):
        gates = {tower: _gates(model, tower)[layer : layer + 1] for tower in columns}
        for tower, column in columns.items():
            for gate in gates[tower]:
                box = drawing.box("gate", _label(gate), column, y, GATE_SIZE)
                drawing.arrow(below[tower], box)
                below[tower] = box
        y += STEP * any(gates.values())
        for tower, column in columns.items():
            for part in _layers(model, tower)[layer : layer + 1]:
                box = drawing.box(tower, _label(part), column, y)
                drawing.arrow(below[tower], box)
                ends[tower] = below[tower] = box
        y += STEP
        if model.bridges:
            text = _label(model.bridges[layer])
            bridge = drawing.box("bridge", text, MIDDLE, y - 0.1, BRIDGE_SIZE)
            for tower in columns:
                drawing.arrow(ends[tower], bridge)
                below[tower] = bridge
            y += STEP
        if _is_stacked(model):
            below["deep"] = below[next(iter(columns))]
    text = "sigmoid" + " + linear term" * (model.linear is not None)
    output = drawing.box("output", text, MIDDLE, y, WIDE)
    seen = [ends["deep"]] if _is_stacked(model) else list(ends.values())
    for end in seen + [below["deep"]] * bool(model.bridges):
        drawing.arrow(end, output)
    return y


def _rounds(model):
    """(layer, the towers that may have it and where they stand), upwards."""
    depths = {tower: len(_layers(model, tower)) for tower in ("explicit", "deep")}
    if _is_stacked(model) or not all(depths.values()):
        for tower, depth in depths.items():
            yield from ((layer, {tower: MIDDLE}) for layer in range(depth))
        return
    columns = {"explicit": EXPLICIT, "deep": DEEP}
    yield from ((layer, columns) for layer in range(max(depths.values())))


def _is_stacked(model):
    return model.options["structure"] == "stacked"


def _layers(model, tower):
    return {"explicit": model.explicit_layers, "deep": model.deep_layers}[tower]


def _gates(model, tower):
    return {"explicit": model.explicit_gates, "deep": model.deep_gates}[tower]


def _label(layer):
    """What a box says: the kind of layer, and how wide a deep one is."""
    if isinstance(layer, layers.Bridge):
        return layer.kind.replace("_", "\n")
    if isinstance(layer, layers.Deep):
        return f"deep {layer.units}"
    return NAMES.get(type(layer), type(layer).__name__)
