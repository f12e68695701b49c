"""One log in every container: the same vocabulary, the same ids, the same scores."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

import edcn_tf
from edcn_tf.directories import PreparedData
from edcn_tf.field import Field
from edcn_tf.logs.reading import read_log
from edcn_tf.schema import Schema
from helpers.prepared import content

SCHEMA = Schema(
    label="clicked",
    timestamp="time",
    group="user",
    fields=(
        Field(name="user", min_count=1),
        Field(name="word", min_count=1),
        Field(name="price", kind="numeric"),
        Field(name="size", min_count=1),
        Field(name="tags", multiple=True, min_count=1),
    ),
)
TAGS = ["sport", "shoes", "7", "007"]
ROWS = st.tuples(
    st.none() | st.sampled_from([12345678901, 7, -3, 2**53 - 1]),
    st.none() | st.text("aé中,\"'; 01.", min_size=1, max_size=3).filter(str.strip),
    st.none() | st.floats(-1000, 1000, width=32),
    st.none() | st.sampled_from([0.5, 2.25, 1e-7]),
    st.lists(st.sampled_from(TAGS), max_size=3),
    st.integers(0, 1),
    st.integers(1_700_000_000_000, 1_700_000_001_000),
)
NAMES = ["user", "word", "price", "size", "tags", "clicked", "time"]
TYPES = [
    *(pa.int64(), pa.string(), pa.float64(), pa.float64(), pa.list_(pa.string())),
    *(pa.int64(), pa.int64()),
]


def as_table(rows):
    columns = [pa.array(c, t) for c, t in zip(zip(*rows), TYPES, strict=True)]
    return pa.table(dict(zip(NAMES, columns)))


def cell(value):
    if value is None:
        return ""
    if isinstance(value, list):
        return "|".join(value)
    return repr(value) if isinstance(value, float) else str(value)


def text(table, delimiter, quote):
    """As a person's script may write it, without any library's way with types."""

    def quoted(value):
        spelled = cell(value)
        if quote and any(mark in spelled for mark in (delimiter, '"', "\n")):
            return '"' + spelled.replace('"', '""') + '"'
        return spelled

    lines = [NAMES, *(row.values() for row in table.to_pylist())]
    return "".join(delimiter.join(map(quoted, line)) + "\n" for line in lines)


def write_csv(table, path):
    path.write_text(text(table, ",", True), encoding="utf-8")


def write_tsv(table, path):
    path.write_text(text(table, "\t", False), encoding="utf-8")


def write_json_lines(table, path):
    lines = (json.dumps(row, ensure_ascii=False) for row in table.to_pylist())
    path.write_text("\n".join(lines), encoding="utf-8")


def write_dictionary(table, path):
    number = NAMES.index("word")
    coded = table.column("word").dictionary_encode()
    pq.write_table(table.set_column(number, "word", coded), path)


def write_large(table, path):
    large = [*TYPES]
    large[NAMES.index("word")] = pa.large_string()
    large[NAMES.index("tags")] = pa.large_list(pa.large_string())
    pq.write_table(table.cast(pa.schema(list(zip(NAMES, large)))), path)


def write_floats(table, path):
    """Of ids with a gap pandas makes floats, which is what its users have."""
    frame = table.to_pandas()
    frame["user"] = frame["user"].astype("float64")
    frame.to_parquet(path, index=False)


def write_nullable(table, path):
    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    frame.to_parquet(path, index=False)


def write_by_pandas(table, path):
    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    frame["tags"] = frame["tags"].map("|".join)
    frame.to_csv(path, index=False)


def write_records(table, path):
    """As another producer may: a missing value is an empty list, of its type."""
    kinds = {"int": "int64_list", "float": "float_list", "str": "bytes_list"}
    types = dict.fromkeys(NAMES, "int") | dict.fromkeys(["price", "size"], "float")
    types |= dict.fromkeys(["word", "tags"], "str")
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in table.to_pylist():
            example = tf.train.Example()
            for name, value in row.items():
                values = value if isinstance(value, list) else [value]
                values = [v.encode() if isinstance(v, str) else v for v in values]
                feature = getattr(example.features.feature[name], kinds[types[name]])
                feature.SetInParent()
                feature.value.extend(v for v in values if v is not None)
            writer.write(example.SerializeToString())


def write_dataset(table, folder):
    """As TFDS stores it, which has no missing value: text, and NaN of numbers."""
    kinds = tfds.features
    types = dict.fromkeys(["user", "word", "size"], kinds.Text())
    features = {
        **types,
        "price": np.float32,
        "tags": kinds.Sequence(kinds.Text()),
        "clicked": np.bool_,
        "time": np.int64,
    }

    def stored(row):
        texts = {name: cell(row[name]) for name in types}
        price = float("nan") if row["price"] is None else row["price"]
        return {**row, **texts, "price": price, "clicked": bool(row["clicked"])}

    tfds.dataset_builders.store_as_tfds_dataset(
        name="one_log",
        version="1.0.0",
        features=kinds.FeaturesDict(features),
        split_datasets={"train": list(enumerate(map(stored, table.to_pylist())))},
        data_dir=str(folder),
        disable_shuffling=True,
    )


WRITERS = {
    "log.csv": write_csv,
    "pandas.csv": write_by_pandas,
    "log.tsv": write_tsv,
    "log.jsonl": write_json_lines,
    "log.tfrecord": write_records,
    "plain.parquet": pq.write_table,
    "dictionary.parquet": write_dictionary,
    "large.parquet": write_large,
    "floats.parquet": write_floats,
    "nullable.parquet": write_nullable,
}


def read(path):
    """What is read of a log, a list a column; no list is an empty one."""
    batches = list(read_log([path], SCHEMA))
    return {
        name: [
            value or [] if name == "tags" else value
            for batch in batches
            for value in batch[name].to_pylist()
        ]
        for name in SCHEMA.columns
    }


@settings(deadline=None, max_examples=40)
@given(st.lists(ROWS, min_size=1, max_size=12))
def test_a_log_is_read_alike_from_every_container(tmp_path_factory, rows):
    folder, table = tmp_path_factory.mktemp("log"), as_table(rows)
    found = {}
    for name, write in WRITERS.items():
        write(table, folder / name)
        found[name] = read(folder / name)
    first = found["plain.parquet"]
    assert first["clicked"] == [row[5] for row in rows]
    assert first["user"] == [None if row[0] is None else str(row[0]) for row in rows]
    for name, columns in found.items():
        assert columns == first, name


def test_a_data_set_of_tfds_is_read_like_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    rows = [
        (12345678901, "a,b", 0.1, 2.25, ["007"], 1, 1_700_000_000_001),
        (None, None, None, None, [], 0, 1_700_000_000_000),
        (-3, " \u4e2d", -1.5, 1e-07, ["7", "sport"], 0, 1_700_000_000_002),
    ]
    table = as_table(rows)
    pq.write_table(table, tmp_path / "log.parquet")
    write_dataset(table, tmp_path)
    assert read("tfds:one_log") == read(tmp_path / "log.parquet")


def test_a_log_is_prepared_and_scored_alike_from_every_container(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    draw = np.random.default_rng(5)
    words = ["a", "b c", "\u4e2d", "07", None]
    rows = [
        (
            None if draw.random() < 0.2 else int(draw.integers(10**10, 10**10 + 9)),
            words[draw.integers(5)],
            None if draw.random() < 0.2 else float(np.float32(draw.normal())),
            [0.5, 2.25, None][draw.integers(3)],
            [TAGS[i] for i in draw.integers(0, 4, draw.integers(0, 4))],
            int(draw.random() < 0.3),
            1_700_000_000_000 + i,
        )
        for i in range(80)
    ]
    table, found = as_table(rows), {}
    model = None
    write_dataset(table, tmp_path)
    for name, write in WRITERS.items():
        write(table, tmp_path / name)
    for name in [*WRITERS, "tfds:one_log"]:
        log = name if name.startswith("tfds:") else tmp_path / name
        data = tmp_path / f"data of {name}"
        edcn_tf.prepare(log, SCHEMA, data, split=(0.6, 0.2, 0.2), split_by="time")
        spec = edcn_tf.FeatureSpec.load(PreparedData(data).features)
        files = content(spec.directory)
        ids = np.concatenate(
            [
                batch[0].numpy()
                for split in ("train", "valid", "test")
                for batch in edcn_tf.read_records(
                    PreparedData(data).records(split), spec, 16
                )
            ]
        )
        if model is None:
            tf.keras.utils.set_random_seed(0)
            model = edcn_tf.make_model(spec, "deepfm")
        found[name] = files, ids, model(ids, training=False).numpy()
    files, ids, scores = found["plain.parquet"]
    assert len(ids) == 80 and len(np.unique(scores)) > 40
    for name, (of_files, of_ids, of_scores) in found.items():
        assert of_files == files, name
        np.testing.assert_array_equal(of_ids, ids, name)
        np.testing.assert_array_equal(of_scores, scores, name)
