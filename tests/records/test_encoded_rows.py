"""Encoded rows: the batches of the records that they were made of."""

import dataclasses

import numpy as np
import pytest

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.records import reading
from edcn_tf.records.encoded import encode_rows, read_encoded
from edcn_tf.records.writing import record_files

SCHEMA = {
    "label": "click",
    "fields": [{"name": "user"}, {"name": "tags", "multiple": True, "max_length": 3}],
}


@pytest.fixture(params=[False, True])
def data(request, tmp_path, random):
    lines = ["click,user,tags,weight"]
    for row in range(3000):
        tags = "|".join(random.choice(list("abcdef"), random.integers(0, 4)))
        lines.append(f"{row % 3 == 0:d},u{row % 40},{tags},{1 + row % 7 / 4}")
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    schema = edcn_tf.Schema.from_dict(SCHEMA)
    if request.param:
        schema = dataclasses.replace(schema, weight="weight")
    edcn_tf.prepare(tmp_path / "log.csv", schema, tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_batches_are_those_of_the_records(data, tmp_path, monkeypatch, shuffle):
    monkeypatch.setattr(reading, "SHUFFLE_ROWS", 500)
    encode_rows(data, tmp_path / "cache")
    spec = FeatureSpec.load(data / "features")
    for split in ("train", "valid"):
        options = {"shuffle": shuffle, "seed": 3, "epoch": 2}
        expected = edcn_tf.read_records(f"{data}/{split}-*", spec, 100, **options)
        encoded = read_encoded(f"{tmp_path}/cache/{split}-*", spec, 100, **options)
        assert encoded.element_spec == expected.element_spec
        pairs = list(zip(encoded, expected, strict=True))
        assert pairs
        for found, batch in pairs:
            for one, other in zip(found, batch, strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_damaged_record_leaves_nothing(data, tmp_path):
    with open(record_files(f"{data}/valid-*")[0], "ab") as file:
        file.write(b"damage" * 10)
    with pytest.raises(InputError, match="valid-00000.tfrecord"):
        encode_rows(data, tmp_path / "cache")
    assert not list(tmp_path.glob("*cache*"))
