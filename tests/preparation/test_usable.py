"""Splits that cannot train or judge a model are told by prepare, refused by train."""

import json

import pytest

import edcn_tf
from edcn_tf.preparation.usable import check_splits

SCHEMA = {"label": "click", "fields": [{"name": "user"}]}
WEIGHTED = {**SCHEMA, "weight": "weight"}
BOTH = [(1, 1), (0, 1)]  # (click, weight)
TOLD = {
    "train": "so there is nothing to learn from it",
    "valid": "so there is no AUC to choose the best epoch by",
    "test": "so there is no AUC of it",
}
FAULTS = {
    "no clicks": ([(0, 1), (0, 2)], SCHEMA, "has no clicks"),
    "clicks only": ([(1, 1)], SCHEMA, "has clicks only"),
    "no weight": (
        [(1, 0), (0, 0)],
        WEIGHTED,
        "has no row with a weight above 0",
    ),
    "clicks without weight": (
        [(1, 0), (0, 0.5)],
        WEIGHTED,
        "has no clicks among its rows with a weight above 0",
    ),
    "others without weight": (
        [(1, 0.5), (0, 0)],
        WEIGHTED,
        "has clicks only among its rows with a weight above 0",
    ),
}


def prepared(directory, schema, **rows):
    logs = {}
    for split, pairs in rows.items():
        lines = [f"{click},u{i},{weight}" for i, (click, weight) in enumerate(pairs)]
        path = directory / f"{split}.csv"
        path.write_text("\n".join(["click,user,weight", *lines]) + "\n")
        logs[split] = [path]
    schema = edcn_tf.Schema.from_dict(schema)
    return edcn_tf.prepare(logs, schema, directory / "data")


@pytest.mark.parametrize("split", TOLD)
@pytest.mark.parametrize(("pairs", "schema", "fault"), FAULTS.values(), ids=FAULTS)
def test_prepare_says_so_once(tmp_path, capsys, split, pairs, schema, fault):
    rows = {**dict.fromkeys(TOLD, BOTH), split: pairs}
    prepared(tmp_path, schema, **rows)
    told = f"The {split} split {fault}, {TOLD[split]}\n"
    assert capsys.readouterr().out == told
    refused = split == "valid" or (split == "train" and "no row" in fault)
    if not refused:
        check_splits(tmp_path / "data")
        return
    with pytest.raises(edcn_tf.InputError) as caught:
        check_splits(tmp_path / "data")
    assert str(caught.value) == (
        f"{tmp_path / 'data'}: the {split} split {fault}, {TOLD[split]}; prepare a "
        "larger one, or other weights"
    )


def test_nothing_is_said_of_splits_that_will_do(tmp_path, capsys):
    summary = prepared(
        tmp_path, WEIGHTED, train=BOTH, valid=[*BOTH, (1, 0)], test=BOTH * 2
    )
    assert capsys.readouterr().out == ""
    check_splits(tmp_path / "data")
    assert summary["splits"]["valid"] == {
        "rows": 3,
        "click_rate": 2 / 3,
        "weighted_rows": 2,
        "weighted_clicks": 1,
    }


def test_what_an_earlier_version_counted_is_read(tmp_path):
    prepared(tmp_path, WEIGHTED, train=BOTH, valid=[(1, 0), (0, 0)])
    path = tmp_path / "data" / "summary.json"
    summary = json.loads(path.read_text())
    for split in summary["splits"].values():
        del split["weighted_rows"], split["weighted_clicks"]
    path.write_text(json.dumps(summary))
    check_splits(tmp_path / "data")
    summary["splits"]["valid"]["click_rate"] = 1.0
    path.write_text(json.dumps(summary))
    with pytest.raises(edcn_tf.InputError, match="the valid split has clicks only, so"):
        check_splits(tmp_path / "data")


@pytest.mark.parametrize(
    "values, dtype, told",
    [
        (["17.0", "", "-3.0"], "string", True),
        (["17.0", "x"], "string", False),
        (["17.0", "2.5"], "string", False),
        (["17", "3"], "string", False),
        (["17.0", "3.0"], "int64", False),
    ],
)
def test_text_that_looks_like_whole_floats_is_told(
    tmp_path, capsys, values, dtype, told
):
    """Ids with a gap, as pandas writes them into CSV: where 17 is another value."""
    rows = [f"{value},{i % 2}" for value in values for i in range(2)]
    (tmp_path / "log.csv").write_text("\n".join(["user,click", *rows]) + "\n")
    field = {"name": "user", "dtype": dtype, "min_count": 1}
    schema = edcn_tf.Schema.from_dict({"label": "click", "fields": [field]})
    logs = {"train": [tmp_path / "log.csv"], "valid": [tmp_path / "log.csv"]}
    edcn_tf.prepare(logs, schema, tmp_path / "data")
    said = capsys.readouterr().out
    assert ("Field 'user': its values are text such as" in said) == told
    assert ('"dtype": "int64"' in said) == told
