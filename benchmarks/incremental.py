"""A model kept up to date, day by day: `edcn benchmark incremental`."""

import itertools
from pathlib import Path
from statistics import fmean

import keras
import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from matplotlib.figure import Figure

from edcn_tf.config import TrainingConfig
from edcn_tf.console import progress_bar
from edcn_tf.demo.data import DATA
from edcn_tf.directories import PreparedData, Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation.scoring import evaluate_run
from edcn_tf.files import new_directory, read_json, replaced, write_json
from edcn_tf.logs.reading import read_log
from edcn_tf.logs.synthetic.writing import synthesize
from edcn_tf.preparation.local import prepare
from edcn_tf.report.plotting import LINES, MATPLOTLIB
from edcn_tf.training.continued_config import continued_config
from edcn_tf.training.train import train

DAYS = 7
ROWS = 20_000
VALID_SHARE = 10  # one row in so many validates
# Each day the model is brought up to date, then judged on the day that follows.
WAYS = {
    "warm": "warm start on the day",
    "anew": "anew on all days so far",
    "none": "day 1's model",
}
# Of a warm start, chosen on MovieLens' validation splits; all else is as on day 1.
# A day has some dozen steps: an average over hundreds would be that of earlier days.
CHANGES = ("average_decay=0.9", "learning_rate=0.003", "patience=1", "drops=0")


def benchmark_incremental(out, rows=ROWS):
    """Brings EDCN up to date in three ways on each data set, and prints the tables.

    A log is cut into `DAYS` parts of equally many rows by time. After each day but the
    last, three models are judged on all rows of the next: one that starts from that of
    the day before and trains on this day alone, one trained anew on all days so far,
    and that of day 1. A directory that holds an earlier, interrupted call's runs is
    gone on with.

    Args:
        out: Directory for logs, data, runs, tables and the figure.
        rows: Rows of a day of the synthetic log.
    """
    out = Path(out)
    todo = [(d, day, way) for d in LOGS for day in range(1, DAYS) for way in WAYS]
    figures = {}
    with progress_bar("Training", len(todo)) as bar:
        for data, day, way in todo:
            _check(out / data, data, rows)
            figures[data, day, way] = _figures(out / data, data, day, way)
            bar.update(1)
    table = "\n".join(_table(figures, data) for data in LOGS)
    with replaced(out / "incremental.md") as partial:
        partial.write_text(table, encoding="utf-8")
    _draw(out / "incremental.svg", figures)
    print(table)


def _check(folder, name, rows):
    """Makes the logs of all days, unless they are there."""
    about = folder / "logs" / "about.json"
    if not about.exists():
        with new_directory(folder / "logs") as partial:
            LOGS[name](partial, rows)
            write_json(partial / "about.json", {"rows": rows})
    elif (known := read_json(about)["rows"]) != rows:
        raise InputError(
            f"{folder}: holds runs on days of {known} rows; choose another --out"
        )


def _movielens(folder, rows):
    """The ratings in the order of their time, in equal parts."""
    data = DATA["movielens"]
    logs, _ = data.logs(folder, rows, 0)
    table = pa.Table.from_batches(read_log(logs, data.schema))
    table = table.sort_by(data.schema.timestamp)
    ends = np.linspace(0, table.num_rows, DAYS + 1).astype(int)
    for day, (start, end) in enumerate(itertools.pairwise(ends), 1):
        validates = np.arange(end - start) % VALID_SHARE == VALID_SHARE - 1
        for split, chosen in [("train", ~validates), ("valid", validates)]:
            part = table.slice(start, end - start).filter(pa.array(chosen))
            pa.parquet.write_table(part, folder / f"{day}-{split}.parquet")


def _synthetic(folder, rows):
    """Parts of one log that follow each other; its rows are alike."""
    valid = rows // VALID_SHARE
    for day in range(1, DAYS + 1):
        skip = (day - 1) * rows
        synthesize(folder / f"{day}-train.tsv", rows - valid, skip=skip)
        synthesize(folder / f"{day}-valid.tsv", valid, skip=skip + rows - valid)


LOGS = {"movielens": _movielens, "synthetic": _synthetic}
SUFFIXES = {"movielens": "parquet", "synthetic": "tsv"}


def _prepared(folder, name, day, way):
    """What a way trains on after a day, with the day that follows as test split."""
    data = folder / f"data-{way}-{day}"
    if data.exists():
        return data
    days = range(1, day + 1) if way == "anew" else [day]
    logs = {
        split: [folder / "logs" / f"{d}-{split}.{SUFFIXES[name]}" for d in days]
        for split in ("train", "valid")
    }
    logs["test"] = [
        folder / "logs" / f"{day + 1}-{split}.{SUFFIXES[name]}" for split in logs
    ]
    earlier = {}
    if way == "warm" and day > 1:
        earlier = {"vocabulary_of": folder / f"data-warm-{day - 1}"}
    prepare(logs, DATA[name].schema, data, format=DATA[name].format, **earlier)
    return data


def _figures(folder, name, day, way):
    """A way's figures on the day after a day, a dict; done once."""
    path = folder / f"{way}-{day}.json"
    if path.exists():
        return read_json(path)
    data = _prepared(folder, name, day, "warm" if way == "none" else way)
    run = folder / f"run-{way}-{day}"
    if way == "none" or day == 1:  # where all ways are the same
        run = folder / "run-warm-1"
    if not Run(run).result.exists():
        config = TrainingConfig.from_dict(DATA[name].runs["edcn"])
        earlier = None
        if way == "warm" and day > 1:
            earlier = folder / f"run-warm-{day - 1}"
            config = continued_config(earlier, data, settings=CHANGES)
        train(data, run, config, warm_start=earlier)
    figures, result = evaluate_run(run, data), read_json(Run(run).result)
    figures["seconds"] = result["training_seconds"] if way != "none" else 0.0
    figures["epochs"] = result["epochs"] if way != "none" else 0
    figures["train_rows"] = PreparedData(data).rows("train")
    keras.backend.clear_session()
    write_json(path, figures)
    return figures


def _table(figures, name):
    titles = [f"{WAYS[way]}: AUC | log loss | s" for way in WAYS if way != "none"]
    titles.append(f"{WAYS['none']}: AUC | log loss")
    lines = [f"| {name}, judged on day | {' | '.join(titles)} |"]
    lines.append(f"| --- |{' ---: |' * 8}")
    of_way = {way: [] for way in WAYS}
    for day in range(1, DAYS):
        for way in WAYS:
            of_way[way].append(figures[name, day, way])
        cells = [_cells(way, [figures[name, day, way]]) for way in WAYS]
        lines.append(f"| {day + 1} | {' | '.join(cells)} |")
    # On day 2 all ways have the model of day 1.
    cells = [_cells(way, of_way[way][1:]) for way in WAYS]
    lines.append(f"| mean of 3 to {DAYS} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cells(way, figures):
    auc, log_loss, seconds = (
        fmean(each[key] for each in figures) for key in ("auc", "log_loss", "seconds")
    )
    cells = f"{auc:.4f} | {log_loss:.4f}"
    return cells if way == "none" else f"{cells} | {seconds:.1f}"


def _draw(path, figures):
    """AUC and log loss by the day that is judged, and the seconds of training."""
    panels = [("auc", "AUC"), ("log_loss", "log loss"), ("seconds", "training, s")]
    with matplotlib.rc_context(MATPLOTLIB):
        figure = Figure(figsize=(10.2, 2.7 * len(LOGS)), layout="constrained")
        axes = figure.subplots(len(LOGS), len(panels), squeeze=False)
        for row, name in zip(axes, LOGS):
            for place, (key, title) in zip(row, panels):
                for (color, style), (way, label) in zip(LINES, WAYS.items()):
                    line = [figures[name, day, way][key] for day in range(1, DAYS)]
                    days = range(2, DAYS + 1)
                    place.plot(days, line, style, color=color, marker="o", label=label)
                place.set_xlabel(f"{name}: day")
                place.set_ylabel(title)
        lines = axes[0][0].get_legend_handles_labels()
        figure.legend(*lines, loc="outside upper center", ncols=len(WAYS))
        with replaced(path) as partial:
            figure.savefig(partial, format="svg")
