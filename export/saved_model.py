"""A model and its encoder as one numbered SavedModel, verified before it is named."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from edcn_tf.directories import Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation.calibration import Calibration, load_calibration
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import StrPath, partial_directory
from edcn_tf.framing import record_dataset, refuse_damaged
from edcn_tf.models import ClickModel

from . import verification
from .publishing import (
    keep_newest,
    publish_version,
    refuse_published,
    refuse_version_as_base,
    versions,
)
from .recording import RECORDED, WARM_UP, record
from .scoring import BATCH_SIZES, batch_sizes
from .serving_config import (
    most_batched_by_server,
    named_versions,
    write_serving_config,
)
from .signatures import Servable


def export_saved_model(
    model: keras.Model,
    spec: FeatureSpec,
    directory: StrPath,
    *,
    version: int | None = None,
    records: Iterable[bytes] = (),
    calibration: Calibration | None = None,
    keep: int | None = None,
    max_batch_size: int | None = None,
) -> Path:
    """Writes the next version of a servable model, if it answers as the model does.

    The version is written under a temporary name in the same directory. A new process
    without Keras loads it as TF Serving does, by TensorFlow's C++ SavedModel session
    loader, and replays recorded requests to each signature (`Servable` lists them);
    the answers must equal the model's to 1e-6 (`verify_saved_model` says when to
    less). Only then it gets its number. A model that computes in half precision is
    served in float32.

    Args:
        model: A model of `edcn_tf.models`, or any Keras model, ids to probability.
        spec: Its `FeatureSpec`.
        directory: The model's base directory, which holds a directory a version and
            gets `models.config` and `monitoring.config` where they are not there yet.
        version: Its number; one more than the highest by default.
        records: Serialized tf.Examples to replay, such as rows of the validation
            split. Rows with missing, unseen and extreme values are always replayed.
        calibration: `Calibration` of the probability; none by default.
        keep: Remove all but so many of the newest versions in the end, and those that
            `models.config` names by their numbers, which are served.
        max_batch_size: Have requests that arrive together scored as one, of so many
            rows at most; by default each is scored alone. A request may have more.

    Returns:
        The path of the version's directory.

    Raises:
        InputError: If the version exists, would not be one of those that are kept, or
            does not answer as the model does.
    """
    calibration = calibration or Calibration()

    def write(partial: Path, sizes: Sequence[int]) -> None:
        of_model = model, spec, calibration, records
        _write(*of_model, partial, sizes, max_batch_size)

    return _export(write, directory, version, keep, max_batch_size)


def export_run(
    run: StrPath,
    directory: StrPath,
    *,
    version: int | None = None,
    keep: int | None = None,
    max_batch_size: int | None = None,
) -> Path:
    """`export_saved_model` of a run's best model, with its calibration and sample."""
    sample = Run(run).sample
    if not sample.exists():
        raise InputError(f"{run}: holds no finished run ({sample.name})")

    def write(partial: Path, sizes: Sequence[int]) -> None:
        records = [record.numpy() for record in record_dataset(sample)]
        of_run = *load_run(run), load_calibration(run), records
        _write(*of_run, partial, sizes, max_batch_size)

    return _export(write, directory, version, keep, max_batch_size)


def _export(
    write: Callable[[Path, Sequence[int]], None],
    directory: StrPath,
    version: int | None,
    keep: int | None,
    max_batch_size: int | None,
) -> Path:
    """Has a version written, proves it and gives it its number."""
    directory = Path(directory)
    refuse_version_as_base(directory)
    numbers = {"version": version, "keep": keep, "max_batch_size": max_batch_size}
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise InputError(f"{name} is a number of at least 1. Received: {number}")
    if version is not None:
        refuse_published(directory, version)
        newer = [number for number in versions(directory) if number > version]
        if keep is not None and len(newer) >= keep:
            raise InputError(
                f"{directory}: version {version} would not be among the newest {keep}, "
                f"which are kept; the newest there is {newer[-1]}"
            )
    named = set() if keep is None else named_versions(directory)
    limits = max_batch_size, most_batched_by_server(directory), BATCH_SIZES[-1]
    sizes = batch_sizes(min(limit for limit in limits if limit is not None))
    with partial_directory(directory / "next") as partial:
        write(partial, sizes)
        gc.collect()  # a Keras model has cycles; the verifying process has its own copy
        verify_saved_model(partial)
        write_serving_config(directory)
        published = publish_version(partial, directory, version)
    if keep is not None:
        # Somebody may have gone back to one since the export began.
        keep_newest(directory, keep, named | named_versions(directory))
    return published


def _write(
    model: keras.Model,
    spec: FeatureSpec,
    calibration: Calibration,
    records: Iterable[bytes],
    partial: Path,
    sizes: Sequence[int] = BATCH_SIZES,
    max_batch_size: int | None = None,
) -> None:
    """Writes all of a version, with warm-up requests of these numbers of rows."""
    model = in_float32(model)
    servable = Servable(model, Encoder(spec), calibration, max_batch_size)
    tf.saved_model.save(
        servable,
        str(partial),
        signatures=servable.served,
        options=tf.saved_model.SaveOptions(save_debug_info=False),
    )
    _name_methods(partial)
    extra = partial / "assets.extra"
    extra.mkdir()
    record(extra, servable, model, list(records), sizes)


def in_float32(model: keras.Model) -> keras.Model:
    """A `ClickModel` of the same weights that computes in float32."""
    if not isinstance(model, ClickModel) or model.compute_dtype == "float32":
        return model
    config = {**model.get_config(), "dtype": "float32"}
    twin = type(model).from_config(config)
    twin.build((None, model.embedding.num_slots))
    for to, weight in zip(twin.weights, model.weights, strict=True):
        to.assign(weight)
    return twin


def _name_methods(version: Path) -> None:
    """Says which signatures are for which API, for servers that look at it."""
    methods = tf.compat.v1.saved_model.signature_constants
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(
        str(version)
    )
    updater.replace_method_name("classify", methods.CLASSIFY_METHOD_NAME, "serve")
    updater.replace_method_name("regress", methods.REGRESS_METHOD_NAME, "serve")
    updater.save()


def verify_saved_model(version: StrPath) -> dict[str, Any]:
    """Loads a version in a new process without Keras and replays its requests.

    Args:
        version: The version's directory.

    Returns:
        A dict: `largest_difference` from the scores of training time, the `tolerance`
        (1e-6, or eight times what the model's own scores differ by between batch sizes
        if that is more, and 1e-4 at most), `signatures`, and how many `requests` and
        `warm_up_requests` were replayed.

    Raises:
        InputError: If it does not load, a request fails, or an answer differs by
            more than the tolerance; with the signature, the row and the field.
    """
    if not (Path(version) / "saved_model.pb").exists():
        raise InputError(f"{version}: holds no SavedModel (saved_model.pb)")
    extra = Path(version) / "assets.extra"
    stored = [extra / RECORDED, extra / WARM_UP]
    refuse_damaged(path for path in stored if path.exists())
    # By its file name: as a module of the package it would import Keras.
    result = subprocess.run(
        [sys.executable, verification.__file__, str(version)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit status {result.returncode}"
        raise InputError(f"{version}: failed verification: {reason}")
    return json.loads(result.stdout.strip().splitlines()[-1])
