"""A path is a path: what is special in a pattern is not in a name."""

import shlex

import pytest

import edcn_tf
from edcn import main
from edcn_tf.directories import EncodedRows, PreparedData
from edcn_tf.evaluation.prediction import predict_log
from edcn_tf.field import Field
from edcn_tf.records.encoded import encode_rows
from edcn_tf.records.writing import record_files
from edcn_tf.schema import Schema

SCHEMA = Schema(label="y", fields=(Field(name="user"), Field(name="item")))


def log(path, user):
    rows = [f"{user}{i % 5},i{i % 3},{(i + i // 5) % 2}" for i in range(200)]
    path.write_text("\n".join(["user,item,y", *rows]) + "\n")
    return path


@pytest.mark.parametrize("name", ["day[1]", "day*", "day?", "a [b] *"])
def test_data_is_read_from_where_it_is(tmp_path, name):
    edcn_tf.prepare(log(tmp_path / "a.csv", "u"), SCHEMA, tmp_path / "day1")
    edcn_tf.prepare(log(tmp_path / "b.csv", "v"), SCHEMA, tmp_path / name)
    data = PreparedData(tmp_path / name)
    files = record_files(data.records("train"))
    assert files and all(file.startswith(str(tmp_path / name)) for file in files)
    assert record_files(files) == files  # a file's own name, too
    encode_rows(tmp_path / name, tmp_path / f"rows of {name}")
    rows = EncodedRows(tmp_path / f"rows of {name}").rows("valid")
    assert [file for file in record_files(rows) if name not in file] == []


def test_a_run_that_could_not_be_read_back_is_refused_before_it_trains(tmp_path):
    edcn_tf.prepare(log(tmp_path / "a.csv", "u"), SCHEMA, tmp_path / "data")
    config = edcn_tf.TrainingConfig.from_dict({"epochs": 1, "embedding_dim": 2})
    with pytest.raises(edcn_tf.InputError, match="choose another --out"):
        edcn_tf.train(tmp_path / "data", tmp_path / "run[1]", config)
    assert not (tmp_path / "run[1]").exists()


def test_the_next_command_can_be_pasted(tmp_path, capsys):
    SCHEMA.save(tmp_path / "schema.json")
    path = log(tmp_path / "a.csv", "u")
    out = tmp_path / "my data"
    arguments = ["--schema", tmp_path / "schema.json", "--out", out]
    assert main(["prepare", *map(str, [path, *arguments])]) == 0
    told = capsys.readouterr().out.partition("Next:  ")[2]
    assert shlex.split(told)[1:] == ["train", str(out), "--out", "runs/first"]


def test_predict_says_how_many_values_it_did_not_know(tmp_path, capsys):
    edcn_tf.prepare(log(tmp_path / "a.csv", "u"), SCHEMA, tmp_path / "data")
    config = edcn_tf.TrainingConfig.from_dict({"epochs": 1, "embedding_dim": 2})
    edcn_tf.train(tmp_path / "data", tmp_path / "run", config)
    other = log(tmp_path / "b.csv", "someone")
    with open(other, "a", encoding="utf-8") as file:
        file.write(",i1,0\nu1,,1\n")
    told = predict_log(tmp_path / "run", [other], tmp_path / "scores.csv")
    assert told.rows == 202
    assert told.values == {"user": 201, "item": 201}
    assert told.unknown == {"user": 200, "item": 0}
    command = ["predict", tmp_path / "run", other, "--out", tmp_path / "more.csv"]
    assert main(list(map(str, command))) == 0
    assert "user                        200 of        201" in capsys.readouterr().out
