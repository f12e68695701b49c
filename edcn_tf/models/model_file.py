"""Models from `.keras` files, which are data: nothing in them is run."""

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import keras

from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import StrPath
from edcn_tf.models import ClickModel

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
LARGEST_CONFIG = 1 << 24  # bytes
# What a file may name beside registered classes: no function, and no layer that holds
# code or reads files (Lambda, TFSMLayer, StringLookup, ...).
KERAS_MODULES = ("keras.initializers", "keras.regularizers", "keras.constraints")
KERAS_CLASSES = {
    "keras": ("DTypePolicy",),
    "keras.layers": (
        *("Activation", "BatchNormalization", "Dense", "Dropout", "EinsumDense", "ELU"),
        *("LayerNormalization", "LeakyReLU", "PReLU", "ReLU", "RMSNormalization"),
        *("Softmax", "SpectralNormalization"),
    ),
}


def load_model_file(path: StrPath, spec: FeatureSpec) -> ClickModel:
    """A model that `edcn train` saved, without its optimizer, as it is served.

    At the cost of one copy of the model: `keras.saving.load_model` would hold three.

    Args:
        path: The file.
        spec: The `FeatureSpec` that the model was made for.

    Raises:
        InputError: If the file is damaged, holds another model than one of
            `edcn_tf.models` for `spec`, or names code that Keras has not registered.
    """
    with _opened(path) as archive:
        return _with_weights(_made(archive, spec), archive, os.path.dirname(path))


def unbuilt_model(path: StrPath, spec: FeatureSpec) -> ClickModel:
    """The same model without weights, with the L2 that it was trained with.

    Raises:
        InputError: As `load_model_file`.
    """
    with _opened(path) as archive:
        return _made(archive, spec)


@contextlib.contextmanager
def _opened(path: StrPath) -> Iterator[zipfile.ZipFile]:
    """The file; whatever is wrong with it is an `InputError` that names it."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except MemoryError:
        raise
    except Exception as error:  # Keras raises whatever the damage leads to
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be loaded as a model ({reason})") from None


def _made(archive: zipfile.ZipFile, spec: FeatureSpec) -> ClickModel:
    config = json.loads(_read(archive, CONFIG))
    _check_names(config)
    config = {k: config[k] for k in ("module", "class_name", "registered_name")} | {
        "config": {**config["config"], "dtype": "float32"}  # served, whatever trained
    }
    model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    if not isinstance(model, ClickModel):
        raise ValueError(f"holds a {type(model).__name__}, no model of edcn_tf")
    if model.spec != {"fields": spec.layout(), "num_rows": spec.num_rows}:
        raise ValueError("was made for other features than those beside it")
    return model


def _with_weights(
    model: ClickModel, archive: zipfile.ZipFile, folder: str
) -> ClickModel:
    # Built here, without initial weights and without the counts of its L2, which only
    # training needs.
    weights = archive.getinfo(WEIGHTS)
    for embedding in model.embeddings:
        embedding.embeddings_initializer = keras.initializers.Zeros()
        embedding.l2 = 0.0
        # Before the memory is asked for.
        tables = (group.rows * group.width for group in embedding.groups)
        if 4 * sum(tables) > weights.file_size:
            raise ValueError("has fewer weights than its table needs")
    model.build((None, model.embedding.num_slots))
    with tempfile.TemporaryDirectory(dir=folder) as unpacked:
        model.load_weights(_extract(archive, weights, unpacked))
    return model


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        content = file.read(LARGEST_CONFIG + 1)
    if len(content) > LARGEST_CONFIG:
        raise ValueError(f"{name} is larger than {LARGEST_CONFIG} bytes")
    return content


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: str) -> str:
    # Keras does not compress, so that little cannot become much.
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{entry.filename} is compressed")
    return archive.extract(entry, folder)


def _check_names(config: Any) -> None:
    """Raises a `ValueError` for the name of anything that must not be made."""
    if isinstance(config, list):
        for value in config:
            _check_names(value)
    if not isinstance(config, dict):
        return
    if "class_name" in config and not _may_be_made(config):
        raise ValueError(
            f"it names {config.get('module')}.{config['class_name']}, which is neither "
            "a class registered with Keras (import the module that has it) nor one of "
            "Keras' own that holds no code"
        )
    for value in config.values():
        _check_names(value)


def _may_be_made(config: dict[str, Any]) -> bool:
    module, name = config.get("module"), config["class_name"]
    registered = config.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        found = keras.saving.get_registered_object(registered)
        return isinstance(found, type) and found.__name__ == name
    return module in KERAS_MODULES or name in KERAS_CLASSES.get(str(module), ())
