"""Sizes at the ends: they work, or end in a clear error."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.features.encoder import Encoder
from edcn_tf.records.writing import RecordWriter, record_files


def prepare(tmp_path, text, fields, **options):
    (tmp_path / "log.csv").write_text(text)
    schema = edcn_tf.Schema.from_dict({"label": "click", "fields": fields})
    return edcn_tf.prepare(tmp_path / "log.csv", schema, tmp_path / "data", **options)


def test_a_row_with_ten_thousand_values(tmp_path):
    many = "|".join(f"t{i % 50}" for i in range(10_000))
    text = "click,tags\n" + f"1,{many}\n0,t1\n0,\n" * 40
    fields = [{"name": "tags", "multiple": True, "max_length": 3}]
    prepare(tmp_path, text, fields)
    spec = edcn_tf.FeatureSpec.load(tmp_path / "data" / "features")
    rows = edcn_tf.read_records(f"{tmp_path}/data/train-*", spec, 200)
    ids = np.concatenate([ids for ids, _ in rows.as_numpy_iterator()])
    names = spec.fields[0].row_names()
    offset = spec.fields[0].offset
    lists = {tuple(names[i - offset] for i in row if i) for row in ids}
    assert lists == {("t0", "t1", "t2"), ("t1",), ("<missing>",)}


def test_a_field_name_of_a_thousand_characters():
    with pytest.raises(InputError, match="100 at most"):
        edcn_tf.Field(name="f" * 1000)
    assert edcn_tf.Field(name="f" * 100).name == "f" * 100


def test_a_label_name_of_a_thousand_characters(tmp_path):
    """Only a field becomes an input of the served model."""
    label = "l" * 1000
    (tmp_path / "log.csv").write_text(f"{label},user\n" + "1,a\n0,b\n" * 40)
    schema = edcn_tf.Schema.from_dict({"label": label, "fields": [{"name": "user"}]})
    edcn_tf.prepare(tmp_path / "log.csv", schema, tmp_path / "data")
    spec = edcn_tf.FeatureSpec.load(tmp_path / "data" / "features")
    assert sum(1 for _ in edcn_tf.read_records(f"{tmp_path}/data/*.tfrecord", spec, 9))


def test_a_list_longer_than_memory():
    with pytest.raises(InputError, match="`max_length` .* at most 10000"):
        edcn_tf.Field(name="tags", multiple=True, max_length=10**9)
    with pytest.raises(InputError, match="`hash_buckets` .* at most"):
        edcn_tf.Field(name="tags", hash_buckets=10**12)
    with pytest.raises(InputError, match="`unseen_rows` .* at most"):
        edcn_tf.Field(name="tags", unseen_rows=10**12)


def test_many_shards(tmp_path):
    """A thousand here; ten thousand were tried once."""
    rows = pa.record_batch({"user": ["a", "b"], "click": pa.array([0, 1], pa.int64())})
    for number in range(1000):
        writer = RecordWriter(f"{tmp_path}/train", first=number)
        writer.write(rows)
        writer.close()
    prepare(tmp_path, "click,user\n" + "1,a\n0,b\n" * 40, [{"name": "user"}])
    spec = edcn_tf.FeatureSpec.load(tmp_path / "data" / "features")
    files = record_files(f"{tmp_path}/train-*")
    assert len(files) == 1000
    options = {"shuffle": True, "seed": 1, "epoch": 0}
    for skip in (None, 0):
        dataset = edcn_tf.read_records(files, spec, 512, **options, skip_corrupt=skip)
        labels = np.concatenate([y for _, y in dataset.as_numpy_iterator()])
        assert (len(labels), labels.sum()) == (2000, 1000)


def test_a_column_of_very_many_values(tmp_path):
    """30,000 here; 300,000 were tried once."""
    number = 30_000
    values = [f"v{i:06d}" for i in range(number) for _ in range(2)]
    table = pa.table({"user": values, "click": [0, 1] * number})
    pa.parquet.write_table(table, tmp_path / "log.parquet")
    schema = edcn_tf.Schema.from_dict({"label": "click", "fields": [{"name": "user"}]})
    edcn_tf.prepare(
        tmp_path / "log.parquet", schema, tmp_path / "data", split=(1, 0, 0)
    )
    spec = edcn_tf.FeatureSpec.load(tmp_path / "data" / "features")
    assert spec.num_rows == number + 3  # padding, missing, unseen
    ids = Encoder(spec)({"user": tf.constant(values[::2])}).numpy()
    assert len(np.unique(ids)) == number


@pytest.mark.parametrize("text", ["", "click,user\n", "\n"])
def test_an_empty_log(tmp_path, text):
    with pytest.raises(InputError) as caught:
        prepare(tmp_path, text, [{"name": "user"}])
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_a_log_of_one_row(tmp_path):
    with pytest.raises(InputError) as caught:
        prepare(tmp_path, "click,user\n1,a\n", [{"name": "user"}])
        config = edcn_tf.TrainingConfig.from_dict({"epochs": 1, "embedding_dim": 2})
        edcn_tf.train(tmp_path / "data", tmp_path / "run", config)
    assert len(str(caught.value).splitlines()) == 1


def test_one_row_of_each_split_trains_nothing(tmp_path):
    logs = {}
    for split in ("train", "valid", "test"):
        logs[split] = [tmp_path / f"{split}.csv"]
        logs[split][0].write_text("click,user\n1,a\n")
    schema = edcn_tf.Schema.from_dict({"label": "click", "fields": [{"name": "user"}]})
    edcn_tf.prepare(logs, schema, tmp_path / "data")
    config = edcn_tf.TrainingConfig.from_dict({"epochs": 1, "embedding_dim": 2})
    with pytest.raises(InputError, match="the valid split has clicks only, so"):
        edcn_tf.train(tmp_path / "data", tmp_path / "run", config)
