"""Rows that are encoded once, for those who train on them many times."""

import contextlib
import itertools
import os
import zlib
from pathlib import Path

import numpy as np
import tensorflow as tf

from edcn_tf.choices import SPLITS
from edcn_tf.console import progress_bar
from edcn_tf.directories import EncodedRows, PreparedData
from edcn_tf.errors import InputError
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import new_directory, read_json, remembered, write_json
from edcn_tf.models.distribution import PEER_ERRORS
from edcn_tf.records.reading import (
    READ_BYTES,
    batches,
    check_rows,
    read_records,
    reading,
)
from edcn_tf.records.writing import record_files, refuse_empty

TRAINING_SPLITS = SPLITS[:2]  # that training reads
ROWS = 8192  # that are encoded at once


def encode_rows(data, out):
    """Encodes the training and the validation split of prepared data.

    Of each TFRecord file one of the same name with `.ids` after it: a row is its S ids
    (int32), its label and, with a weight in the schema, its weight (float32), in the
    byte order of this machine. Their checksums are in a file beside them.

    Args:
        data: Directory that `prepare` made.
        out: A new directory.

    Raises:
        InputError: If a split is missing, a record is bad or `out` exists.
    """
    data = PreparedData(data)
    spec = FeatureSpec.load(data.features)
    encoder = Encoder(spec)
    files = {split: record_files(data.records(split)) for split in TRAINING_SPLITS}
    size = sum(os.path.getsize(file) for file in itertools.chain(*files.values()))
    checksums = {}
    with new_directory(out) as partial, progress_bar("Encoding", size) as bar:
        for split in TRAINING_SPLITS:
            rows, found = data.rows(split), 0
            with reading(files[split], spec, rows, counted=split == "train"):
                for file in files[split]:
                    path = EncodedRows(partial).file_of(file)
                    with open(path, "wb") as encoded:
                        number, checksum = _encode(
                            file, spec, encoder, encoded, split == "train"
                        )
                    found, checksums[path.name] = found + number, checksum
                    bar.update(os.path.getsize(file))
                check_rows(found, rows)
        write_json(EncodedRows(partial).checksums, checksums)


def _encode(file, spec, encoder, out, counted):
    """Writes a file's rows; returns how many they are, and their checksum."""
    rows = checksum = 0
    for ids, *rest in read_records(file, spec, ROWS, encoder=encoder, counted=counted):
        columns = [column.numpy().view(np.int32) for column in rest]
        cells = np.column_stack([ids.numpy(), *columns]).data
        out.write(cells)
        checksum = zlib.crc32(cells, checksum)
        rows += len(ids)
    return rows, checksum


def read_encoded(pattern, spec, batch_size, *, shuffle=False, seed=None, epoch=None):
    """The batches that `read_records` gives, from files of `encode_rows`.

    In the same order, and without parsing.

    Args:
        pattern: Glob pattern of the files, such as `"cache/train-*.ids"`.
        spec, batch_size, shuffle, seed, epoch: As for `read_records`.

    Raises:
        InputError: If there is no such file, or one is not as it was written.
    """
    columns = _other_columns(spec)
    width = spec.num_slots + columns

    def read(path):
        return tf.data.FixedLengthRecordDataset(path, 4 * width, buffer_size=READ_BYTES)

    def decode(rows):
        cells = tf.ensure_shape(tf.io.decode_raw(rows, tf.int32), [None, width])
        numbers = tf.bitcast(cells[:, spec.num_slots :], tf.float32)
        return cells[:, : spec.num_slots], *tf.unstack(numbers, columns, axis=1)

    files = record_files(pattern)
    refuse_empty(files)
    _refuse_changed(files)
    return batches(
        files, read, decode, batch_size, shuffle=shuffle, seed=seed, epoch=epoch
    )


@contextlib.contextmanager
def reading_encoded(pattern, spec, rows):
    """Turns TensorFlow's error over files of encoded rows into an `InputError`.

    Args:
        pattern: Glob pattern of the files.
        spec: The `FeatureSpec`.
        rows: How many they are to hold together.
    """
    try:
        yield
    except PEER_ERRORS:
        raise
    except tf.errors.OpError as error:
        found = 0
        for path in record_files(pattern):
            in_file = _sound_rows(path, spec)
            if in_file is None:
                raise _damaged(path) from error
            found += in_file
        if found != rows:
            raise InputError(
                f"{pattern}: there are {found:,} rows, and {rows:,} were prepared; "
                "encode the rows again, into another directory"
            ) from error
        raise


def _sound_rows(path, spec):
    """How many rows a file has; None if they are not whole, or no rows of the table."""
    width = spec.num_slots + _other_columns(spec)
    if os.path.getsize(path) % (4 * width):
        return None
    cells = np.memmap(path, np.int32, "r").reshape(-1, width)
    for start in range(0, len(cells), ROWS):
        ids = cells[start : start + ROWS, : spec.num_slots][:, spec.id_slots()]
        if ids.min() < 0 or ids.max() >= spec.num_rows:
            return None
    return len(cells)


def _refuse_changed(files):
    """Raises an `InputError` for a file that is not as `encode_rows` wrote it."""
    folders = {Path(path).parent: {} for path in files}
    for folder, stored in folders.items():
        checksums = EncodedRows(folder).checksums
        if checksums.exists() and isinstance(found := read_json(checksums), dict):
            stored.update(found)
    for path in map(Path, files):
        if folders[path.parent].get(path.name) != _checksum(str(path)):
            raise _damaged(path)


@remembered
def _checksum(path):
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _damaged(path):
    return InputError(
        f"{path}: is damaged; remove {Path(path).parent} and encode the rows again, as "
        "`edcn tune` then does by itself"
    )


def _other_columns(spec):
    """Label and, with one in the schema, weight."""
    return 2 if spec.schema.weight else 1
