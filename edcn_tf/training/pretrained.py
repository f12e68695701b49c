"""Embeddings that were trained elsewhere, put into a model's table by value."""

import dataclasses
import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import tensorflow as tf

from edcn_tf.errors import InputError
from edcn_tf.features.encoder import MISSING, Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.field import Field
from edcn_tf.files import StrPath
from edcn_tf.layers import FieldEmbedding
from edcn_tf.logs import opening
from edcn_tf.logs.formats import TEXT
from edcn_tf.logs.normalizing import check_once, normalize
from edcn_tf.logs.text import header, read_text
from edcn_tf.schema import Schema

BATCH_NUMBERS = 1 << 22  # of Parquet in one batch


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """What `load_pretrained` did.

    Attributes:
        vocabulary_rows: Values of the field that have a row of the table.
        rows_set: Those of them that were set.
        passed_over: Rows of the file whose value has no row of the table.
        rows: `[rows_set]` int, their ids.
    """

    vocabulary_rows: int
    rows_set: int
    passed_over: int
    rows: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)


def load_pretrained(
    embedding: FieldEmbedding,
    spec: FeatureSpec,
    field: str,
    path: StrPath,
    only: np.ndarray | None = None,
) -> Pretrained:
    """Puts a file's embeddings of a field's values into the rows of these values.

    The file is CSV or TSV with a header line (`.csv`, `.tsv`, also `.gz` and `.zst`),
    or Parquet (`.parquet`). Its first column holds the values, each once. The others
    hold the numbers: D columns, or one column of lists (in text, of numbers with
    spaces between them). It is read batch by batch, and the table is not copied.

    Values of the file that are not in the vocabulary are passed over; rows of values
    that the file does not have stay as they are, like those of missing and unseen
    values.

    Args:
        embedding: The model's `FieldEmbedding`, built.
        spec: The `FeatureSpec` that the model was made for.
        field: Name of a field with a vocabulary; a list's values are those in it.
        path: The file's name.
        only: `[spec.num_rows]` bool, the rows of the table that may be set, as by
            `edcn_tf.training.warm_start` those that no run has trained yet; by default
            all.

    Returns:
        `Pretrained`.

    Raises:
        InputError: If the file cannot be read, has other rows than that, or none of
            its values is in the vocabulary; or the field has no vocabulary. Rows of
            the table may have been set by then.
        ValueError: If the model was not made for `spec`.

    Example:
        >>> model.build((None, spec.num_slots))
        >>> told = load_pretrained(model.embedding, spec, "item", "item2vec.parquet")
        >>> print(f"{told.rows_set} of {told.vocabulary_rows} items")
    """
    path, own = str(path), _spec_of(spec, field)
    if embedding.num_rows != spec.num_rows:
        raise ValueError(
            f"The model has {embedding.num_rows} rows, not the {spec.num_rows} of the "
            "FeatureSpec: it was made for another one"
        )
    # The encoder's own table, so that a value has the row that training gives it.
    encoder = Encoder(FeatureSpec(spec.directory, spec.schema, [own]))
    width = embedding.width_of(field)
    known = np.zeros(own.offset + own.rows - own.first_value, bool)
    rows_set, rows, first_value = [], 0, None
    for batch in _batches(path, width):
        try:
            values = _values(batch, own.field, path, rows + 1)
            numbers = _numbers(batch, width)
            places = _places(encoder.tables.get(field), values, own.field.dtype)
            found = np.flatnonzero(places >= 0)
            _mark(known, places, found, values)
        except _BadRow as bad:
            raise InputError(
                f"{path}: row {rows + 1 + bad.row}, field {field!r}: {bad}"
            ) from None
        chosen = own.first_value + places[found]
        if only is not None:
            found, chosen = found[only[chosen]], chosen[only[chosen]]
        rows_set.append(chosen)
        embedding.set_rows(field, chosen, numbers[found])
        first_value = first_value if rows else values[0].as_py()
        rows += batch.num_rows
    if not rows:
        raise InputError(f"{path}: has no rows for field {field!r}")
    if not known.any():
        raise InputError(
            f"{path}: none of its values is in the vocabulary of field {field!r}; is "
            f"it the file of another field? It begins with {first_value!r}, the "
            f"vocabulary with {_first_line(own.vocabulary)!r}"
        )
    chosen = np.concatenate(rows_set)
    return Pretrained(len(known), len(chosen), rows - int(known.sum()), chosen)


def _spec_of(spec, field):
    """The `FieldSpec` of a field that has a vocabulary."""
    specs = {own.field.name: own for own in spec.fields}
    if field not in specs:
        raise InputError(f"There is no field {field!r}; the fields are {list(specs)}")
    if not specs[field].vocabulary:
        able = [name for name, own in specs.items() if own.vocabulary]
        kind = "hashed" if specs[field].field.hash_buckets else "numeric"
        if specs[field].statistic:
            kind = "a statistic"
        raise InputError(
            f"Field {field!r} is {kind}: its rows are not those of single values; "
            f"choose one of {able}"
        )
    return specs[field]


class _BadRow(Exception):
    def __init__(self, message, row):
        super().__init__(message)
        self.row = row


def _batches(path, width):
    """The file as `RecordBatch`es; of text, all columns are strings."""
    name = path.lower().removesuffix(".gz").removesuffix(".zst")
    form = os.path.splitext(name)[1].removeprefix(".")
    if form not in ("csv", "tsv", "parquet"):
        raise InputError(
            f"{path}: must be named .csv, .tsv (also .gz, .zst) or .parquet"
        )
    if opening.is_remote(path):  # a setting of a run, which may be another's
        raise InputError(f"{path}: cannot be read: it is no file of this machine")
    with opening.input_errors(path, form):
        if form == "parquet":
            with pa.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(max(1, BATCH_NUMBERS // width)):
                    if batch.num_rows:
                        yield batch
            return
        # Vectors come from pandas or Arrow, which quote in a TSV as well.
        text = dataclasses.replace(TEXT[form], quote='"')
        names = _names(path, text)
        check_once(path, names, names)
        yield from read_text(path, text, names, lambda _: None)


def _names(path, text):
    """Names of a text's columns, as Arrow reads its header line."""
    options = {
        "read_options": pa.csv.ReadOptions(
            block_size=opening.BLOCK_BYTES, use_threads=False
        ),
        "parse_options": pa.csv.ParseOptions(
            delimiter=text.delimiter, newlines_in_values=True
        ),
    }
    with opening.opened(path) as (stream, _):
        try:
            return pa.csv.open_csv(stream, **options).schema.names
        except pa.ArrowInvalid:  # of rows, which `read_text` tells in a line
            return header(path, text)
        except UnicodeDecodeError:
            raise InputError(f"{path}: its header line is not UTF-8") from None


def _values(batch, field, path, first_row):
    """The first column, of the field's type, null where there is no value."""
    # As a log's column of that name, so that both are understood alike.
    single = Field(name=field.name, dtype=field.dtype)
    column = pa.RecordBatch.from_arrays([batch.column(0)], [field.name])
    schema = Schema(label="no column", fields=[single])
    return normalize(column, schema, [field.name], path, first_row).column(0)


def _numbers(batch, width):
    """The other columns, `[rows, width]` float32."""
    columns = batch.columns[1:]
    if len(columns) == 1:
        [column] = columns
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if _is_text(column.type):
            column = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(column))
        if _is_list(column.type):
            return _of_lists(column, width)
    if len(columns) != width:
        raise _BadRow(_unequal(len(columns), width), 0)
    return np.stack([_floats(column) for column in columns], axis=1)


def _of_lists(column, width):
    """`[rows, width]` float32 of a column of lists."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    unequal = np.flatnonzero(lengths != width)
    if len(unequal):
        raise _BadRow(_unequal(lengths[unequal[0]], width), unequal[0])
    try:
        return _floats(column.flatten()).reshape(-1, width)
    except _BadRow as bad:
        raise _BadRow(str(bad), bad.row // width) from None


def _unequal(number, width):
    if not number:
        return f"has no numbers, but the model's embeddings have {width}"
    return (
        f"has {number} numbers, but the model's embeddings have {width}; set "
        f"embedding_dim to {number}, or give rows of {width} numbers"
    )


def _floats(column):
    """float32 numbers of an array in which each must be one, and finite."""
    if _is_text(column.type):
        column = pc.utf8_trim_whitespace(column)
    try:
        numbers = _cast(column)
    except pa.ArrowInvalid:
        row = next(i for i in range(len(column)) if not _is_number(column[i : i + 1]))
        raise _BadRow(_no_number(column[row]), row) from None
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise _BadRow(_no_number(column[wrong[0]]), wrong[0])
    return numbers


def _cast(column):
    # By way of float64, as float32 need not hold a number as it is written.
    try:
        numbers = pc.cast(pc.cast(column, pa.float64(), False), pa.float32(), False)
    except pa.ArrowNotImplementedError:
        raise _BadRow(f"expected numbers. Received: {column.type}", 0) from None
    return numbers.to_numpy(zero_copy_only=False)  # null is NaN


def _is_number(column):
    try:
        _cast(column)
    except pa.ArrowInvalid:
        return False
    return True


def _no_number(value):
    return f"expected a number that is finite. Received: {value.as_py()!r}"


def _is_text(kind):
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list(kind):
    return (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
    )


def _places(table, values, dtype):
    """Line of each value in the vocabulary, -1 where it has none, `[rows]` int64."""
    if table is None:  # the vocabulary is empty
        return np.full(len(values), -1)
    present = values.is_valid().to_numpy(zero_copy_only=False)
    filled = values.fill_null(MISSING[dtype]).to_numpy(zero_copy_only=False)
    return np.where(present, table.lookup(tf.constant(filled)).numpy(), -1)


def _mark(known, places, found, values):
    """Sets `known` at the places found, each of which must be new."""
    places = places[found]
    twice, order = known[places], np.argsort(places, kind="stable")
    twice[order[1:]] |= places[order[1:]] == places[order[:-1]]
    if twice.any():
        row = found[twice.argmax()]
        value = values[row].as_py()
        raise _BadRow(f"keep one row of each value. Received: {value!r} again", row)
    known[places] = True


def _first_line(path):
    with open(path, encoding="utf-8") as file:
        return file.readline().rstrip("\n")
