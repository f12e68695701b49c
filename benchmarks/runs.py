"""Data sets prepared once and models trained once, for tables of many of them.

A benchmark that was interrupted finds here what it had done.
"""

import statistics

import keras

from edcn_tf.config import TrainingConfig
from edcn_tf.errors import InputError
from edcn_tf.files import write_json
from edcn_tf.prepare import prepare
from edcn_tf.schema import read_json
from edcn_tf.training import train


def prepared(folder, data, rows, *, split_by="chance", seed=0):
    """Prepares a data set as `folder/data`, unless it is there.

    Args:
        folder: Directory of the data and of the runs on it.
        data: Its `edcn_tf.demo_data.DemoData`.
        rows: Rows of a synthetic log.
        split_by: `"chance"` or `"time"`.
        seed: Of the split, and of a synthetic log.

    Returns:
        The best possible AUC of the test split, or None where nobody knows it.

    Raises:
        InputError: If the folder is of other rows, or was left unfinished.
    """
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
    logs, best = data.logs(folder, rows, seed)
    prepare(
        logs,
        data.schema,
        folder / "data",
        format=data.format,
        split_by=split_by,
        seed=seed,
    )
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
    if not (run / "result.json").exists():
        run.parent.mkdir(exist_ok=True)
        train(folder / "data", run, config)
        keras.backend.clear_session()
    elif TrainingConfig.load(run / "config.yaml") != config:
        raise InputError(f"{run}: is a run of another setting; choose another --out")
    return run, read_json(run / "result.json")


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
