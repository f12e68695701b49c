"""Vectors in logs: each container's become the same numbers, and what is no vector."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from edcn_tf import InputError
from edcn_tf.logs import opening
from edcn_tf.logs.reading import read_log
from edcn_tf.records.writing import serialize_examples
from edcn_tf.schema import Schema

SCHEMA = {
    "label": "click",
    "fields": [{"name": "image", "kind": "numeric", "length": 3}],
}
NAN = float("nan")
NUMBERS = [[0.1, -2.0, 3e38], None, [1e-40, 0.0, -0.0], [7.0, 8.0, 9.0]]
EXPECTED = [np.float32(row or []).tolist() for row in NUMBERS]


def as_text(numbers, separator="|"):
    return separator.join(str(number) for number in numbers or ())


def read(path, schema=SCHEMA, **options):
    [batch] = read_log([path], Schema.from_dict(schema), **options)
    assert batch.column(0).type == pa.list_(pa.float32())
    return batch.column(0).to_pylist()


def as_csv(tmp_path, *texts):
    path = tmp_path / "log.csv"
    path.write_text("image,click\n" + "".join(f"{text},0\n" for text in texts))
    return path


def as_parquet(tmp_path, column):
    path = tmp_path / "log.parquet"
    table = pa.table({"image": column, "click": [0] * len(column)})
    pa.parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("packing", ["list", "large", "double", "text", "dictionary"])
def test_each_container_holds_the_same(tmp_path, packing):
    types = {"large": pa.large_list(pa.float32()), "double": pa.list_(pa.float64())}
    column = pa.array(NUMBERS, types.get(packing, pa.list_(pa.float32())))
    if packing in ("text", "dictionary"):
        column = pa.array([as_text(numbers) for numbers in NUMBERS])
    if packing == "dictionary":
        column = column.dictionary_encode()
    assert read(as_parquet(tmp_path, column)) == EXPECTED
    assert read(as_csv(tmp_path, *map(as_text, NUMBERS))) == EXPECTED


def test_lists_of_fixed_size_and_tensors(tmp_path):
    whole = [row for row in NUMBERS if row]
    fixed = pa.array(whole, pa.list_(pa.float32(), 3))
    assert read(as_parquet(tmp_path, fixed)) == [row for row in EXPECTED if row]
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.float32(whole))
    assert read(as_parquet(tmp_path, tensors)) == [row for row in EXPECTED if row]


def test_lists_of_nothing_but_null(tmp_path):
    """Whose type Arrow infers to be that of null."""
    column = pa.array([[None] * 3, None, [None]])
    assert column.type.value_type == pa.null()
    assert read(as_parquet(tmp_path, column)) == [[], [], []]


def test_half_precision_and_whole_numbers(tmp_path):
    half = pa.array([[1.5, -2, 0], None], pa.list_(pa.float16()))
    assert read(as_parquet(tmp_path, half)) == [[1.5, -2, 0], []]
    whole = pa.array([[1, -2, 3]], pa.list_(pa.int8()))
    assert read(as_parquet(tmp_path, whole)) == [[1, -2, 3]]


def test_wide_rows_come_in_smaller_batches(tmp_path, monkeypatch):
    column = pa.array([[float(i)] * 3 for i in range(100)], pa.list_(pa.float32()))
    path = as_parquet(tmp_path, column)
    schema = Schema.from_dict(SCHEMA)
    [whole] = read_log([path], schema)
    monkeypatch.setattr(opening, "LOG_BYTES", 500)
    batches = list(read_log([path], schema))
    assert len(batches) > 1
    assert pa.Table.from_batches(batches) == pa.Table.from_batches([whole])


def test_another_separator(tmp_path):
    field = {**SCHEMA["fields"][0], "separator": " "}
    path = as_csv(tmp_path, "1 2.5 -3e2", "")
    assert read(path, {**SCHEMA, "fields": [field]}) == [[1, 2.5, -300], []]


@pytest.mark.parametrize("missing", [None, [], [NAN] * 3, [None] * 3, [NAN]])
def test_what_is_missing(tmp_path, missing):
    column = pa.array([[1, 2, 3], missing], pa.list_(pa.float32()))
    assert read(as_parquet(tmp_path, column)) == [[1, 2, 3], []]
    texts = ["1|2|3", "|".join(["NaN"] * len(missing or ()))]
    assert read(as_csv(tmp_path, *texts)) == [[1, 2, 3], []]


@pytest.mark.parametrize(
    "wrong",
    [
        *([1, 2], [1, 2, 3, 4], [1, 2, NAN], [None, 2, 3]),
        *([1, 2, float("inf")], [1, 2, 3, NAN], [1, 2, 1e39]),
    ],
)
def test_what_is_no_vector_is_named(tmp_path, wrong):
    column = pa.array([[1, 2, 3], None, wrong], pa.list_(pa.float64()))
    texts = ["1|2|3", "", "|".join("" if x is None else str(x) for x in wrong)]
    for path in (as_parquet(tmp_path, column), as_csv(tmp_path, *texts)):
        with pytest.raises(InputError) as caught:
            read(path)
        told = str(caught.value)
        assert told.startswith(f"{path}: row 3, column 'image': expected 3 finite ")
        assert "Received: " in told


def test_a_long_vector_is_cut_in_the_message(tmp_path):
    with pytest.raises(InputError) as caught:
        read(as_csv(tmp_path, "|".join(["0.123456"] * 500)))
    assert len(str(caught.value)) < 500


def test_what_is_no_number(tmp_path):
    with pytest.raises(InputError, match="row 2, column 'image': expected a number"):
        read(as_csv(tmp_path, "1|2|3", "1|two|3"))
    with pytest.raises(InputError, match="expected 3 finite numbers"):
        read(as_parquet(tmp_path, pa.array([1.0, 2.0])))
    structs = pa.array([{"a": 1.0}])
    with pytest.raises(InputError, match="column 'image': expected a list"):
        read(as_parquet(tmp_path, structs))


def test_a_vector_where_the_schema_has_a_number(tmp_path):
    schema = {"label": "click", "fields": [{"name": "image", "kind": "numeric"}]}
    path = as_parquet(tmp_path, pa.array([[1.0, 2.0]]))
    with pytest.raises(InputError, match="column 'image': holds lists"):
        list(read_log([path], Schema.from_dict(schema)))


def test_fixed_size_lists_with_nulls_that_arrow_cannot_read_back(tmp_path):
    """GH-35692 of Arrow; where it is mended they are read."""
    column = pa.array([[1, 2, 3], None], pa.list_(pa.float32(), 3))
    path = as_parquet(tmp_path, column)
    try:
        assert read(path) == [[1, 2, 3], []]
    except InputError as error:
        assert "write the column as lists of any size" in str(error)


def test_records_hold_the_numbers_bit_by_bit(tmp_path):
    import tensorflow as tf

    schema = Schema.from_dict(SCHEMA)
    [batch] = read_log([as_csv(tmp_path, *map(as_text, NUMBERS))], schema)
    rows = serialize_examples(batch)
    assert b"image" not in rows[1]  # missing
    examples = list(map(tf.train.Example.FromString, rows))
    stored = [list(e.features.feature["image"].float_list.value) for e in examples]
    for got, expected in zip(stored, EXPECTED, strict=True):
        assert np.float32(got).tobytes() == np.float32(expected).tobytes()
