"""Other libraries' models on the same rows, in environments of their own."""

import json
import subprocess
from pathlib import Path

import numpy as np

from edcn_tf.choices import SPLITS
from edcn_tf.directories import PreparedData, Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.scoring import BATCH_ROWS
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import new_directory, read_json, read_value, replaced, write_json
from edcn_tf.records.reading import read_records

from ..environments import python_of
from ..training.contenders import peers_in
from .contenders import Contender
from .raw_values import raw_values

# What DeepCTR's users have to choose, and EDCN here has as defaults.
DEEPCTR = tuple(
    {"bridge_type": bridge, "learning_rate": rate, "l2_reg_embedding": l2}
    for bridge in ("hadamard_product", "concatenation")
    for rate in (1e-3, 5e-3)
    for l2 in (1e-5, 1e-4)
)


DEEPCTR_DIN = tuple(
    {"learning_rate": rate, "l2_reg_embedding": l2}
    for rate in (1e-3, 5e-3)
    for l2 in (1e-5, 1e-4)
)


# Boosted trees, on the values of the log. Each of the two has as many settings, its
# defaults first; the others say above all how much a category of few rows may tell.
# CatBoost's learning rate follows from the rows.
TREES = {"catboost": "1.2.10", "lightgbm": "4.7.0"}
CATBOOST = ({}, {"depth": 8}, {"l2_leaf_reg": 10.0})
LIGHTGBM = (
    {},
    {"learning_rate": 0.05, "num_leaves": 63, "min_data_per_group": 20},
    {"learning_rate": 0.05, "cat_smooth": 50.0, "cat_l2": 30.0},
)
PEERS = ("deepctr", *TREES)  # in the table's order


def peer_contenders(directory, names=PEERS):
    """Name -> `Contender`, by the virtual environments in a directory.

    The environments of other peers than those of `names` are not made.
    """
    found = {}
    if "deepctr" in names:
        found["deepctr"] = _of_deepctr(directory, "deepctr", "EDCN", DEEPCTR)
    if {*names} & {*TREES}:
        found |= tree_contenders(directory)
    return {name: contender for name, contender in found.items() if name in names}


def tree_contenders(directory):
    """Those of them that are boosted trees."""
    needed = [f"{library}=={version}" for library, version in TREES.items()]
    python = python_of(directory, "trees", needed)
    titles = {"catboost": "CatBoost", "lightgbm": "LightGBM"}
    settings = {"catboost": CATBOOST, "lightgbm": LIGHTGBM}
    return {
        library: _of_trees(
            python, library, f"{titles[library]} {version}", settings[library]
        )
        for library, version in TREES.items()
    }


def peers_with_history(directory):
    """The same, of models that look at a history."""
    return {"deepctr_din": _of_deepctr(directory, "deepctr_din", "DIN", DEEPCTR_DIN)}


def _of_deepctr(directory, name, model, settings):
    [(_, python)] = peers_in(directory, ["DeepCTR"]).values()

    def train(folder, run, chosen):
        chosen = {**chosen, "model": model}
        return _trained(folder, run, [python, "with_deepctr.py"], _ids, chosen)

    return Contender(name, f"{model} of DeepCTR", settings, train, _scorer(_ids))


def _of_trees(python, library, title, settings):
    def train(folder, run, chosen):
        by = read_value(PreparedData(folder / "data").summary, "split_by")
        chosen = {**chosen, "library": library, "has_time": by == "time"}
        return _trained(folder, run, [python, "with_trees.py"], raw_values, chosen)

    return Contender(library, title, settings, train, _scorer(raw_values))


def _trained(folder, name, command, rows_of, settings):
    """The run and the result of a peer's program, which runs unless it did.

    Args:
        folder: Directory of the data and of the runs on it.
        name: Of the run.
        command: A Python, and a program in this folder that takes a file of rows, the
            name of the file that it writes the scores of the validation and of the test
            rows to, and its settings.
        rows_of: A function of `folder` that gives the file of rows.
        settings: A dict.
    """
    run = folder / "runs" / name
    if not run.exists():
        rows, (python, program) = rows_of(folder), command
        run.parent.mkdir(exist_ok=True)
        with new_directory(run) as partial:
            path = Path(__file__).parent / program
            done = subprocess.run(
                [python, path, rows, partial / "scores.npz", json.dumps(settings)],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                reason = done.stderr.strip().splitlines()[-1:] or ["it ended"]
                raise InputError(f"{program}: {reason[0]}")
            with np.load(rows) as data, np.load(partial / "scores.npz") as scores:
                result = {
                    "valid_auc": metrics.auc(data["valid_labels"], scores["valid"]),
                    "training_seconds": float(scores["training_seconds"]),
                }
            write_json(Run(partial).result, result)
    return run, read_json(Run(run).result)


def _scorer(rows_of):
    """The function (folder, run) that gives labels and scores of the test rows."""

    def score(folder, run):
        with np.load(rows_of(folder)) as rows, np.load(run / "scores.npz") as scores:
            return rows["test_labels"], scores["test"]

    return score


def _ids(folder):
    """Writes what our models see of all splits as NumPy arrays, unless that was done.

    Of each split `NAME_ids` `[N, S]` int32, each field's counted from 1, and
    `NAME_labels` `[N]`; 0 is padding. `fields` is JSON, a list with `name`, `slots`,
    `values`, which is one more than the largest id, and `of` (the field whose values a
    sequence holds, or None).
    """
    path = folder / "ids.npz"
    if path.exists():
        return path
    spec = FeatureSpec.load(PreparedData(folder / "data").features)
    for each in spec.fields:
        if each.field.is_vector:
            raise InputError(
                f"Field {each.field.name!r} is a vector, which peers are not given; "
                "leave it out of the schema"
            )
    offsets = np.repeat(
        [each.offset for each in spec.fields],
        [each.field.slots for each in spec.fields],
    )
    fields = [
        {
            "name": each.field.name,
            "slots": each.field.slots,
            "values": each.rows + 1,
            "of": each.of and each.of.field.name,
        }
        for each in spec.fields
    ]
    arrays = {"fields": json.dumps(fields)}
    for split in SPLITS:
        files = PreparedData(folder / "data").records(split)
        rows = [
            (ids.numpy(), labels.numpy())
            for ids, labels in read_records(files, spec, BATCH_ROWS)
        ]
        ids, labels = map(np.concatenate, zip(*rows))
        arrays[f"{split}_ids"] = np.where(ids, ids - offsets + 1, 0).astype(np.int32)
        arrays[f"{split}_labels"] = labels
    with replaced(path) as partial:
        np.savez_compressed(partial, **arrays)
    return path
