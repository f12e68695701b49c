"""Columns whose names a field cannot have: the schema's `column`."""

import json

import pandas as pd
import pytest

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.evaluation.prediction import predict_log
from edcn_tf.field import Field
from edcn_tf.logs.reading import read_log
from edcn_tf.schema import Schema

COLUMNS = {
    "education_num": "education-num",
    "kind": "class",
    "user_id": "user_id:token",
    "query": "109_14",
    "word": "\u5173\u952e\u8bcd",
}
SCHEMA = Schema(
    label="is click",
    group="user_id:token",
    timestamp="time.ms",
    fields=tuple(
        Field(name=n, column=c, min_count=1)
        if n != "education_num"
        else Field(name=n, column=c, kind="numeric")
        for n, c in COLUMNS.items()
    ),
)


def frame(rows=40):
    return pd.DataFrame(
        {
            "time.ms": range(1000, 1000 + rows),
            "is click": [i % 2 for i in range(rows)],
            **{
                column: [i % (3 + k) for i in range(rows)]
                for k, column in enumerate(COLUMNS.values())
            },
        }
    )


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_field_is_read_from_its_column(tmp_path, kind):
    path = tmp_path / f"log.{kind}"
    if kind == "jsonl":
        frame().to_json(path, orient="records", lines=True)
    elif kind == "parquet":
        frame().to_parquet(path)
    else:
        frame().to_csv(path, index=False, sep="," if kind == "csv" else "\t")
    [batch] = read_log([path], SCHEMA)
    assert batch.schema.names == [*COLUMNS, "is click", "time.ms"]
    assert batch["education_num"].to_pylist() == [i % 3 for i in range(40)]
    assert batch["word"].to_pylist() == [str(i % 7) for i in range(40)]


def test_all_of_a_log_is_by_the_fields_names_from_records_on(tmp_path):
    frame().to_csv(tmp_path / "log.csv", index=False)
    schema = tmp_path / "schema.json"
    SCHEMA.save(schema)
    stored = Schema.load(schema)
    assert stored == SCHEMA
    assert stored.group == "user_id"
    data, run = tmp_path / "data", tmp_path / "run"
    log = tmp_path / "log.csv"
    options = {"split": (0.5, 0.5, 0), "history": "user_id:token:109_14:time.ms"}
    with pytest.raises(InputError, match="USER:ITEM:TIME"):  # a colon in a name
        edcn_tf.prepare(log, stored, data, **options)
    options["history"] = "user_id:109_14:time.ms"
    summary = edcn_tf.prepare(log, stored, data, **options)
    names = [field["name"] for field in summary["fields"]]
    assert names == [*COLUMNS, "query_history"]
    settings = ["epochs=1", "embedding_dim=4"]
    edcn_tf.train(data, run, edcn_tf.TrainingConfig.load(None, settings))
    logged = frame().assign(query_history="1|2")
    logged.to_csv(tmp_path / "new.csv", index=False)
    told = predict_log(run, [tmp_path / "new.csv"], tmp_path / "scores.csv")
    assert told.unknown == dict.fromkeys(told.unknown, 0)


def test_messages_name_both(tmp_path):
    frame().assign(**{"education-num": "x"}).to_csv(tmp_path / "log.csv", index=False)
    said = r"row 1, column 'education-num' \(field 'education_num'\): expected a number"
    with pytest.raises(InputError, match=said):
        list(read_log([tmp_path / "log.csv"], SCHEMA))
    frame().drop(columns="class").to_csv(tmp_path / "log.csv", index=False)
    said = r"has no column 'class' \(field 'kind'\); its columns are"
    with pytest.raises(InputError, match=said):
        list(read_log([tmp_path / "log.csv"], SCHEMA))


def test_two_fields_may_be_of_one_column(tmp_path):
    (tmp_path / "log.csv").write_text("age,y\n17,0\n18,1\n")
    fields = Field(name="age", kind="numeric"), Field(name="each_age", column="age")
    schema = Schema(label="y", fields=fields)
    [batch] = read_log([tmp_path / "log.csv"], schema)
    assert batch.to_pydict() == {"age": [17, 18], "each_age": ["17", "18"], "y": [0, 1]}


def test_a_column_that_a_field_is_named_like_is_not_read_for_it(tmp_path):
    (tmp_path / "log.csv").write_text("a,b,y\n1,2,0\n")
    fields = Field(name="a", column="b"), Field(name="b", column="a")
    [batch] = read_log([tmp_path / "log.csv"], Schema(label="y", fields=fields))
    assert batch.to_pydict() == {"a": ["2"], "b": ["1"], "y": [0]}


@pytest.mark.parametrize("role", ["label", "weight"])
def test_the_answer_is_no_column_of_a_field(role):
    roles = {"label": "y", role: "was clicked"}
    with pytest.raises(InputError, match="let the model see its answer"):
        Schema(**roles, fields=(Field(name="x", column="was clicked"),))


def test_the_time_is_no_column_of_a_field():
    with pytest.raises(InputError, match="timestamp column is also a field"):
        Schema(label="y", timestamp="t ms", fields=(Field(name="t", column="t ms"),))


@pytest.mark.parametrize(
    "name, example",
    [
        ("education-num", {"name": "education_num", "column": "education-num"}),
        ("class", {"name": "field_class", "column": "class"}),
        ("109_14", {"name": "field_109_14", "column": "109_14"}),
        ("\u5173", {"name": "field", "column": "\u5173"}),
    ],
)
def test_a_name_that_no_field_can_have_says_what_to_write(name, example):
    with pytest.raises(InputError) as error:
        Field(name=name)
    assert json.dumps(example, ensure_ascii=False) in str(error.value)
    Field(**example)


def test_a_column_must_be_a_text():
    with pytest.raises(InputError, match="Field 'x': `column`"):
        Field(name="x", column=3)
