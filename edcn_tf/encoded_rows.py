"""Rows that are encoded once, for those who train on them many times."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from edcn_tf.console import progress_bar
from edcn_tf.encoder import Encoder
from edcn_tf.files import new_directory
from edcn_tf.input_pipeline import READ_BYTES, batches, read_records, reading
from edcn_tf.records import record_files
from edcn_tf.vocabulary import FeatureSpec

SPLITS = ("train", "valid")
ROWS = 8192  # that are encoded at once


def encode_rows(data, out):
    """Encodes the training and the validation split of prepared data.

    Of each TFRecord file one of the same name with `.ids` after it: a row is its S ids
    (int32), its label and, with a weight in the schema, its weight (float32), in the
    byte order of this machine.

    Args:
        data: Directory that `prepare` made.
        out: A new directory.

    Raises:
        InputError: If a split is missing, a record is damaged or `out` exists.
    """
    spec = FeatureSpec.load(f"{data}/features")
    encoder = Encoder(spec)
    files = [
        Path(file)
        for split in SPLITS
        for file in record_files(f"{data}/{split}-*.tfrecord*")
    ]
    size = sum(file.stat().st_size for file in files)
    with new_directory(out) as partial, progress_bar("Encoding", size) as bar:
        for file in files:
            with open(partial / f"{file.name}.ids", "wb") as encoded:
                with reading(str(file), spec):
                    for ids, *rest in read_records(
                        str(file), spec, ROWS, encoder=encoder
                    ):
                        columns = [column.numpy().view(np.int32) for column in rest]
                        encoded.write(np.column_stack([ids.numpy(), *columns]).data)
            bar.update(file.stat().st_size)


def read_encoded(pattern, spec, batch_size, *, shuffle=False, seed=None, epoch=None):
    """The batches that `read_records` gives, from files of `encode_rows`.

    In the same order, and without parsing.

    Args:
        pattern: Glob pattern of the files, such as `"cache/train-*.ids"`.
        spec, batch_size, shuffle, seed, epoch: As for `read_records`.
    """
    columns = 2 if spec.schema.weight else 1
    width = spec.num_slots + columns

    def read(path):
        return tf.data.FixedLengthRecordDataset(path, 4 * width, buffer_size=READ_BYTES)

    def decode(rows):
        cells = tf.ensure_shape(tf.io.decode_raw(rows, tf.int32), [None, width])
        numbers = tf.bitcast(cells[:, spec.num_slots :], tf.float32)
        return cells[:, : spec.num_slots], *tf.unstack(numbers, columns, axis=1)

    files = record_files(pattern)
    return batches(
        files, read, decode, batch_size, shuffle=shuffle, seed=seed, epoch=epoch
    )
