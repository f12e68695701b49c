"""EDCN of another library on the same rows, in an environment of its own."""

import json
import subprocess
from pathlib import Path

import numpy as np

from edcn_tf.choices import SPLITS
from edcn_tf.directories import PreparedData, Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation.scoring import BATCH_ROWS
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import new_directory, read_json, replaced, write_json
from edcn_tf.records.reading import read_records

from ..training.contenders import peers_in
from .contenders import Contender

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


def peer_contenders(directory):
    """Name -> `Contender`, by the virtual environments in a directory."""
    return {"deepctr": _of_deepctr(directory, "deepctr", "EDCN", DEEPCTR)}


def peers_with_history(directory):
    """The same, of models that look at a history."""
    return {"deepctr_din": _of_deepctr(directory, "deepctr_din", "DIN", DEEPCTR_DIN)}


def _of_deepctr(directory, name, model, settings):
    [(_, python)] = peers_in(directory, ["DeepCTR"]).values()

    def train(folder, run, chosen):
        return _trained(folder, run, python, {**chosen, "model": model})

    return Contender(name, f"{model} of DeepCTR", settings, train, _score)


def _trained(folder, name, python, settings):
    run = folder / "runs" / name
    if not run.exists():
        ids = _ids(folder)
        run.parent.mkdir(exist_ok=True)
        with new_directory(run) as partial:
            program = Path(__file__).parent / "with_deepctr.py"
            done = subprocess.run(
                [python, program, ids, partial / "scores.npz", json.dumps(settings)],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                reason = done.stderr.strip().splitlines()[-1:] or ["it ended"]
                raise InputError(f"{program.name}: {reason[0]}")
            with np.load(partial / "scores.npz") as scores:
                result = {
                    key: float(scores[key]) for key in ("valid_auc", "training_seconds")
                }
            write_json(Run(partial).result, result)
    return run, read_json(Run(run).result)


def _score(folder, run):
    with np.load(_ids(folder)) as data, np.load(run / "scores.npz") as scores:
        return data["test_labels"], scores["test"]


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
