"""Data sets prepared once and models trained once, for tables of many of them.

A benchmark that was interrupted finds here what it had done.
"""

import dataclasses
import json
import statistics

import keras

from edcn_tf.config import TrainingConfig
from edcn_tf.directories import Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation.scoring import evaluate_run
from edcn_tf.files import read_json, write_json
from edcn_tf.preparation.local import prepare
from edcn_tf.records.encoded import encode_rows
from edcn_tf.training.train import train

from .data import DATA, data_directory_kept


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the table: a model of `FAMILY` with some options changed."""

    title: str
    model: str
    changes: dict = dataclasses.field(default_factory=dict)

    @property
    def key(self):
        """What its runs are called."""
        changes = [f"{key}={_short(value)}" for key, value in self.changes.items()]
        return "-".join([self.model, *changes])

    @property
    def configuration(self):
        """As arguments of `edcn train`."""
        settings = {"model": self.model, **self.changes}
        return " ".join(f"{key}={_short(value)}" for key, value in settings.items())


def chosen(data, known):
    """The names of data sets that were asked for; all where there were none.

    Raises:
        InputError: If one is not known.
    """
    unknown = {*(data or ())} - {*known}
    if unknown:
        raise InputError(
            f"There is no data set {min(unknown)!r} to compare models on; "
            f"known are {', '.join(known)}"
        )
    return [name for name in known if not data or name in data]


def prepared(
    folder,
    name,
    rows=None,
    *,
    split_by="chance",
    seed=0,
    history=False,
    statistics=None,
):
    """Prepares a data set as `folder/data`, unless it is there.

    Its rows are also encoded, in `folder/encoded`, once for all runs on them.

    Args:
        folder: Directory of the data and of the runs on it.
        name: Of the data set, a key of `DATA`.
        rows: Rows of a synthetic log.
        split_by: `"chance"` or `"time"`.
        seed: Of the split, and of a synthetic log.
        history: Whether rows also have what their user clicked before.
        statistics: `"auto"` to have some chosen: by time running ones.

    Returns:
        The best possible AUC of the test split, or None where nobody knows it.

    Raises:
        InputError: If the folder is of other rows, or was left unfinished.
    """
    if name != "synthetic":
        rows = None  # which have those that they have
    about = folder / "about.json"
    if about.exists():
        known = read_json(about)
        if known["rows"] != rows:
            raise InputError(
                f"{folder}: holds runs on a log of {known['rows']} rows; choose "
                "another --out"
            )
        return known["best"]
    if folder.exists():
        raise InputError(f"{folder}: was left unfinished; remove it, and start again")
    folder.mkdir(parents=True)
    data = DATA[name].with_history() if history else DATA[name]
    with data_directory_kept():
        logs, best = data.logs(folder, rows, seed)
        prepare(
            logs,
            data.schema,
            folder / "data",
            format=data.format,
            split_by=split_by,
            seed=seed,
            history=data.history if history else None,
            statistics=statistics,
            protocol="running" if statistics and split_by == "time" else "frozen",
        )
    encode_rows(folder / "data", folder / "encoded")
    best = best and best["auc"]
    write_json(about, {"rows": rows, "best": best})
    return best


def trained(folder, name, config):
    """Trains a run on `folder/data`, unless that was done.

    Returns:
        Its directory, and the content of its `result.json`.

    Raises:
        InputError: If there is a run of that name with another setting.
    """
    run = folder / "runs" / name
    if not Run(run).result.exists():
        run.parent.mkdir(exist_ok=True)
        train(folder / "data", run, config, encoded=folder / "encoded")
        keras.backend.clear_session()
    elif TrainingConfig.load(Run(run).config) != config:
        raise InputError(f"{run}: is a run of another setting; choose another --out")
    return run, read_json(Run(run).result)


def tested(folder, name, config):
    """Trains a run and judges it on the test split, unless that was done.

    Returns:
        Its figures there and `valid_auc`, a dict.
    """
    run, result = trained(folder, name, config)
    path = run / "test.json"
    if not path.exists():
        figures = evaluate_run(run, folder / "data")
        keras.backend.clear_session()
        write_json(path, figures)
    return {**read_json(path), "valid_auc": result["valid_auc"]}


def mean(values, digits=4):
    """Mean and standard deviation, as text."""
    values = list(values)
    text = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.{digits}f}"
    return text


def markdown(table):
    """Rows of cells, the second one of `---`, as text."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def _short(value):
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
