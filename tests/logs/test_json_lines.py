"""JSON lines: each value is what it is in the other containers."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.logs import json_lines, opening
from edcn_tf.logs.json_lines import read_json_lines
from edcn_tf.logs.reading import read_log
from edcn_tf.schema import Schema

SCHEMA = Schema(label="y", fields=(Field(name="f"),))


def values(path, schema=SCHEMA, name="f", **options):
    batches = read_log([path], schema, **options)
    return [value for batch in batches for value in batch[name].to_pylist()]


def written(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def rows(path, *found):
    return written(path, *(json.dumps({"f": value, "y": 0}) for value in found))


@pytest.mark.parametrize(
    "given, called",
    [
        (["a", None, ""], ["a", None, None]),
        ([12345678901, None, 7], ["12345678901", None, "7"]),
        ([1.0, 2.5, None], ["1", "2.5", None]),
        ([True, False], ["True", "False"]),
        (["2026-03-01", "007"], ["2026-03-01", "007"]),
        (["2026-03-01", "2026-03-02 08:15"], ["2026-03-01", "2026-03-02 08:15"]),
        ([2**53 + 1, 2.5], [str(2**53 + 1), "2.5"]),
        ([12345678901234567890], ["12345678901234567890"]),
        ([1, "x", True, None, 2.5], ["1", "x", "True", None, "2.5"]),
        (["\u4e2d\u6587 \U0001f600", "a\nb"], ["\u4e2d\u6587 \U0001f600", "a\nb"]),
        ([1e20, 0.1], ["1e+20", "0.1"]),
        ([float("nan"), 1.5], [None, "1.5"]),
    ],
)
def test_a_value_is_called_as_in_the_other_containers(tmp_path, given, called):
    assert values(rows(tmp_path / "log.jsonl", *given)) == called


def test_lists(tmp_path):
    schema = Schema(label="y", fields=(Field(name="f", multiple=True),))
    path = rows(tmp_path / "log.jsonl", ["a", "b"], [], None, ["c"])
    assert values(path, schema) == [["a", "b"], [], [], ["c"]]
    path = rows(tmp_path / "mixed.jsonl", ["a", 1], 7, [2.0, None])
    assert values(path, schema) == [["a", "1"], ["7"], ["2", None]]
    path = rows(tmp_path / "times.jsonl", ["2026-03-01"], ["x"])
    assert values(path, schema) == [["2026-03-01"], ["x"]]


def test_a_text_is_a_list_with_separators_where_all_are(tmp_path):
    schema = Schema(label="y", fields=(Field(name="f", multiple=True),))
    assert values(rows(tmp_path / "log.jsonl", "a|b", "c"), schema) == [
        ["a", "b"],
        ["c"],
    ]


def test_a_text_beside_lists_is_not_guessed_at(tmp_path):
    schema = Schema(label="y", fields=(Field(name="f", multiple=True),))
    path = rows(tmp_path / "log.jsonl", ["a"], "b|c")
    with pytest.raises(InputError, match="row 2, column 'f': expected a list, as in"):
        values(path, schema)


def test_numbers(tmp_path):
    schema = Schema(label="y", fields=(Field(name="f", kind="numeric"),))
    path = rows(tmp_path / "log.jsonl", 1, 2.5, None, "3", True)
    assert values(path, schema) == [1, 2.5, None, 3, 1]


def test_keys_that_other_rows_lack_are_missing_there(tmp_path):
    path = written(
        tmp_path / "log.jsonl",
        '{"y": 1}',
        "",
        '{"f": "a", "y": 0}',
        '{"f": null, "y": 1}',
    )
    assert values(path) == [None, "a", None]
    assert values(path, name="y") == [1, 0, 1]


def test_a_key_that_no_row_has_is_an_error(tmp_path):
    path = written(tmp_path / "log.jsonl", '{"g": 1, "y": 0}')
    with pytest.raises(InputError, match="has no column 'f'; its columns are: g, y"):
        values(path)


@pytest.mark.parametrize(
    "line, said",
    [
        ('{"f": 1, "y": 0', "row 3: is not JSON"),
        ('{"f": 1, "y": 0} {"f": 2, "y": 0}', "row 3: is not JSON"),
        ("[1, 0]", "row 3: expected an object"),
        ('{"f": 1, "f": 2, "y": 0}', "row 3: .*the key 'f' is there twice"),
        ('{"f": {"a": 1}, "y": 0}', "row 3, column 'f'"),
        ('{"f": 1, "y": 2}', "row 3, column 'y': the label"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, said):
    path = written(tmp_path / "log.jsonl", *['{"f": 1, "y": 0}'] * 2, line)
    with pytest.raises(InputError, match=said):
        values(path)


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"f": "a", "y": 0}\n{"f": "\xff", "y": 0}\n')
    with pytest.raises(InputError, match="row 2: is not JSON"):
        values(path)


def test_pretty_printed_json_is_refused(tmp_path):
    path = tmp_path / "log.json"
    path.write_text(json.dumps([{"f": 1, "y": 0}], indent=1))
    with pytest.raises(InputError, match="row 1: .*JSON"):
        values(path)


def test_blocks_packed_and_not(tmp_path, monkeypatch):
    """Types may change from block to block, and rows are numbered through."""
    found = [1, 2, 3, "x", 2.5, None, True, 2**53 + 1, "2026-03-01", 5]
    lines = [json.dumps({"f": value, "y": 0, "g": i}) for i, value in enumerate(found)]
    path = written(tmp_path / "log.jsonl", *lines)
    packed = tmp_path / "log.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    whole = values(path)
    monkeypatch.setattr(opening, "BLOCK_BYTES", 64)
    assert values(path) == values(packed) == whole
    bad = written(tmp_path / "bad.jsonl", *lines, '{"f": 1}')
    with pytest.raises(InputError, match="row 11, column 'y'"):
        values(bad)


def test_rows_by_arrow_and_line_by_line_are_the_same(tmp_path, monkeypatch):
    frame = pd.DataFrame({"f": ["a", None, "2026-03-01"], "g": [1, 2.5, None]})
    frame.assign(y=1).to_json(tmp_path / "log.jsonl", orient="records", lines=True)
    schema = Schema(label="y", fields=(Field(name="f"), Field(name="g")))
    fast = [values(tmp_path / "log.jsonl", schema, name) for name in "fg"]
    monkeypatch.setattr(json_lines, "_is_wrong", lambda column: True)
    assert [values(tmp_path / "log.jsonl", schema, name) for name in "fg"] == fast


PARTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True, allow_infinity=False),
    st.text(),
    st.sampled_from(["2026-03-01", "2026-03-01 08:15:02", "1", "1.0", "True"]),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(PARTS, min_size=1, max_size=20))
def test_every_value_keeps_its_name(tmp_path_factory, found):
    """Beside whatever else there is: what it is called alone."""
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    alone = []
    for value in found:
        rows(path, value)
        alone += values(path)
    rows(path, *found)
    assert values(path) == alone
    for value, called in zip(found, alone):
        if isinstance(value, int):
            assert called == str(value)
        elif isinstance(value, str):
            assert called == (value or None)
        elif isinstance(value, float) and not np.isnan(value):
            assert float(called) == value


def test_the_reader_is_told_what_is_read(tmp_path):
    path = rows(tmp_path / "log.jsonl", "a", "b")
    told = []
    assert sum(b.num_rows for b in read_json_lines(str(path), ["f"], told.append)) == 2
    assert sum(told) == path.stat().st_size
