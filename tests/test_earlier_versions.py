"""Data, runs, checkpoints and exports of earlier versions stay what they are.

`data/version_0_1.tar.xz` was made by version 0.1.0: `data` prepared with a history of
each user, `run` (a finished EDCN with DIN's layer and a linear term, calibrated), its
export `models/clicks/1`, and `unfinished`, which was stopped after the first of three
epochs; `expected.json` has what that version said of them, and of the same training
when it was not stopped, and `served_scores.csv` the probabilities of `served.csv`.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

import edcn_tf
from edcn_tf.evaluation.prediction import predict_log
from edcn_tf.evaluation.scoring import load_run

ARCHIVE = Path(__file__).parent / "data" / "version_0_1.tar.xz"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The files of the archive; for those who only read them."""
    folder = tmp_path_factory.mktemp("version_0_1")
    unpack(folder)
    return folder


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """The same, to be changed, as the working directory: the run names `data` so."""
    unpack(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def unpack(folder):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")


def expected(folder):
    return json.loads((folder / "expected.json").read_text())


def close(figures, others):
    assert set(figures) == set(others)
    for key, value in others.items():
        assert figures[key] == pytest.approx(value, abs=2e-6), key


def test_a_run_scores_and_is_judged_as_it_was(made):
    model, spec = load_run(made / "run")
    rows = edcn_tf.read_records(f"{made}/data/test-*.tfrecord", spec, 1000)
    ids = next(iter(rows))[0]
    scores = model(ids, training=False).numpy()[:, 0]
    np.testing.assert_allclose(scores, expected(made)["scores"], atol=1e-6)
    figures = edcn_tf.evaluate_run(made / "run", made / "data")
    close(figures, expected(made)["calibrated"])


def test_a_run_is_calibrated_anew(fresh):
    figures = edcn_tf.calibrate_run("run", method="none")
    assert set(figures) == {"before", "after"}
    close(edcn_tf.evaluate_run("run", "data"), expected(fresh)["figures"])


def test_an_interrupted_run_goes_on(fresh):
    config = edcn_tf.TrainingConfig.load("unfinished/config.yaml")
    result = edcn_tf.train("data", "unfinished", config)
    before = expected(fresh)["unbroken"]
    for key in ("epochs", "best_epoch", "parameters"):
        assert result[key] == before[key]
    for key in ("valid_auc", "valid_log_loss"):
        assert result[key] == pytest.approx(before[key], abs=1e-4)


def test_another_run_starts_from_it(fresh):
    schema = edcn_tf.FeatureSpec.load("run/features").schema
    edcn_tf.prepare(
        "day2.csv",
        schema,
        "second",
        vocabulary_of="run",
        history="user:item:time",
    )
    from edcn_tf.training.continued_config import continued_config

    config = continued_config("run", "second", settings=["epochs=1"])
    result = edcn_tf.train("second", "next", config, warm_start="run")
    assert result["finished"] and result["epochs"] == 1
    assert 0 < edcn_tf.evaluate_run("next", "second")["log_loss"] < 1


def test_its_export_is_proven_again_and_exported_anew(fresh):
    proof = edcn_tf.export.verify_saved_model("models/clicks/1")
    assert proof["largest_difference"] <= 1e-6
    version = edcn_tf.export.export_run("run", "models/clicks")
    assert Path(version).name == "2"


def test_a_log_is_predicted(fresh):
    assert predict_log("run", ["served.csv"], "scores.csv").rows == 50
    scores, before = (
        np.loadtxt(name, skiprows=1) for name in ("scores.csv", "served_scores.csv")
    )
    np.testing.assert_allclose(scores, before, atol=1e-6)
