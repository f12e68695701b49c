"""The commands as a person calls them: real processes, exit status, one line."""

import csv
import json
import os
import subprocess

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from edcn import main
from edcn_tf import FAMILY
from helpers.forked import edcn
from helpers.small_log import edcn_command

STARTED = ("prepare", "train")  # of the whole way; others are forked
SCHEMA = {
    "label": "click",
    "group": "user",
    "fields": [
        {"name": "user"},
        {"name": "item"},
        {"name": "price", "kind": "numeric", "buckets": 4},
    ],
}


def edcn_started(*arguments, cwd):
    """Runs a command as a shell does; returns its exit status, output and error."""
    result = subprocess.run(
        edcn_command(*arguments),
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return result.returncode, result.stdout, result.stderr


def write_log(path, rows=600, label="click"):
    random = np.random.default_rng(1)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([label, "user", "item", "price"])
        for _ in range(rows):
            user, item = random.integers(0, 20), random.integers(0, 30)
            click = int(random.random() < (0.8 if (user + item) % 2 else 0.2))
            writer.writerow([click, f"u{user}", f"i{item}", f"{random.random():.3f}"])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the whole way has been gone, command by command."""
    folder = tmp_path_factory.mktemp("cli")
    write_log(folder / "log.csv")
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    said = {}
    for name, arguments in {
        "prepare": "prepare log.csv --schema schema.json --out data --seed 3",
        "train": "train data --out run --set epochs=2 --set embedding_dim=4 "
        "--set batch_size=64",
        "evaluate": "evaluate run data --split valid --json figures.json",
        "predict": "predict run log.csv --out scores.csv",
        "export": "export run --out models/clicks",
        "verify": "verify models/clicks/1",
        "report": "report run",
    }.items():
        how = edcn_started if name in STARTED else edcn
        status, out, err = how(*arguments.split(), cwd=folder)
        assert status == 0, f"{name}: {out}{err}"
        assert err == "", f"{name} wrote to standard error: {err}"
        said[name] = out
    return folder, said


def test_the_whole_way(place):
    folder, said = place
    summary = json.loads((folder / "data" / "summary.json").read_text())
    assert sum(split["rows"] for split in summary["splits"].values()) == 600
    assert "Next:  edcn train data" in said["prepare"]
    assert "validation AUC" in said["train"]
    for name in ("config.yaml", "model.keras", "history.csv", "report.html"):
        assert (folder / "run" / name).is_file()
    figures = json.loads((folder / "figures.json").read_text())
    keys = {"rows", "auc", "log_loss", "gauc", "calibration", "ece"}
    assert keys | {"normalized_entropy"} <= set(figures)
    assert figures["rows"] == summary["splits"]["valid"]["rows"]
    assert f"{figures['auc']:.6f}" in said["evaluate"]
    lines = (folder / "scores.csv").read_text().splitlines()
    assert lines[0].strip('"') == "probability"
    assert len(lines) == 601
    assert (folder / "models/clicks/1/saved_model.pb").is_file()
    assert "verified" in said["export"]
    assert "verified" in said["verify"]


def test_the_served_scores_are_the_predicted_ones(place):
    folder, _ = place
    served = tf.saved_model.load(str(folder / "models/clicks/1"))
    with open(folder / "log.csv") as file:
        rows = list(csv.DictReader(file))[:50]
    answer = served.signatures["serving_default"](
        user=tf.constant([row["user"] for row in rows]),
        item=tf.constant([row["item"] for row in rows]),
        price=tf.constant([float(row["price"]) for row in rows]),
    )
    scores = np.loadtxt(folder / "scores.csv", skiprows=1)[:50]
    np.testing.assert_allclose(answer["probability"][:, 0], scores, atol=1e-6)


@pytest.mark.parametrize(
    "command",
    [
        *("demo", "synthesize", "prepare", "train", "evaluate", "calibrate"),
        *("predict", "export", "verify", "report", "describe"),
    ],
)
def test_help_shows_an_example_of_every_command(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"Example:\n  edcn {command} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("prepare no.csv --schema schema.json --out x", "no.csv: No such file"),
        ("prepare log.csv --schema no.json --out x", "no.json: No such file"),
        ("prepare log.csv --out x", "--schema FILE is needed"),
        ("prepare log.csv --schema schema.json --out data", "data: exists already"),
        (
            "prepare log.csv --schema schema.json --out x --split 0.5,0.1,0.1",
            "sum to 1",
        ),
        (
            "prepare log.csv --schema schema.json --out x --split-by time",
            "the schema must name the column: `timestamp`",
        ),
        ("prepare other.csv --schema schema.json --out x", "has no column 'click'"),
        ("prepare bad.csv --schema schema.json --out x", "row 601, column 'click'"),
        ("prepare --schema schema.json --out x", "give either LOG"),
        ("train no --out x", "no/features/features.json: No such file"),
        ("train data --out run", "run: holds a finished run"),
        ("train data --out x --set lr=1", "Received: 'lr'"),
        ("train data --out x --set bridge=rope", "Received: 'rope'"),
        ("train data --out x --set epochs=many", "epochs must be a whole number"),
        ("train data --out x --config no.yaml", "no.yaml: No such file"),
        ("train data --out x --set model=dmc", "'dcn_v2'"),
        ("train data --out x --set model=fm --set bridge=add", "bridge='none'"),
        ("train data --out x --set pretrained=no.csv", "pretrained must be names"),
        ("describe no", "no/features/features.json: No such file"),
        ("describe data --set gate=lock", "Received: 'lock'"),
        ("describe data --figure log.csv", "must end in one of .svg"),
        ("benchmark models", "needs --out"),
        ("benchmark models --out x --split-by time", "--split-by does not go with"),
        ("evaluate no data", "no/model.keras: cannot be loaded"),
        ("evaluate run no", "no such TFRecord file"),
        ("evaluate run foreign", "was prepared without the column 'user'"),
        ("evaluate run broken", "test-00000.tfrecord: record 2 is damaged"),
        ("evaluate run unfit", "test-00000.tfrecord: record 2 does not fit"),
        ("predict run log.csv --out scores.csv", "scores.csv: exists already"),
        ("predict run log.csv --out x.json", ".csv or .parquet"),
        ("export run --out models/clicks --version 1", "models/clicks/1: exists"),
        ("verify models", "holds no SavedModel"),
    ],
)
def test_a_mistake_is_one_clear_line(
    place, mistakes, arguments, expected, monkeypatch, capsys
):
    folder, _ = place
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    # In this process, for a new one takes seconds to import TensorFlow.
    assert main(arguments.split()) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"edcn {arguments.split()[0]}: ")
    assert expected in lines[0]
    assert sorted(folder.rglob("*")) == before  # nothing lost, nothing left over


def test_a_mistake_ends_the_process_with_1(place):
    status, out, err = edcn_started("evaluate", "no", "data", cwd=place[0])
    assert (status, out) == (1, "")
    assert err.startswith("edcn evaluate: no/model.keras: cannot be loaded")
    assert err.count("\n") == 1


@pytest.fixture(scope="module")
def mistakes(place):
    """Files with something wrong in them."""
    folder, _ = place
    write_log(folder / "other.csv", label="clicked")
    text = (folder / "log.csv").read_text()
    (folder / "bad.csv").write_text(text + "2,u1,i1,0.5\n")
    for name in ("broken", "unfit"):
        (folder / name).mkdir()
    test = next((folder / "data").glob("test-*.tfrecord"))
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(test)).take(2)]
    length = 12 + len(records[0]) + 4  # of a record with its length and checksums
    (folder / "broken" / test.name).write_bytes(test.read_bytes()[: length + 20])
    unfit = tf.train.Example.FromString(records[1])
    unfit.features.feature["click"].int64_list.value[0] = 7
    with tf.io.TFRecordWriter(str(folder / "unfit" / test.name)) as writer:
        writer.write(records[0])
        writer.write(unfit.SerializeToString())
    (folder / "foreign").mkdir()
    copy = folder / "foreign" / "features"
    for path in (folder / "data" / "features").rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(folder / "data" / "features")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes().replace(b'"user"', b'"visitor"'))


def test_predict_writes_parquet_and_needs_no_label(place):
    folder, _ = place
    with open(folder / "log.csv") as file:
        rows = [line.split(",", 1)[1] for line in file]
    (folder / "unlabelled.csv").write_text("".join(rows))
    status, out, err = edcn(
        "predict", "run", "unlabelled.csv", "--out", "scores.parquet", cwd=folder
    )
    assert status == 0, err
    scores = pq.read_table(folder / "scores.parquet")["probability"].to_numpy()
    expected = np.loadtxt(folder / "scores.csv", skiprows=1)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert "600" in out


def test_a_split_that_the_user_made(place, tmp_path):
    folder, _ = place
    for name, seed_rows in {"a": 200, "b": 100, "c": 50}.items():
        write_log(tmp_path / f"{name}.csv", rows=seed_rows)
    status, _, err = edcn(
        "prepare",
        "--train",
        "a.csv",
        "--valid",
        "b.csv",
        "--test",
        "c.csv",
        "--out",
        "data",
        "--schema",
        folder / "schema.json",
        cwd=tmp_path,
    )
    assert status == 0, err
    summary = json.loads((tmp_path / "data" / "summary.json").read_text())
    rows = {name: split["rows"] for name, split in summary["splits"].items()}
    assert rows == {"train": 200, "valid": 100, "test": 50}


def test_debug_shows_the_traceback(place):
    folder, _ = place
    status, _, err = edcn("evaluate", "no", "data", "--debug", cwd=folder)
    assert status == 1
    assert "Traceback" in err


@pytest.mark.slow
def test_another_model_with_embeddings_from_a_file(place, capsys, monkeypatch):
    """xDeepFM with bridges and gates, unequal widths aside: trained and published."""
    folder, _ = place
    monkeypatch.chdir(folder)
    lines = [f"i{item},{item / 30},0.5,-0.5,1" for item in range(30)]
    (folder / "vectors.csv").write_text("\n".join(["item,a,b,c,d", *lines]) + "\n")
    settings = [
        *("model=xdeepfm", "bridge=concat", "gate=lhuc", "gate_fields=[user]"),
        *("epochs=1", "embedding_dim=4", "batch_size=64"),
        "pretrained={item: vectors.csv}",
    ]
    given = [part for setting in settings for part in ("--set", setting)]
    assert main(["train", "data", "--out", "xdeepfm", *given]) == 0
    assert "vectors.csv: 30 of 30 values of item; 0 rows" in capsys.readouterr().out
    assert main(["describe", "xdeepfm"]) == 0
    assert "LHUCGate" in capsys.readouterr().out
    assert main(["report", "xdeepfm"]) == 0
    page = (folder / "xdeepfm" / "report.html").read_text()
    assert "The weights of lhuc gates differ by row: these are means over" in page
    assert main(["export", "xdeepfm", "--out", "models/xdeepfm"]) == 0
    assert "verified" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",  # test_export_variety.py has those of a history
    [name for name, member in FAMILY.items() if not member.needs_history],
)
def test_every_member_passes_verify(place, name, monkeypatch, capsys):
    folder, _ = place
    monkeypatch.chdir(folder)
    quick = ["--set", "epochs=1", "--set", "batch_size=64", "--set", f"model={name}"]
    assert main(["train", "data", "--out", f"runs-{name}", *quick]) == 0
    assert main(["export", f"runs-{name}", "--out", f"models/{name}"]) == 0
    assert main(["verify", f"models/{name}/1"]) == 0
    assert "verified" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("what", ["input", "prepare"])
def test_benchmarks_print_a_table(what, capsys):
    """That they run, on few rows; speed is not for tests."""
    assert main(["benchmark", what, "--rows", "2000"]) == 0
    out = capsys.readouterr().out
    assert "rows/s" in out
    assert len(out.strip().splitlines()) >= 5 - (what == "prepare")


@pytest.mark.slow
@pytest.mark.parametrize("split_by", ["chance", "time"])
def test_the_demo(tmp_path, split_by):
    """The whole way on the real data."""
    arguments = ("demo", "--out", "demo", "--split-by", split_by)
    status, out, err = edcn(*arguments, cwd=tmp_path)
    assert status == 0, err
    figures = json.loads((tmp_path / "demo" / "figures.json").read_text())
    edcn_figures, linear = figures["edcn"], figures["logistic_regression"]
    if split_by == "chance":
        assert edcn_figures["auc"] > linear["auc"] + 0.005
    else:  # nearly all test rows are of new users, and seeds differ more than models
        assert edcn_figures["auc"] > 0.67
    assert (tmp_path / "demo/models/movielens/1/saved_model.pb").is_file()
    assert (tmp_path / "demo/runs/edcn/report.html").is_file()
    assert f"{edcn_figures['auc']:.4f}" in out
