"""A run as one HTML page: its figures, its curves, its gates and its setting."""

import csv
import dataclasses
import json
import math
import os
import shlex
from html import escape
from pathlib import Path

import numpy as np

from edcn_tf.calibration import Calibration, load_calibration
from edcn_tf.config import TrainingConfig
from edcn_tf.errors import InputError
from edcn_tf.evaluation import Scores, load_run, score_run
from edcn_tf.files import replaced
from edcn_tf.models import FAMILY
from edcn_tf.report_figures import curves, gates, learning
from edcn_tf.report_page import breakable, note, page, percent, short, spaced, table
from edcn_tf.schema import read_value

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
    data = data or str(read_value(f"{run}/result.json", "data"))
    runs = [_read_run(each, data, split) for each in (run, baseline) if each]
    sections = [
        _title(runs, split),
        "<h2>Figures</h2>",
        _figures_table(runs) + _notes(runs[0]),
        "<h2>Learning</h2>",
        learning(runs),
        "<h2>Ranking and calibration</h2>",
        curves(runs),
        "<h2>Gates</h2>",
        gates(runs[0]),
        "<h2>Setting</h2>",
        _setting(runs),
        _commands(runs[0], data, split),
    ]
    text = page(f"{runs[0].name}: {runs[0].model}", sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")
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
    calibration: Calibration
    scores: Scores
    figures: dict

    @property
    def name(self):
        return os.path.basename(os.path.abspath(self.directory))

    @property
    def model(self):
        return FAMILY[self.config["model"]].title

    @property
    def label(self):
        return f"{self.model} ({short(self.name)})"


def _read_run(directory, data, split):
    model, spec = load_run(directory)
    scores = score_run(directory, data, split)
    try:
        speed = read_value(f"{directory}/result.json", "examples_per_second")
    except InputError:  # training goes on
        speed = math.nan
    return _Run(
        directory=str(directory),
        config=TrainingConfig.load(f"{directory}/config.yaml").to_dict(),
        fields=[field.name for field in spec.schema.fields],
        group=spec.schema.group,
        weight=spec.schema.weight,
        parameters=model.count_params(),
        gates={name: gate.numpy() for name, gate in model.gates().items()},
        history=_read_history(f"{directory}/history.csv"),
        calibration=load_calibration(directory),
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
            f"{percent(auc)} of pairs (AUC {auc:.4f}) on {rows}"
        )
        for other in others:
            share = percent(other.figures["auc"])
            result += f"; the baseline, {other.model}, in {share}"
    return (
        f"<h1>{escape(run.name)}</h1>\n<p>{run.model}</p>\n"
        f'<p class="result">{escape(result)}.</p>'
    )


def _figures_table(runs):
    rows = []
    for key, name, meaning, better, form in FIGURES:
        values = [run.figures.get(key, math.nan) for run in runs]
        cells = ["n/a" if math.isnan(v) else spaced(format(v, form)) for v in values]
        if better and len(set(cells)) > 1 and "n/a" not in cells:
            sign = {HIGHER: -1, LOWER: 1}.get(better)
            badness = [sign * v if sign else abs(v - 1) for v in values]
            best = badness.index(min(badness))
            cells[best] = f"<b>{cells[best]}</b>"
        rows.append((f"{name}<small>{meaning} {better}</small>", *cells))
    return table("", ["", *map(_head, runs)], rows)


def _notes(run):
    notes = [f"Clicks are {percent(np.mean(run.scores.labels))} of the rows."]
    if run.group is None:
        notes.append("There is no GAUC, since the schema names no group column.")
    elif math.isnan(run.figures["gauc"]):
        notes.append("There is no GAUC, since no group holds both classes.")
    else:
        notes.append(f"Groups of GAUC are the values of {run.group}.")
    if run.weight:
        notes.append(
            f"The table and the reliability diagram weigh rows by {run.weight}; the "
            "other curves count each once."
        )
    rate = run.calibration.negative_sampling_rate
    if rate < 1:
        notes.append(f"Probabilities are corrected for a share of {rate:g} negatives.")
        if run.calibration.splits_sampled:
            notes.append(f"A row without a click counts {1 / rate:g} times in them.")
    return note(" ".join(notes))


def _setting(runs):
    keys = dict.fromkeys(key for run in runs for key in run.config)
    rows = [
        (breakable(key), *(_setting_text(run.config, key) for run in runs))
        for key in keys
    ]
    rows.append(("<b>parameters</b>", *(f"{run.parameters:,}" for run in runs)))
    return table("setting", ["", *map(_head, runs)], rows)


def _setting_text(config, key):
    if key not in config:
        return "n/a"
    value = config[key]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return breakable(text)


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


def _head(run):
    return f"{breakable(run.name)}<small>{run.model}</small>"
