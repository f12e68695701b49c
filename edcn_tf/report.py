"""A run as one HTML page: its figures, its curves, its gates and its setting."""

import base64
import csv
import dataclasses
import io
import json
import math
import os
import shlex
import warnings
from html import escape
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import CenteredNorm, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from edcn_tf import metrics
from edcn_tf.config import TrainingConfig
from edcn_tf.errors import InputError
from edcn_tf.evaluation import Scores, load_run, score_run
from edcn_tf.files import replaced
from edcn_tf.schema import read_json

MODEL_NAMES = {"edcn": "EDCN", "logistic_regression": "logistic regression"}
HISTORY = ("epoch", "loss", "learning_rate", "val_auc", "val_log_loss")
HIGHER, LOWER, ONE = "Higher is better.", "Lower is better.", "1 is best."

# Key, name, what it says, which direction is better, format.
FIGURES = (
    ("auc", "AUC", "Share of pairs ranked rightly; 0.5 is chance.", HIGHER, ".4f"),
    ("log_loss", "Log loss", "Cost of wrong probabilities, in nats.", LOWER, ".4f"),
    ("gauc", "GAUC", "AUC within each group, averaged by rows.", HIGHER, ".4f"),
    (
        "gauc_rows_left_out_share",
        "Left out of GAUC",
        "Rows of groups with clicks only, or none: they have no AUC.",
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

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
GREY = "#666666"
LINES = ((BLUE, "-"), (VERMILLION, "--"))  # the run's, the baseline's
GATE_COLORS = LinearSegmentedColormap.from_list("gate", [VERMILLION, "white", BLUE])
SIZE = (5, 3.7)  # inches; a figure is as wide as a phone, and two fit a screen
MATPLOTLIB = {
    "svg.fonttype": "none",  # text stays text: small, sharp, in the reader's fonts
    "svg.hashsalt": "edcn_tf",  # the same run gives the same page
    "text.parse_math": False,  # a name may hold a $
    "font.size": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "legend.frameon": False,
}
FIELDS_A_ROW = 16  # of the heat map
FIELDS_WITH_VALUES = 8

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light }}
body {{ margin: 0 auto; padding: 1rem; max-width: 62rem; background: #fff;
  color: #1a1a1a; font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }}
h1 {{ margin: 0; line-height: 1.2 }}
h2 {{ margin: 2.5rem 0 .75rem; border-bottom: 2px solid {blue} }}
.result {{ font-size: 1.15rem; max-width: 44rem }}
small, figcaption, .note {{ color: #555; font-size: .875rem }}
th small {{ display: block; font-weight: normal; line-height: 1.35 }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ padding: .4rem .5rem; border-bottom: 1px solid #ddd; text-align: right;
  vertical-align: top; font-variant-numeric: tabular-nums }}
th:first-child {{ text-align: left; padding-left: 0 }}
thead th {{ min-width: 4.5rem }}
tbody th {{ font-weight: normal }}
td {{ white-space: nowrap }}
.figures {{ display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)) }}
figure {{ margin: 0; break-inside: avoid }}
img {{ display: block; width: 100%; height: auto }}
.scroll {{ overflow-x: auto }}
.setting {{ font-size: .8125rem; max-width: 40rem }}
.setting th, .setting td {{ padding: .15rem .3rem; white-space: normal }}
pre {{ padding: .75rem; background: #f4f4f4; white-space: pre-wrap }}
summary {{ cursor: pointer; margin-top: 1rem }}
@media print {{ body {{ max-width: none; padding: 0 }} h2 {{ break-after: avoid }}
  .figures {{ grid-template-columns: 1fr 1fr }} tr {{ break-inside: avoid }} }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_report(run, data=None, *, split="test", baseline=None, path=None):
    """Writes a self-contained HTML page about a run and returns its path.

    The page needs no network, no other file and no JavaScript. A figure that cannot be
    given (no group, one class only, no history, no gates) is left out and the page
    says why.

    Args:
        run: Directory that `train` made.
        data: Directory that `prepare` made; by default the one of `result.json`.
        split: The split that is scored.
        baseline: Another run to show beside this one, such as a logistic regression.
        path: Where to write; by default `report.html` in the run directory.

    Returns:
        The `Path` of the page.

    Raises:
        InputError: If a run or the split cannot be read.
    """
    path = Path(path or f"{run}/report.html")
    data = data or read_json(f"{run}/result.json")["data"]
    runs = [_read_run(each, data, split) for each in (run, baseline) if each]
    with matplotlib.rc_context(MATPLOTLIB), warnings.catch_warnings():
        # Matplotlib measures with its own font; the browser has the missing glyphs.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        sections = [
            _title(runs, split),
            "<h2>Figures</h2>",
            _figures_table(runs),
            "<h2>Learning</h2>",
            _learning(runs),
            "<h2>Ranking and calibration</h2>",
            _curves(runs),
            "<h2>Gates</h2>",
            _gates(runs[0]),
            "<h2>Setting</h2>",
            _setting(runs),
            _commands(runs[0], data, split),
        ]
    title = escape(f"{runs[0].name}: {runs[0].model}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as partial:
        page = PAGE.format(title=title, blue=BLUE, body="\n".join(sections))
        partial.write_text(page, encoding="utf-8")
    return path


@dataclasses.dataclass(frozen=True)
class _Run:
    """What the page tells of a run."""

    directory: str
    config: dict
    fields: list[str]
    group: str | None
    weight: str | None
    parameters: int
    gates: dict[str, np.ndarray]
    history: dict[str, np.ndarray] | None
    scores: Scores
    figures: dict

    @property
    def name(self):
        return os.path.basename(os.path.abspath(self.directory))

    @property
    def model(self):
        return MODEL_NAMES[self.config["model"]]

    @property
    def label(self):
        return f"{self.model} ({_short(self.name)})"


def _read_run(directory, data, split):
    model, spec = load_run(directory)
    scores = score_run(directory, data, split)
    try:
        speed = read_json(f"{directory}/result.json")["examples_per_second"]
    except InputError:  # training goes on
        speed = math.nan
    return _Run(
        directory=str(directory),
        config=TrainingConfig.load(f"{directory}/config.yaml").to_dict(),
        fields=[field.name for field in spec.schema.fields],
        group=spec.schema.group,
        weight=spec.schema.weight,
        parameters=model.count_params(),
        gates=model.gate_weights() if hasattr(model, "gate_weights") else {},
        history=_read_history(f"{directory}/history.csv"),
        scores=scores,
        figures={**scores.evaluate(), "examples_per_second": speed},
    )


def _read_history(path):
    """Columns of a history.csv as arrays, or None where that cannot be had."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {key: np.array([float(row[key]) for row in rows]) for key in HISTORY}
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return columns if rows else None


def _title(runs, split):
    run, *others = runs
    auc, kind = run.figures["auc"], {"valid": "validation"}.get(split, split)
    rows = f"{run.figures['rows']:,} {kind} rows"
    result = f"The {rows} hold one class only, so there is no AUC"
    if not math.isnan(auc):
        result = (
            f"{run.model[0].upper()}{run.model[1:]} ranks a click above a non-click in "
            f"{_percent(auc)} of pairs (AUC {auc:.4f}) on {rows}"
        )
        for other in others:
            share = _percent(other.figures["auc"])
            result += f"; the baseline, {other.model}, in {share}"
    return (
        f"<h1>{escape(run.name)}</h1>\n<p>{run.model}</p>\n"
        f'<p class="result">{escape(result)}.</p>'
    )


def _figures_table(runs):
    rows = []
    for key, name, meaning, better, form in FIGURES:
        values = [run.figures.get(key, math.nan) for run in runs]
        cells = ["n/a" if math.isnan(v) else _spaced(format(v, form)) for v in values]
        if better and len(set(cells)) > 1 and "n/a" not in cells:
            sign = {HIGHER: -1, LOWER: 1}.get(better)
            badness = [sign * v if sign else abs(v - 1) for v in values]
            best = badness.index(min(badness))
            cells[best] = f"<b>{cells[best]}</b>"
        rows.append((f"{name}<small>{meaning} {better}</small>", *cells))
    heads = [_head(run) for run in runs]
    return _table("", ["", *heads], rows) + _table_notes(runs[0])


def _table_notes(run):
    clicks = _percent(np.mean(run.scores.labels))
    notes = [f"Clicks are {clicks} of the rows."]
    if run.group is None:
        notes.append("There is no GAUC, since the schema names no group column.")
    elif math.isnan(run.figures["gauc"]):
        notes.append("There is no GAUC, since no group holds both classes.")
    else:
        notes.append(f"Groups of GAUC are the values of {run.group}.")
    if run.weight:
        notes.append(
            f"The table weighs rows by {run.weight}; the curves below count each once."
        )
    return _note(" ".join(notes))


def _learning(runs):
    run, why = runs[0], "since history.csv is missing or damaged"
    if run.history is None:
        return _note(f"There are no learning curves, {why}.")
    losses, (loss,) = _axes(1)
    _draw_history(runs, loss, "loss", "training loss")
    loss.set_xlabel("epoch")
    validation, (auc, log_loss) = _axes(2, sharex=True)
    _draw_history(runs, auc, "val_auc", "AUC")
    _draw_history(runs, log_loss, "val_log_loss", "log loss")
    log_loss.set_xlabel("epoch")
    for axes in (loss, auc):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _legend(loss, runs)
    first, last = run.history["loss"][[0, -1]]
    best = np.argmax(run.history["val_auc"])
    epoch = f"{run.history['epoch'][best] + 1:.0f}"
    drops = "; dotted lines: where the learning rate drops" * (len(_drops(run)) > 0)
    return _grid(
        _figure(
            losses,
            f"Training loss by epoch, from {first:.4f} to {last:.4f}.",
            "Training loss, the L2 penalty included: while it falls, the model still "
            f"learns{drops}.",
        ),
        _figure(
            validation,
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


def _drops(run):
    """The epochs, counted from 0, that begin with a lower learning rate."""
    return run.history["epoch"][1:][np.diff(run.history["learning_rate"]) < 0]


def _curves(runs):
    scores = runs[0].scores
    figures = []
    one_class = scores.labels.min() == scores.labels.max()
    if not one_class:
        figures.append(_roc(runs))
    figures += [_reliability(runs), *map(_histogram, runs)]
    why = "There is no ROC curve, since the rows hold one class only."
    return _grid(*figures) + (_note(why) if one_class else "")


def _roc(runs):
    figure, (axes,) = _axes(1)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for run, (color, dashes) in zip(runs, LINES):
        false, true = metrics.roc_curve(run.scores.labels, run.scores.probabilities)
        axes.plot(false, true, dashes, color=color, label=run.label)
    axes.set(xlabel="non-clicks let through", ylabel="clicks found")
    _legend(axes, runs)
    return _figure(
        figure,
        f"ROC curve; the area under it is {runs[0].figures['auc']:.4f}.",
        "ROC curve: the share of clicks found against the share of non-clicks let "
        "through, as the threshold falls; the further above the diagonal, the better.",
    )


def _reliability(runs):
    figure, (axes,) = _axes(1)
    for run, (color, dashes), marker in zip(runs, LINES, "os"):
        x, y, rows = metrics.reliability(run.scores.labels, run.scores.probabilities)
        axes.plot(x, y, dashes, color=color, linewidth=1)
        sizes = 15 + 45 * rows / rows.max()
        axes.scatter(x, y, sizes, color=color, marker=marker, label=run.label)
    top = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle=":")
    axes.set(xlabel="predicted probability", ylabel="click rate")
    _legend(axes, runs)
    return _figure(
        figure,
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
    return _figure(
        figure,
        f"Histogram of probabilities by label; the mean is {' and '.join(means)}.",
        f"Scores of {run.label}: the less the two shapes overlap, the better it ranks "
        "(the outer bars also hold the 0.5 % beyond them).",
    )


def _gates(run):
    if not run.gates:
        return _note(f"There is no heat map, since this {run.model} has no gates.")
    neutral = 1 if run.config["gate_scale"] else 1 / len(run.fields)
    everything = np.concatenate(list(run.gates.values()))
    reach = max(np.abs(everything - neutral).max(), neutral / 100)
    figures = []
    for tower, weights in run.gates.items():
        layer, field = np.unravel_index(weights.argmax(), weights.shape)
        figures.append(
            _figure(
                _heat_map(run.fields, weights, CenteredNorm(neutral, reach)),
                f"Heat map of the {tower} tower's gates; the largest weight is "
                f"{weights.max():.3g}, of {run.fields[field]} in layer {layer + 1}.",
                f"Gates of the {tower} tower: blue fields count for more than the "
                f"neutral {neutral:.3g}, orange ones for less; as embeddings differ in "
                "size, a weight alone does not measure what a field is worth.",
            )
        )
    after = ""
    if run.config["gate_batch_norm"]:
        after = _note("A BatchNorm after each gate rescales what these weights do.")
    tables = "".join(_gates_table(run.fields, *gates) for gates in run.gates.items())
    return (
        _grid(*figures)
        + after
        + "<details><summary>All weights</summary>\n"
        + f'<div class="scroll">{tables}</div></details>'
    )


def _gates_table(fields, tower, weights):
    heads = [f"{tower} tower", *(f"layer {i + 1}" for i in range(len(weights)))]
    rows = [
        (_breakable(name), *(f"{weight:.4f}" for weight in column))
        for name, column in zip(fields, weights.T)
    ]
    return _table("setting", heads, rows)


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
        image = axes.imshow(values, GATE_COLORS, norm, aspect="auto")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_yticks(range(layers), [f"layer {i + 1}" for i in range(layers)])
        axes.set_xticks(
            range(len(names)),
            [_short(name) for name in names],
            rotation=40,
            ha="right",
            rotation_mode="anchor",
        )
        if len(fields) <= FIELDS_WITH_VALUES:
            for (layer, field), value in np.ndenumerate(values):
                dark = abs(value - norm.vcenter) > 0.6 * norm.halfrange
                color = "white" if dark else "black"
                axes.text(
                    field, layer, f"{value:.2f}", ha="center", va="center", color=color
                )
    bar = figure.colorbar(
        image, ax=panel_axes, orientation="horizontal", aspect=40, label="weight"
    )
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(5)
    return figure


def _setting(runs):
    keys = dict.fromkeys(key for run in runs for key in run.config)
    rows = [
        (_breakable(key), *(_setting_text(run.config, key) for run in runs))
        for key in keys
    ]
    counts = [_spaced(f"{run.parameters:,}") for run in runs]
    rows.append(("<b>parameters</b>", *counts))
    return _table("setting", ["", *(_head(run) for run in runs)], rows)


def _setting_text(config, key):
    if key not in config:
        return "n/a"
    value = config[key]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _breakable(text)


def _commands(run, data, split):
    data, config = str(data), f"{run.directory}/config.yaml"
    parts = ["edcn", "train", data], ["--out", "NEW_RUN"], ["--config", config]
    train = " \\\n  ".join(map(shlex.join, parts))
    evaluate = ["edcn", "evaluate", run.directory, data]
    if split != "test":
        evaluate += ["--split", split]
    return (
        "<p>To train the same again, and to score this run:</p>\n"
        f"<pre>{escape(train)}\n\n{escape(shlex.join(evaluate))}</pre>"
    )


def _axes(count, height=SIZE[1], **options):
    """A figure of `count` axes, one above the other, outside of pyplot's state."""
    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    return figure, figure.subplots(count, squeeze=False, **options)[:, 0]


def _legend(axes, runs):
    if len(runs) > 1:
        axes.legend()


def _figure(figure, alt, caption):
    # As an image, since the ids and styles of SVGs inline would meet one another.
    file = io.BytesIO()
    nothing = dict.fromkeys(["Creator", "Date", "Format", "Type"])
    figure.savefig(file, format="svg", metadata=nothing)
    source = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><img alt="{escape(alt)}" src="data:image/svg+xml;base64,{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _grid(*figures):
    return '<div class="figures">\n{}\n</div>\n'.format("\n".join(figures))


def _table(kind, heads, rows):
    """A table whose cells are HTML; each row's first cell names it."""
    lines = [f'<table class="{kind}"><thead><tr>']
    lines += [f'<th scope="col">{head}</th>' for head in heads]
    lines.append("</tr></thead><tbody>")
    for first, *cells in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table>\n"])


def _head(run):
    return f"{_breakable(run.name)}<small>{run.model}</small>"


def _note(text):
    return f'<p class="note">{escape(text)}</p>\n'


def _percent(share):
    return _spaced(f"{share:.1%}")


def _spaced(text):
    return text.replace("%", "\N{NO-BREAK SPACE}%")


def _breakable(text):
    """HTML that a narrow screen breaks after an underscore, not anywhere."""
    return escape(text).replace("_", "_<wbr>")


def _short(name):
    return name if len(name) <= 20 else f"{name[:19]}…"
