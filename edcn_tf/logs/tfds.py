"""The reader of TensorFlow Datasets names, `tfds:NAME` or `tfds:NAME[SPLIT]`."""

import os
import re

import numpy as np
import pyarrow as pa

from edcn_tf.errors import InputError
from edcn_tf.framing import record_dataset
from edcn_tf.logs import opening
from edcn_tf.logs.normalizing import MissingColumn


def files_of(path):
    """Name and rows of each record file of the data set, which is made if need be."""
    files = []
    for split in _splits(path)[1]:
        names = [str(file) for file in split.filepaths]
        for name in names:
            if ".tfrecord" not in os.path.basename(name):
                raise InputError(f"{path}: is stored as {name}, not as TFRecord")
        files += zip(names, split.shard_lengths, strict=True)
    return files


def read(path, file, columns):
    """Yields the rows of one file of `files_of`, or of all, as `pyarrow.RecordBatch`.

    Raises:
        InputError: If there is no such data set, split or column.
    """
    # Only here, so that reading files needs no TensorFlow.
    import tensorflow as tf

    features = _splits(path)[0].features
    stored = features.tf_example_spec
    if set(columns) - set(stored):
        raise MissingColumn(path, columns, list(stored))
    # A batch of records at a time: TFDS itself decodes them one by one.
    parsing = {
        name: tf.io.RaggedFeature(stored[name].dtype)
        if isinstance(stored[name], tf.io.FixedLenSequenceFeature)
        else stored[name]
        for name in columns
    }
    for name in [file] if file else [name for name, _ in files_of(path)]:
        for records in record_dataset(name).batch(opening.LOG_ROWS):
            batch = tf.io.parse_example(records, parsing)
            arrays = [
                _from_tensor(batch[name], path, name, _declared(features, name))
                for name in columns
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=columns)


def _splits(path):
    """What TFDS knows of the data set, and of the splits that are asked for."""
    import tensorflow_datasets as tfds

    import edcn_tf.logs.datasets  # noqa: F401 (registers our builders)

    match = re.fullmatch(r"tfds:([^\[\]]+)(?:\[(\w+)\])?", path)
    if not match:
        raise InputError(f"Expected tfds:NAME or tfds:NAME[SPLIT]. Received: {path}")
    name, split = match.groups()
    try:
        builder = tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
        builder.download_and_prepare()
    except InputError:
        raise
    except Exception as error:  # TFDS has no class of its own for what goes wrong
        reason = " ".join(str(error).split())[:500]
        raise InputError(f"{path}: TensorFlow Datasets: {reason}") from None
    splits = builder.info.splits
    if split and split not in splits:
        raise InputError(f"{path}: has no such split; it has {list(splits)}")
    return builder.info, [splits[one] for one in ([split] if split else splits)]


def _declared(features, name):
    """The type of a feature, which is stored as one of three that records have."""
    for part in name.split("/"):
        features = features[part]
    return np.dtype(features.np_dtype)


def _from_tensor(tensor, path, name, declared):
    def plain(tensor):
        values = tensor.numpy()
        # What records hold for these is 0 and 1, and what they are below zero.
        is_other = declared in (np.bool_, np.uint64)
        return pa.array(values.astype(declared) if is_other else values)

    if hasattr(tensor, "row_splits"):
        offsets = pa.array(tensor.row_splits.numpy(), pa.int32())
        return pa.ListArray.from_arrays(offsets, plain(tensor.flat_values))
    if tensor.shape.rank == 2:  # vectors of one length
        flat = pa.array(tensor.numpy().ravel())
        return pa.FixedSizeListArray.from_arrays(flat, tensor.shape[1])
    if tensor.shape.rank > 2:
        raise InputError(f"{path}: column {name!r} has the shape {tensor.shape[1:]}")
    return plain(tensor)
