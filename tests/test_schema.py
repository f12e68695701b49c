import dataclasses
import json

import pytest

from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.files import read_json
from edcn_tf.schema import Schema

# Every key of every part at a value that is not its default.
FULL = {
    "label": "bought für €",
    "group": "visitor",
    "timestamp": "at",
    "weight": "importance",
    "fields": [
        {
            "name": "tags",
            "kind": "categorical",
            "dtype": "int64",
            "min_count": 3,
            "max_size": 70,
            "unseen_rows": 4,
            "multiple": True,
            "separator": ";",
            "max_length": 5,
            "pooling": "sum",
        },
        {
            "name": "device",
            "kind": "categorical",
            "hash_buckets": 11,
            "candidate": True,
        },
        {
            "name": "Price_2",
            "kind": "numeric",
            "dtype": "int64",
            "buckets": 9,
            "scale": "log",
        },
        {"name": "image", "kind": "numeric", "length": 128, "candidate": True},
        {"name": "past", "kind": "sequence", "of": "device", "max_length": 7},
        {
            "name": "since",
            "kind": "sequence",
            "buckets": 5,
            "along": "past",
            "column": "time since",
        },
        {
            "name": "both",
            "kind": "cross",
            "of": ["device", "country"],
            "min_count": 4,
            "max_size": 60,
            "unseen_rows": 2,
        },
        {"name": "country"},
        {
            "name": "rate",
            "kind": "statistic",
            "of": ["country", "tags"],
            "delay": "2d",
            "half_life": 3600,
            "smoothing": 2.5,
            "prior": 0.125,
            "min_count": 3,
            "max_size": 1000,
            "hash_buckets": 5000,
            "buckets": 12,
        },
    ],
}


def one_line_error(call, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_save_and_load_keep_every_key(tmp_path):
    schema = Schema.from_dict(FULL)
    schema.save(tmp_path / "schema.json")
    assert Schema.load(tmp_path / "schema.json") == schema
    stored = json.loads((tmp_path / "schema.json").read_text(encoding="utf-8"))
    for key, value in FULL.items():
        if key != "fields":
            assert stored[key] == value
    for field, given in zip(stored["fields"], FULL["fields"]):
        assert field.items() >= given.items()


def test_every_key_of_a_field_is_in_the_round_trip():
    given = {key for field in FULL["fields"] for key in field}
    assert given == {field.name for field in dataclasses.fields(Field)}


def test_loaded_values_are_those_of_the_file():
    tags, device, price, image, past, since, both, *_ = Schema.from_dict(FULL).fields
    assert (tags.dtype, tags.min_count, tags.max_size) == ("int64", 3, 70)
    assert (tags.unseen_rows, tags.separator, tags.pooling) == (4, ";", "sum")
    assert (tags.multiple, tags.max_length, tags.slots) == (True, 5, 5)
    assert (device.hash_buckets, device.min_count, device.slots) == (11, None, 1)
    assert (price.kind, price.dtype, price.buckets) == ("numeric", "int64", 9)
    assert price.scale == "log"
    assert (image.length, image.dtype, image.buckets) == (128, "float32", None)
    assert (image.slots, image.is_vector, image.has_ranges) == (129, True, False)
    assert (image.has_vocabulary, image.is_list, image.candidate) == (
        False,
        False,
        True,
    )
    assert (past.of, past.dtype, past.slots) == ("device", "string", 7)
    assert (both.of, both.dtype, both.slots) == (("device", "country"), "string", 1)
    assert (both.min_count, both.max_size, both.unseen_rows) == (4, 60, 2)
    assert (both.has_vocabulary, both.shares_rows, both.candidate) == (
        True,
        False,
        True,
    )
    assert (since.along, since.dtype, since.slots) == ("past", "float32", 7)


def test_defaults():
    plain, number, several = (
        Field(name="a"),
        Field(name="b", kind="numeric"),
        Field(name="c", multiple=True),
    )
    assert (plain.dtype, plain.min_count, plain.max_size) == ("string", 2, None)
    assert (number.dtype, number.buckets, number.scale) == ("float32", 32, "quantile")
    assert (several.max_length, several.pooling, several.separator) == (8, "mean", "|")


def test_to_dict_of_a_plain_field_can_be_read_again():
    vector = Field(name="c", kind="numeric", length=3)
    cross = Field(name="d", kind="cross", of=("a", "b"), hash_buckets=7)
    for field in (Field(name="a"), Field(name="b", kind="numeric"), vector, cross):
        assert Field(**field.to_dict()) == field


def test_columns_are_fields_first_and_each_once():
    schema = Schema(
        label="click",
        fields=(Field(name="user"), Field(name="item")),
        group="user",
        timestamp="ts",
        weight="w",
    )
    assert schema.columns == ["user", "item", "click", "ts", "w"]


BAD_FIELDS = [
    ({"name": "f", "kind": "text"}, "kind", "'text'"),
    ({"name": "f", "kind": None}, "kind", "None"),
    ({"name": "f", "kind": ["numeric"]}, "kind", "['numeric']"),
    ({"name": "f", "dtype": "float32"}, "dtype", "'float32'"),
    ({"name": "f", "kind": "numeric", "dtype": "string"}, "dtype", "'string'"),
    ({"name": "f", "kind": "numeric", "buckets": 1}, "buckets", "1"),
    ({"name": "f", "kind": "numeric", "buckets": 2.5}, "buckets", "2.5"),
    ({"name": "f", "kind": "numeric", "buckets": True}, "buckets", "True"),
    ({"name": "f", "kind": "numeric", "scale": "linear"}, "scale", "'linear'"),
    ({"name": "f", "kind": "numeric", "multiple": True}, "multiple", "True"),
    ({"name": "f", "kind": "numeric", "min_count": 2}, "min_count", "2"),
    ({"name": "f", "kind": "numeric", "max_size": 2}, "max_size", "2"),
    ({"name": "f", "kind": "numeric", "hash_buckets": 2}, "hash_buckets", "2"),
    ({"name": "f", "kind": "numeric", "max_length": 2}, "max_length", "2"),
    ({"name": "f", "kind": "numeric", "length": 0}, "length", "0"),
    ({"name": "f", "kind": "numeric", "length": 2.0}, "length", "2.0"),
    ({"name": "f", "kind": "numeric", "length": 10_001}, "length", "10001"),
    ({"name": "f", "length": 4}, "length", "4"),
    ({"name": "f", "kind": "sequence", "length": 4}, "length", "4"),
    ({"name": "f", "kind": "sequence", "of": "g", "length": 4}, "length", "4"),
    *(
        ({"name": "f", "kind": "numeric", "length": 4, key: value}, key, repr(value))
        for key, value in [
            *(("buckets", 3), ("scale", "log"), ("multiple", True), ("dtype", "int64")),
            *(("min_count", 2), ("max_size", 2), ("hash_buckets", 2)),
            *(("max_length", 2), ("pooling", "sum"), ("unseen_rows", 2)),
            *(("separator", ""), ("of", "g"), ("along", "g")),
        ]
    ),
    *(
        ({"name": "f", "kind": "cross", "of": of}, "of", repr(of))
        for of in [
            *(None, "g", [], ["g"], ["g", "g"], ["g", 3], {"g": 1, "h": 2}),
            ["a", "b", "c", "d", "e"],
        ]
    ),
    *(
        ({"name": "f", "kind": "cross", "of": ["a", "b"], key: value}, key, repr(value))
        for key, value in [
            *(("buckets", 3), ("scale", "log"), ("multiple", True), ("dtype", "int64")),
            *(("max_length", 2), ("pooling", "sum"), ("separator", ";"), ("length", 2)),
            *(("along", "g"), ("column", "g"), ("min_count", 0), ("unseen_rows", 0)),
        ]
    ),
    ({"name": "f", "of": ["a", "b"]}, "of", "['a', 'b']"),
    (
        {
            "name": "f",
            "kind": "cross",
            "of": ["a", "b"],
            "hash_buckets": 3,
            "max_size": 4,
        },
        "max_size",
        "4",
    ),
    ({"name": "f", "buckets": 3}, "buckets", "3"),
    ({"name": "f", "hash_buckets": 5, "min_count": 2}, "min_count", "2"),
    ({"name": "f", "hash_buckets": 5, "max_size": 9}, "max_size", "9"),
    ({"name": "f", "hash_buckets": 0}, "hash_buckets", "0"),
    ({"name": "f", "hash_buckets": "many"}, "hash_buckets", "'many'"),
    ({"name": "f", "min_count": 0}, "min_count", "0"),
    ({"name": "f", "min_count": "2"}, "min_count", "'2'"),
    ({"name": "f", "max_size": 0}, "max_size", "0"),
    ({"name": "f", "unseen_rows": 0}, "unseen_rows", "0"),
    ({"name": "f", "multiple": "yes"}, "multiple", "'yes'"),
    ({"name": "f", "multiple": True, "max_length": 0}, "max_length", "0"),
    ({"name": "f", "multiple": True, "pooling": "max"}, "pooling", "'max'"),
    ({"name": "f", "multiple": True, "separator": ""}, "separator", "''"),
    ({"name": "f", "max_length": 3}, "max_length", "3"),
]


@pytest.mark.parametrize(
    "field, key, received", BAD_FIELDS, ids=[str(case[0]) for case in BAD_FIELDS]
)
def test_a_bad_field_is_named_with_key_and_value(field, key, received):
    message = one_line_error(
        Schema.from_dict, {"label": "y", "fields": [{"name": "ok"}, field]}
    )
    assert "'f'" in message
    assert f"`{key}`" in message
    assert message.endswith(f"Received: {received}")


BAD_NAMES = ["", 3, None, "a\nb", "tab\tname"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("key", ["label", "group", "timestamp", "weight"])
def test_a_column_must_be_a_printable_text(key, name):
    config = {"label": "y", "fields": [{"name": "a"}], key: name}
    if name is None and key != "label":
        assert Schema.from_dict(config).to_dict().get(key) is None
    else:
        assert one_line_error(Schema.from_dict, config).endswith(f"Received: {name!r}")


# A field's name is also the name of a file and of an input of the served model.
@pytest.mark.parametrize(
    "name", [*BAD_NAMES, "a/b", "../a", "a b", "ü", "1a", "_a", "a.b", "a\n", "a" * 101]
)
def test_a_field_must_have_a_simple_name(name):
    message = one_line_error(Field, name=name)
    assert "letters, digits and _" in message
    assert message.endswith(f"Received: {name!r}")


@pytest.mark.parametrize("name", ["a", "Z", "user_id", "C14", "a" * 100])
def test_a_simple_name(name):
    assert Field(name=name).name == name


BAD_SCHEMAS = [
    ({"fields": []}, ["no fields"]),
    ({"fields": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}, ["twice", "'a'"]),
    ({"fields": [{"name": "y"}]}, ["label", "'y'"]),
    ({"fields": [{"name": "w"}], "weight": "w"}, ["weight", "'w'"]),
    ({"fields": [{"name": "t"}], "timestamp": "t"}, ["timestamp", "'t'"]),
    ({"fields": [{"name": "a"}], "timestamp": "y"}, ["different columns", "'y'"]),
    ({"fields": [{"name": "a"}], "weight": "y"}, ["different columns", "'y'"]),
    ({"fields": [{"name": "a"}], "group": "y"}, ["different columns", "'y'"]),
    (
        {"fields": [{"name": "a"}], "group": "t", "timestamp": "t"},
        ["different columns", "'t'"],
    ),
    (
        {"fields": [{"name": "a"}], "weight": "t", "timestamp": "t"},
        ["different columns", "'t'"],
    ),
    ({"fields": [{"name": "g", "multiple": True}], "group": "g"}, ["group", "'g'"]),
    ({"fields": [{"name": "a"}], "group": 7}, ["`group`", "7"]),
    ({"fields": {"name": "a"}}, ["`fields`", "{'name': 'a'}"]),
    ({"fields": ["a"]}, ["Field 0", "'a'"]),
    ({"fields": [{"name": "a"}, {"kind": "numeric"}]}, ["Field 1", "`name`"]),
    ({"fields": [{"name": "a", "min_cuont": 2}]}, ["Field 0", "'min_cuont'"]),
    ({"fields": [{"name": "a"}], "lable": "y"}, ["'lable'"]),
]


@pytest.mark.parametrize(
    "config, parts", BAD_SCHEMAS, ids=[str(case[0]) for case in BAD_SCHEMAS]
)
def test_a_bad_schema_file_is_named_with_what_is_wrong(tmp_path, config, parts):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps({"label": "y", **config}), encoding="utf-8")
    message = one_line_error(Schema.load, path)
    assert message.startswith(f"{path}: ")
    assert "Received: " in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("missing", ["label", "fields"])
def test_a_missing_key_is_named(missing):
    config = {"label": "y", "fields": [{"name": "a"}]}
    del config[missing]
    message = one_line_error(Schema.from_dict, config)
    assert f"`{missing}`" in message and "Received: " in message


@pytest.mark.parametrize("content", ["[1, 2]", '"text"', "3", "null"])
def test_a_schema_that_is_no_object(tmp_path, content):
    (tmp_path / "s.json").write_text(content)
    message = one_line_error(Schema.load, tmp_path / "s.json")
    assert str(tmp_path / "s.json") in message and "Received: " in message


@pytest.mark.parametrize("content", [b"", b"{'label': 1}", b'{"label": ', b"\xff\xfe{"])
def test_a_file_that_is_not_json(tmp_path, content):
    path = tmp_path / "s.json"
    path.write_bytes(content)
    message = one_line_error(Schema.load, path)
    assert message.startswith(f"{path}: is not JSON")


def test_a_missing_file(tmp_path):
    path = tmp_path / "absent.json"
    assert one_line_error(read_json, path) == f"{path}: No such file or directory"
    assert str(path) in one_line_error(Schema.load, path)
    assert str(tmp_path) in one_line_error(Schema.load, tmp_path)


PARTS = (
    *(
        {"name": "a"},
        {"name": "b", "dtype": "int64"},
        {"name": "several", "multiple": True},
    ),
    *({"name": "number", "kind": "numeric"}, {"name": "past", "kind": "sequence"}),
    {"name": "other", "kind": "cross", "of": ["a", "b"]},
)


def crossed(of, **keys):
    cross = {"name": "both", "kind": "cross", "of": of, **keys}
    return {"label": "y", "fields": [cross, *PARTS]}


@pytest.mark.parametrize(
    "part", ["several", "number", "past", "other", "both", "nothing"]
)
def test_a_cross_is_of_single_categorical_values(part):
    message = one_line_error(Schema.from_dict, crossed(["a", part]))
    assert message == (
        "Field 'both': `of` must name categorical fields with one value a row. "
        f"Received: {part!r}"
    )


def test_a_cross_is_a_candidates_if_a_part_is():
    told = one_line_error(Schema.from_dict, crossed(["a", "b"], candidate=True))
    assert "a cross is `candidate` if one of its fields is" in told
    config = crossed(["a", "b"])
    config["fields"][1] = {"name": "a", "candidate": True}
    schema = Schema.from_dict(config)
    assert [f.name for f in schema.fields if f.candidate] == ["both", "a", "other"]
    assert Schema.from_dict(schema.to_dict()) == schema


def test_a_cross_is_no_column():
    schema = Schema.from_dict(crossed(["a", "b"]))
    assert schema.columns == ["a", "b", "several", "number", "past", "y"]
    for role in ("group", "timestamp", "weight", "label"):
        message = one_line_error(
            Schema.from_dict, {**crossed(["a", "b"]), role: "both"}
        )
        assert "Received: 'both'" in message and role in message
    config = crossed(["a", "b"])
    config["fields"].append({"name": "c", "column": "both"})  # which the log may have
    assert Schema.from_dict(config).named("both") == "c"


def test_no_sequence_is_of_or_along_a_cross():
    for key in ("of", "along"):
        config = crossed(["a", "b"])
        config["fields"].append({"name": "more", "kind": "sequence", key: "both"})
        message = one_line_error(Schema.from_dict, config)
        assert f"`{key}` must name" in message and "'both'" in message


def test_a_schema_cannot_be_changed():
    schema = Schema.from_dict(FULL)
    with pytest.raises(AttributeError):
        schema.label = "other"
    with pytest.raises(AttributeError):
        schema.fields[0].min_count = 1


@pytest.mark.parametrize("name", ["self", "class", "def", "None"])
def test_names_that_tensorflow_refuses_are_refused_first(name):
    message = one_line_error(Field, name=name)
    assert "TensorFlow can have no input of that name" in message


def test_fields_that_differ_in_case_alone_are_refused():
    fields = [Field(name="User"), Field(name="item"), Field(name="user")]
    message = one_line_error(Schema, label="click", fields=fields)
    assert message.endswith("Received: 'User' and 'user'")


STATISTIC = {"name": "rate", "kind": "statistic", "of": "a"}


def counted(**keys):
    fields = [{**STATISTIC, **keys}, *PARTS, {"name": "more", "multiple": True}]
    return {"label": "y", "timestamp": "t", "fields": fields}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"of": "nothing"}, "must name categorical fields. Received: 'nothing'"),
        ({"of": []}, "1 to 4 different names"),
        ({"of": ["a", "a"]}, "1 to 4 different names"),
        ({"of": None}, "1 to 4 different names"),
        ({"of": ["a", "rate"]}, "cannot be of itself"),
        ({"of": "y"}, "counts the label of itself"),
        ({"of": "other"}, "must name categorical fields. Received: 'other'"),
        ({"of": ["more", "tags"]}, "one may be a list. Received: ['more', 'tags']"),
        ({"delay": "1w"}, 'such as "1d", "6h", "30m" or "45s"'),
        ({"delay": -1}, "a time of at least 0"),
        ({"delay": float("nan")}, "a time of at least 0"),
        ({"half_life": 0}, "a time above 0"),
        ({"half_life": "0d"}, "a time above 0"),
        ({"smoothing": 0}, "`smoothing` must be a number above 0"),
        ({"smoothing": float("inf")}, "`smoothing` must be a number above 0"),
        ({"prior": 1}, "`prior` must be a number above 0 and below 1"),
        ({"min_count": 0}, "`min_count` must be a whole number of at least 1"),
        ({"hash_buckets": 0}, "`hash_buckets` must be a whole number"),
        ({"buckets": 1}, "`buckets` must be a whole number of at least 2"),
        ({"column": "x"}, "`column` has no meaning for a statistic"),
        ({"unseen_rows": 3}, "`unseen_rows` has no meaning for a statistic"),
        ({"dtype": "string"}, "`dtype` must be one of"),
        ({"candidate": True}, "a statistic is `candidate` if one of its fields is"),
    ],
)
def test_a_statistic_that_cannot_be(keys, message):
    config = counted(**keys)
    if keys.get("of") == ["more", "tags"]:
        config["fields"].append({"name": "tags", "multiple": True})
    assert message in one_line_error(Schema.from_dict, config)


@pytest.mark.parametrize("key", ["delay", "half_life"])
def test_a_time_of_a_statistic_needs_a_timestamp(key):
    config = counted(**{key: "1d"})
    assert Schema.from_dict(config)
    del config["timestamp"]
    told = one_line_error(Schema.from_dict, config)
    assert f"`{key}` needs a timestamp" in told


def test_other_fields_have_nothing_of_a_statistic():
    for key in ("delay", "half_life", "smoothing", "prior"):
        told = one_line_error(Field, name="a", **{key: 0.5})
        assert f"`{key}` has no meaning for a field that is no statistic" in told


def test_a_statistic_is_no_input_and_no_group():
    schema = Schema.from_dict(counted())
    assert "rate" not in [field.name for field in schema.inputs]
    assert "rate" not in schema.columns
    assert [field.name for field in schema.statistics] == ["rate"]
    told = one_line_error(Schema.from_dict, {**counted(), "group": "rate"})
    assert "a column, which a statistic is not" in told
