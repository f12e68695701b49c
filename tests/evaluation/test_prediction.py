import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf.config import TrainingConfig
from edcn_tf.errors import InputError
from edcn_tf.evaluation.prediction import predict_log
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.features.encoder import MISSING, Encoder
from edcn_tf.field import Field
from edcn_tf.logs import opening
from edcn_tf.records.writing import serialize_examples
from edcn_tf.schema import Schema

FIELDS = (
    Field(name="user", min_count=2),
    Field(name="tags", multiple=True, min_count=1, max_length=3),
    Field(name="age", dtype="int64", min_count=1),
    Field(name="price", kind="numeric", buckets=6),
)


def columns_of(random, rows):
    def gone(values):
        return [None if random.random() < 0.1 else value for value in values]

    users = random.integers(0, 25, rows)
    return {
        "user": gone([f"u{i}" for i in users]),
        "tags": [[f"t{j}" for j in range(random.integers(0, 5))] for _ in users],
        "age": gone([int(i) for i in random.integers(-3, 30, rows)]),
        "price": gone([float(np.float32(x)) for x in random.normal(size=rows)]),
    }


def write_csv(path, columns, label=None):
    texts = {**columns, "tags": ["|".join(tags) for tags in columns["tags"]]}
    if label is not None:
        texts["click"] = label
    pyarrow.csv.write_csv(pa.table(texts), path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory of a tiny model, trained for one epoch."""
    directory = tmp_path_factory.mktemp("prediction")
    random = np.random.default_rng(0)
    columns = columns_of(random, 600)
    clicks = [
        int(user in ("u1", "u2", None) or i % 5 == 0)
        for i, user in enumerate(columns["user"])
    ]
    log = write_csv(directory / "log.csv", columns, clicks)
    schema = Schema(label="click", fields=FIELDS)
    edcn_tf.prepare([log], schema, directory / "data")
    config = TrainingConfig.from_dict(
        {"epochs": 1, "batch_size": 64, "embedding_dim": 4}
    )
    edcn_tf.train(directory / "data", directory / "run", config)
    return directory / "run"


def expected_of(run, columns):
    """What the model says of the rows, encoded without a log or records."""
    model, spec = load_run(run)
    features = {}
    for field in FIELDS:
        values = columns[field.name]
        if field.multiple:
            features[field.name] = tf.ragged.constant(
                values, dtype=tf.string, ragged_rank=1
            )
        else:
            missing = MISSING[field.dtype]
            values = [missing if value is None else value for value in values]
            dtype = {"string": tf.string, "int64": tf.int64, "float32": tf.float32}
            features[field.name] = tf.constant(values, dtype[field.dtype])
    return model(Encoder(spec)(features), training=False).numpy()[:, 0]


def left_in(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def columns(random):
    return columns_of(random, 300)


def test_csv_without_a_label(tmp_path, run, columns):
    log = write_csv(tmp_path / "log.csv", columns)
    assert predict_log(run, [log], tmp_path / "out.csv").rows == 300
    table = pyarrow.csv.read_csv(tmp_path / "out.csv")
    assert table.column_names == ["probability"]
    expected = expected_of(run, columns)
    assert len(np.unique(expected)) > 100  # else their order would prove nothing
    np.testing.assert_allclose(table["probability"], expected, atol=1e-6)


def test_parquet(tmp_path, run, columns):
    log = write_csv(tmp_path / "log.csv", columns)
    assert predict_log(run, [log], tmp_path / "out.parquet").rows == 300
    table = pa.parquet.read_table(tmp_path / "out.parquet")
    assert table.schema.names == ["probability"]
    assert table.schema.types == [pa.float32()]
    np.testing.assert_allclose(
        table["probability"], expected_of(run, columns), atol=1e-6
    )


def test_several_logs_in_many_batches(tmp_path, run, columns, monkeypatch):
    monkeypatch.setattr(opening, "BLOCK_BYTES", 1 << 9)
    monkeypatch.setattr(opening, "LOG_ROWS", 17)
    prices = pa.array(columns["price"], pa.float32())
    table = pa.table({**columns, "price": prices})
    pa.parquet.write_table(table.slice(100, 150), tmp_path / "b.parquet")
    with tf.io.TFRecordWriter(str(tmp_path / "c.tfrecord"), "GZIP") as writer:
        [rest] = table.slice(250).combine_chunks().to_batches()
        for record in serialize_examples(rest):
            writer.write(record)
    logs = [
        write_csv(tmp_path / "a.csv", table.slice(0, 100).to_pydict()),
        tmp_path / "b.parquet",
        tmp_path / "c.tfrecord",
    ]
    assert predict_log(run, logs, tmp_path / "out.parquet").rows == 300
    np.testing.assert_allclose(
        pa.parquet.read_table(tmp_path / "out.parquet")["probability"],
        expected_of(run, columns),
        atol=1e-6,
    )


def test_a_bad_label_does_not_matter(tmp_path, run, columns):
    log = write_csv(tmp_path / "log.csv", columns, label=["?"] * 300)
    assert predict_log(run, [log], tmp_path / "out.csv").rows == 300


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_no_rows(tmp_path, run, name):
    (tmp_path / "log.csv").write_text("user,tags,age,price\n")
    assert predict_log(run, [tmp_path / "log.csv"], tmp_path / name).rows == 0
    if name == "out.csv":
        assert (tmp_path / name).read_text().strip() == '"probability"'
    else:
        assert pa.parquet.read_table(tmp_path / name).num_rows == 0


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_what_exists_is_left_alone(tmp_path, run, columns, name):
    log = write_csv(tmp_path / "log.csv", columns)
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name}: exists already"):
        predict_log(run, [log], tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"
    assert left_in(tmp_path) == ["log.csv", name]


@pytest.mark.parametrize("name", ["out.txt", "out", "out.csv.gz"])
def test_a_suffix_that_is_not_known(tmp_path, run, columns, name):
    log = write_csv(tmp_path / "log.csv", columns)
    with pytest.raises(InputError, match=f".csv or .parquet. Received: .*{name}"):
        predict_log(run, [log], tmp_path / name)
    assert left_in(tmp_path) == ["log.csv"]


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_failure_leaves_nothing(tmp_path, run, columns, monkeypatch, name):
    monkeypatch.setattr(opening, "BLOCK_BYTES", 1 << 10)
    columns["age"][-1] = "old"
    columns["age"] = [None if age is None else str(age) for age in columns["age"]]
    log = write_csv(tmp_path / "log.csv", columns)
    with pytest.raises(InputError, match="row 300, column 'age'.*'old'"):
        predict_log(run, [log], tmp_path / name)
    assert left_in(tmp_path) == ["log.csv"]


def test_a_log_that_lacks_a_field(tmp_path, run, columns):
    del columns["price"]
    log = write_csv(tmp_path / "log.csv", columns)
    with pytest.raises(InputError, match="no column 'price'"):
        predict_log(run, [log], tmp_path / "out.csv")
    assert left_in(tmp_path) == ["log.csv"]


def test_no_run(tmp_path, columns):
    log = write_csv(tmp_path / "log.csv", columns)
    with pytest.raises(InputError, match="model.keras"):
        predict_log(tmp_path, [log], tmp_path / "out.csv")
    assert not pathlib.Path(tmp_path / "out.csv").exists()
