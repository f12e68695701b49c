"""JSON lines, an object a row, as batches of the columns that are asked for."""

import io
import json
import re

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from edcn_tf.errors import InputError
from edcn_tf.files import remembered
from edcn_tf.logs import opening
from edcn_tf.logs.normalizing import MissingColumn
from edcn_tf.logs.values import EXACT, text_of_float

MANY_BYTES = 1 << 30  # Arrow's block must hold all that it is given
HALF = re.compile("[\ud800-\udfff]")


class AbsentKey(MissingColumn):
    """No line of a file has a key; all its lines were read, with null in its place.

    Args: As for `MissingColumn`.
    """


def read_json_lines(path, columns, progress):
    """Yields the rows of JSON lines as `pyarrow.RecordBatch`, null for an absent key.

    Args:
        path: The file's name.
        columns: Names of the keys to read.
        progress: Called with the number of bytes read since the last call.

    Raises:
        InputError: If a line is no JSON object; `AbsentKey`, after all lines, if none
            has one of the keys.
    """
    found, rows, done, reader = set(), 0, 0, _Reader(path, columns)
    with opening.opened(path) as (stream, file):
        for lines in _whole_lines(stream):
            batch, keys = reader(lines, rows + 1)
            rows += batch.num_rows
            found |= keys
            progress(file.tell() - done)
            done = file.tell()
            if batch.num_rows:
                yield batch
    if rows and set(columns) - found:
        present = reader.keys | found
        raise AbsentKey(path, [c for c in columns if c not in found], sorted(present))


def header(path):
    """The keys of the first row."""
    with opening.opened(path) as (stream, _):
        for lines in _whole_lines(stream):
            for line in lines.splitlines():
                if line.strip():
                    return list(_parsed(line, path, 1))
    return []


@remembered
def keys(path):
    """Each key that some row has, a set."""
    reader = _Reader(path, [])
    with opening.opened(path) as (stream, _):
        for lines in _whole_lines(stream):
            reader(lines, 1)
    return reader.keys


def _whole_lines(stream):
    """Blocks of bytes that end where a line does."""
    left = b""
    while chunk := stream.read(opening.BLOCK_BYTES):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield left + chunk[:end]
            left = chunk[end:]
        else:
            left += chunk
    if left.strip():
        yield left


class _Reader:
    """Reads blocks by Arrow, or line by line what Arrow would not read right.

    Arrow takes text that looks like a time for one, and a large whole number beside a
    fraction for the nearest float; and it wants one type of all rows of a block. Types
    that are known from earlier blocks are told to it, which spares the other keys.
    """

    def __init__(self, path, columns):
        self.path, self.columns = path, list(dict.fromkeys(columns))
        self.types, self.keys = {}, set()

    def __call__(self, lines, first_row):
        """A batch of all columns, and those that some row has."""
        rows = sum(1 for line in lines.split(b"\n") if line.strip())
        for types in [self.types, {}] if self.types else [{}]:
            try:
                table = self._by_arrow(lines, types)
            except (pa.ArrowInvalid, UnicodeDecodeError):
                continue
            if table.num_rows == rows and not any(map(_is_wrong, table.columns)):
                return self._batch(table)
        return self._by_line(lines, first_row)

    def _by_arrow(self, lines, types):
        lines.decode()  # which Arrow does not look at
        table = _read(lines, types, self.columns)
        self.keys.update(table.schema.names)
        times = {
            name: _with_text(table.schema.field(name).type)
            for name in self.columns
            if name in table.schema.names and _has_time(table.schema.field(name).type)
        }
        return _read(lines, {**types, **times}, self.columns) if times else table

    def _batch(self, table):
        arrays, keys = [], set()
        for name in self.columns:
            if name not in table.schema.names:
                arrays.append(pa.nulls(table.num_rows))
                continue
            column = table.column(name).combine_chunks()
            if isinstance(column, pa.ChunkedArray):
                column = pa.concat_arrays(column.chunks)
            arrays.append(column)
            if not pa.types.is_null(column.type):
                self.types[name] = column.type
            if name not in self.types or column.null_count < len(column):
                keys.add(name)
        return pa.RecordBatch.from_arrays(arrays, self.columns), keys

    def _by_line(self, lines, first_row):
        """Line by line, with every value as text."""
        objects = []
        for line in lines.split(b"\n"):
            if line.strip():
                objects.append(_parsed(line, self.path, first_row + len(objects)))
                self.keys.update(objects[-1])
        keys = {name for name in self.columns if any(name in row for row in objects)}
        arrays = [self._texts(objects, name, first_row) for name in self.columns]
        return pa.RecordBatch.from_arrays(arrays, self.columns), keys

    def _texts(self, objects, name, first_row):
        values = [row.get(name) for row in objects]
        is_list = any(isinstance(value, list) for value in values)
        texts = []
        for row, value in enumerate(values, first_row):
            try:
                if not is_list or value is None:
                    texts.append(_text(value))
                elif isinstance(value, list):
                    texts.append([_text(part) for part in value])
                elif isinstance(value, str):  # which alone would be split
                    raise TypeError
                else:
                    texts.append([_text(value)])
            except TypeError:
                expected = "a list, as in other rows" if is_list else "one value"
                raise InputError(
                    f"{self.path}: row {row}, column {name!r}: expected {expected}. "
                    f"Received: {value!r}"
                ) from None
        try:
            return pa.array(texts, pa.list_(pa.string()) if is_list else pa.string())
        except UnicodeEncodeError:
            row = next(i for i, value in enumerate(texts) if _is_cut(value))
            raise InputError(
                f"{self.path}: row {first_row + row}, column {name!r}: holds half of a "
                f"character, which is no text. Received: {texts[row]!a}"
            ) from None


def _read(lines, types, columns):
    known = types and set(types) >= set(columns)
    return pa.json.read_json(
        io.BytesIO(lines),
        read_options=pa.json.ReadOptions(
            use_threads=False, block_size=min(len(lines) + 1, MANY_BYTES)
        ),
        parse_options=pa.json.ParseOptions(
            explicit_schema=pa.schema(list(types.items())) if types else None,
            unexpected_field_behavior="ignore" if known else "infer",
        ),
    )


def each_once(pairs):
    """A dict of an object's pairs, as `json.loads` takes it.

    Raises:
        ValueError: For a key that is there twice, of which it would hold the last.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _parsed(line, path, row):
    try:
        value = json.loads(line.decode(), object_pairs_hook=each_once)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: row {row}: is not JSON, an object a line ({error}). "
            f"Received: {line[:80].decode('utf-8', 'replace')!r}"
        ) from None
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: row {row}: expected an object, as in JSON lines. "
            f"Received: {line[:80].decode('utf-8', 'replace')!r}"
        )
    return value


def _text(value):
    """What a value is called (`edcn_tf.logs.values.text`)."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return None if value != value else text_of_float(value)
    if isinstance(value, (bool, int)):
        return str(value)
    raise TypeError(value)


def _is_cut(value):
    """Whether a value holds half a pair of surrogates, as of text cut by JavaScript."""
    return bool(HALF.search(value if isinstance(value, str) else repr(value)))


def _is_wrong(column):
    """Whether it may hold another thing than the lines.

    Floats stand for whole numbers that they do not hold; and of lists with nothing but
    null in them, Arrow miscounts the nulls.
    """
    kind = column.type
    if pa.types.is_list(kind):
        return pa.types.is_null(kind.value_type) or _is_wrong(pc.list_flatten(column))
    if not pa.types.is_float64(kind):
        return False
    most = pc.max(pc.abs(column)).as_py()
    return most is not None and not most < EXACT


def _has_time(kind):
    return pa.types.is_timestamp(kind) or (
        pa.types.is_list(kind) and _has_time(kind.value_type)
    )


def _with_text(kind):
    return pa.list_(pa.string()) if pa.types.is_list(kind) else pa.string()
