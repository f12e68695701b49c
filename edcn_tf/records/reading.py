"""TFRecord files to a `tf.data` of ids and labels."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import tensorflow as tf

from edcn_tf.errors import InputError
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.field import MISSING
from edcn_tf.files import StrPath
from edcn_tf.framing import refuse_damaged
from edcn_tf.models.distribution import PEER_ERRORS
from edcn_tf.records.checking import check_records
from edcn_tf.records.parsing import parsed, parsing_of
from edcn_tf.records.writing import record_files, refuse_empty

SHUFFLE_ROWS = 1 << 17  # a window, within which rows are shuffled
SHUFFLE_SLOTS = 1 << 26  # of a window at most: 256 MiB
PARSE_ROWS = 1 << 10  # records that are parsed at once, of one file
EPOCHS = 1 << 32  # more than a training has
READ_BYTES = 1 << 20  # read from a file at once


def read_records(
    pattern: str | Iterable[StrPath],
    spec: FeatureSpec,
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int | None = None,
    epoch: int | tf.Tensor | tf.Variable | None = None,
    group: bool = False,
    encoder: Encoder | None = None,
    shard: tuple[int, int] | None = None,
    skip_corrupt: int | None = None,
    counted: bool = False,
) -> tf.data.Dataset:
    """Reads TFRecord files of tf.Example as batches of ids and labels.

    The files may come from `edcn prepare` or from any other producer whose
    tf.Examples fit the schema.

    Args:
        pattern: Glob pattern of the files, or a list of patterns; plain, or packed as
            GZIP.
        spec: The `FeatureSpec`.
        batch_size: Rows a batch; the last one of an epoch may have fewer.
        shuffle: Whether to read files and rows in another order each epoch (rows
            within a window of 131,072, or of 256 MiB if these are more).
        seed: Makes the shuffled order repeatable.
        epoch: Number of the epoch, an int64 scalar or a `tf.Variable` of one, whose
            value counts when the data set is iterated over. The order then follows
            from `seed`, which must be given, and `epoch` alone, so that training that
            was interrupted goes on in the order that it would have had.
        group: Whether to add the group column, as int64 (a hash for strings).
        encoder: The `Encoder` to use, to share one; made from `spec` otherwise.
        shard: `(index, number)`, to read only this one of so many equal parts of the
            rows: whole files where they share out evenly, otherwise every
            number-th row of each file. Together the parts are all rows.
        skip_corrupt: Number of bad records to pass over at most. All records are then
            looked at first (`edcn_tf.records.checking.check_records`, which also tells
            how many were bad). With 0 that is a check, which sees more than reading
            does: to TensorFlow a file that is cut within the 12 bytes before a record
            just ends there.
        counted: Whether every record has to hold the schema's statistics, as those of
            the training split must; others are looked up where they do not.

    Returns:
        `tf.data.Dataset` of `(ids [B, S] int32, label [B] float32)`; with a weight in
        the schema `(ids, label, weight [B] float32)`; with `group` one element more,
        `[B]` int64, at the end.

    Under `MultiWorkerMirroredStrategy`, `fit` of a data set without `shard` gives each
    worker its part of each batch, at the cost that all workers read all rows; with
    `shuffle` they need the same `seed`, and the same global one of
    `keras.utils.set_random_seed`.

    Raises:
        InputError: If no file matches or one is empty, a length in one cannot be
            (`edcn_tf.framing`), there are more than `skip_corrupt` bad records, or
            `group` is asked for and the schema has none. While reading,
            `tf.errors.OpError` for a damaged or unfit record; `reading` names it.
    """
    files = record_files(pattern)
    schema = spec.schema
    if group and schema.group is None:
        raise InputError("The schema names no `group` column")
    if skip_corrupt is not None:
        files = check_records(
            files, spec, group=group, allowed=skip_corrupt, counted=counted
        ).files
    part, shard = _part(files, shard)
    refuse_empty(part)
    sound = sound_files(part)
    encoder = encoder or Encoder(spec)
    parsing = parsing_of(schema, group)

    @tf.autograph.experimental.do_not_convert
    def decode(records: tf.Tensor) -> tuple[tf.Tensor, ...]:
        columns = parsed(records, parsing, schema, counted)
        row = [encoder(columns), tf.cast(columns[schema.label], tf.float32)]
        if schema.weight:
            row.append(columns[schema.weight])
        if group:
            row.append(_group_key(columns[schema.group]))
        return tuple(row)

    return batches(
        sound,
        read_file,
        decode,
        batch_size,
        shuffle=shuffle,
        seed=seed,
        epoch=epoch,
        shard=shard,
    )


def sound_files(paths: Sequence[str]) -> list[tuple[str, str]]:
    """The files with their packing, whose frames were looked at: for `read_file`.

    Raises:
        InputError: If one is damaged.
    """
    framings = refuse_damaged(paths)
    return [(path, framing.compression) for path, framing in zip(paths, framings)]


def read_file(file: tf.Tensor) -> tf.data.Dataset:
    """The records of one of `sound_files`, for `batches`."""
    return tf.data.TFRecordDataset(file[0], file[1], buffer_size=READ_BYTES)


def batches(
    files: Sequence[str] | Sequence[tuple[str, ...]],
    read: Callable[[tf.Tensor], tf.data.Dataset],
    decode: Callable[[tf.Tensor], tuple[tf.Tensor, ...]],
    batch_size: int,
    *,
    shuffle: bool,
    seed: int | None,
    epoch: int | tf.Tensor | tf.Variable | None = None,
    shard: tuple[int, int] | None = None,
) -> tf.data.Dataset:
    """Batches of the rows of files, in an order that hangs on nothing but the files.

    Args:
        files: Paths, or tuples of a path and what else `read` has to know.
        read: Function of one of these to a data set of its records, one a row.
        decode: Function of a batch of records to a tuple of columns.
        batch_size, shuffle, seed, epoch: As for `read_records`.
        shard: `(index, number)`, to read only every number-th row of each file.
    """
    if epoch is not None and seed is None:
        raise ValueError("`epoch` needs a `seed`, from which the order follows")

    def read_part(file: tf.Tensor) -> tf.data.Dataset:
        rows = read(file)
        if shard is not None:
            rows = rows.shard(shard[1], shard[0])
        return rows.batch(PARSE_ROWS)

    dataset = tf.data.Dataset.from_tensor_slices(files)
    if shuffle:
        dataset = _shuffled_files(dataset, len(files), seed, epoch)
    dataset = dataset.interleave(
        read_part,
        cycle_length=min(len(files), 16),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    ).map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    if shuffle:
        dataset = _shuffled(dataset, seed, epoch)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return dataset.rebatch(batch_size).prefetch(tf.data.AUTOTUNE).with_options(options)


def _part(
    files: Sequence[str], shard: tuple[int, int] | None
) -> tuple[Sequence[str], tuple[int, int] | None]:
    """Files of one part, and which of their rows: `(index, number)` or None for all."""
    if shard is None:
        return files, None
    index, number = shard
    if not 0 <= index < number:
        raise ValueError(
            "`shard` must be (index, number) with index in [0, number). "
            f"Received: {shard}"
        )
    length = {path: tf.io.gfile.stat(path).length for path in files}
    by_length = sorted(files, key=length.__getitem__)
    parts = [by_length[i::number] for i in range(number)]
    sizes = [sum(length[path] for path in part) for part in parts]
    # Who has fewer rows has none for the last steps of an epoch.
    if min(sizes) >= 0.99 * max(sizes):
        return parts[index], None
    return files, shard


def _shuffled_files(
    dataset: tf.data.Dataset,
    number: int,
    seed: int | None,
    epoch: int | tf.Tensor | tf.Variable | None,
) -> tf.data.Dataset:
    if epoch is None:
        return dataset.shuffle(number, seed=seed)

    def permute(files: tf.Tensor) -> tf.Tensor:
        return tf.random.experimental.stateless_shuffle(files, [seed, _number(epoch)])

    return dataset.batch(number).map(permute).unbatch()


def _shuffled(
    dataset: tf.data.Dataset,
    seed: int | None,
    epoch: int | tf.Tensor | tf.Variable | None,
) -> tf.data.Dataset:
    """Shuffles rows within windows, each epoch anew.

    Of encoded rows, which are small, and by one permutation a window: three times as
    fast as `Dataset.shuffle`, which handles record by record.
    """
    if epoch is None:
        seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(2)
    else:
        seeds = tf.data.Dataset.counter(1).map(
            # Of an epoch: 0 is its files, 1 its first window of rows, and so on.
            lambda window: tf.stack([seed, _number(epoch) + window * EPOCHS])
        )

    def permute(
        row: tuple[tf.Tensor, ...], window_seed: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        order = tf.range(tf.shape(row[0])[0])
        order = tf.random.experimental.stateless_shuffle(order, window_seed)
        return tuple(tf.gather(column, order) for column in row)

    slots = dataset.element_spec[0].shape[-1] or 1
    window = min(SHUFFLE_ROWS, max(1, SHUFFLE_SLOTS // slots))
    return tf.data.Dataset.zip((dataset.rebatch(window), seeds)).map(permute)


def _number(epoch: int | tf.Tensor | tf.Variable | None) -> tf.Tensor:
    return tf.cast(epoch, tf.int64)


def check_rows(found: int, rows: int | None) -> None:
    """Raises TensorFlow's error, for `reading` to explain, if rows are missing."""
    if rows is not None and found != rows:
        raise tf.errors.DataLossError(None, None, f"{found} rows instead of {rows}")


@contextlib.contextmanager
def reading(
    pattern: str | Iterable[StrPath],
    spec: FeatureSpec,
    rows: int | None = None,
    *,
    counted: bool = False,
) -> Iterator[None]:
    """Turns TensorFlow's error over a record into an `InputError` that names it.

    Finding the record means reading the files once more, so it is done only here,
    after an error.

    Args:
        pattern: Glob pattern of the files, or a list of patterns.
        spec: The `FeatureSpec`.
        rows: How many they are to hold together, where that is known.
        counted: As for `read_records`.
    """
    try:
        yield
    except PEER_ERRORS:
        raise
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        files = record_files(pattern)
        group = spec.schema.group is not None
        try:
            check_records(files, spec, group=group, prepared=rows, counted=counted)
        except InputError as explained:
            raise explained from error
        raise


def _group_key(values: tf.Tensor) -> tf.Tensor:
    """`[B]` int64, in which no group is `MISSING`."""
    if values.dtype == tf.string:
        # 2^63 buckets: two of a million groups share one with probability 1e-7.
        keys = tf.strings.to_hash_bucket_fast(values, 2**63 - 1)
        missing = tf.equal(values, "")
    elif values.dtype.is_floating:  # each number by itself; -0.0 is 0.0
        keys = tf.cast(tf.bitcast(values + 0.0, tf.int32), tf.int64)
        missing = tf.math.is_nan(values)
    else:  # which has the same missing value
        return tf.cast(values, tf.int64)
    return tf.where(missing, tf.constant(MISSING["int64"], tf.int64), keys)
