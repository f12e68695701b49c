"""Training: the best model is kept, and an interrupted run goes on."""

import numpy as np
import pytest

import edcn_tf
from edcn_tf.config import model_options
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.training.callback import TrainingCallback
from edcn_tf.training.checkpoints.checkpoint import latest_checkpoint
from helpers.small_log import history, prepare_small_log


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare_small_log(tmp_path_factory.mktemp("training"), 1500, weight=True)


def config(**settings):
    small = {"epochs": 3, "batch_size": 64, "embedding_dim": 4}
    return edcn_tf.TrainingConfig.from_dict({**small, **settings})


def test_the_saved_model_is_that_of_the_best_epoch(data, tmp_path):
    result = edcn_tf.train(
        data, tmp_path / "run", config(epochs=8, patience=1, drops=1, learning_rate=0.1)
    )
    rows = history(tmp_path / "run")
    aucs = [float(row["val_auc"]) for row in rows]
    assert len(rows) == result["epochs"]
    assert max(aucs) == aucs[result["best_epoch"] - 1] == result["valid_auc"]
    figures = edcn_tf.evaluate_run(tmp_path / "run", data, "valid")
    assert figures["auc"] == pytest.approx(result["valid_auc"], abs=1e-6)
    assert figures["log_loss"] == pytest.approx(result["valid_log_loss"], abs=1e-6)


def test_the_learning_rate_drops_on_a_plateau_and_training_stops(data, tmp_path):
    settings = config(epochs=60, patience=1, drops=1, learning_rate=0.1)
    result = edcn_tf.train(data, tmp_path / "run", settings)
    rates = [float(row["learning_rate"]) for row in history(tmp_path / "run")]
    assert result["epochs"] < 60
    assert sorted({round(rate, 6) for rate in rates}) == [0.03, 0.1]


def test_a_run_learns_what_the_linear_model_cannot(data, tmp_path):
    """The log's clicks hang on user and item together (an exclusive or)."""
    edcn = edcn_tf.train(data, tmp_path / "edcn", config(epochs=12, l2=1.0))
    linear = edcn_tf.train(
        data,
        tmp_path / "linear",
        edcn_tf.TrainingConfig.from_dict(
            {"model": "logistic_regression", "epochs": 12, "batch_size": 64}
        ),
    )
    assert edcn["valid_auc"] > 0.75 > 0.65 > linear["valid_auc"]


def test_the_same_seed_gives_the_same_figures(data, tmp_path):
    results = [
        edcn_tf.train(data, tmp_path / name, config(epochs=2, seed=seed))["valid_auc"]
        for name, seed in [("a", 5), ("b", 5), ("c", 6)]
    ]
    assert results[0] == pytest.approx(results[1], abs=1e-5)
    assert results[0] != results[2]


def test_config_round_trip_at_other_values(tmp_path):
    values = {
        "seed": 3,
        "epochs": 7,
        "batch_size": 33,
        "learning_rate": 0.02,
        "optimizer": "adam",
        "average_decay": None,
        "patience": 4,
        "learning_rate_drop": 0.5,
        "drops": 0,
        "mixed_precision": True,
        "preset": "bars",
        "bridge": "attention",
        "temperature": 0.3,
        "num_layers": 1,
    }
    first = edcn_tf.TrainingConfig.from_dict(values)
    again = edcn_tf.TrainingConfig.from_dict(first.to_dict())
    assert again == first
    assert {key: again.to_dict()[key] for key in values} == values
    assert again.to_dict()["embedding_dim"] == 10  # from the preset
    assert set(model_options(edcn_tf.EDCN)) <= set(again.to_dict())


def test_settings_are_read_as_yaml_and_override_the_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("learning_rate: 1.0e-2\nbridge: add\n")
    config = edcn_tf.TrainingConfig.load(
        path, ["learning_rate=1e-3", "average_decay=null", "gate_scale=false"]
    )
    assert config.learning_rate == 0.001
    assert config.average_decay is None
    assert (config.options["bridge"], config.options["gate_scale"]) == ("add", False)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model": "lightgbm"}, "model must be one of.*'deepfm'"),
        ({"model": "dcn", "preset": "bars"}, "preset is of EDCN.*'dcn'"),
        ({"pretrained": "vectors.csv"}, "pretrained must be.*'vectors.csv'"),
        ({"preset": "mine"}, "preset must be one of"),
        ({"optimizer": "sgd"}, "optimizer must be one of"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"epochs": True}, "Received: True"),
        ({"learning_rate": "fast"}, "Received: 'fast'"),
        ({"average_decay": 1.0}, "at most 0.999999"),
        ({"mixed_precision": 1}, "must be true or false"),
        ({"model": "logistic_regression", "bridge": "add"}, "Unknown key"),
    ],
)
def test_a_setting_that_does_not_fit(values, expected):
    with pytest.raises(edcn_tf.InputError, match=expected):
        edcn_tf.TrainingConfig.from_dict(values)


def test_yaml_is_data_not_code(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("seed: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(edcn_tf.InputError, match="is not YAML"):
        edcn_tf.TrainingConfig.load(path)


def test_validation_with_one_class_is_refused(data, tmp_path):
    lines = ["click,user,item,weight", *["1,u1,i1,1", "0,u2,i1,1"] * 40]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "valid.csv").write_text("click,user,item,weight\n1,u1,i1,1\n")
    schema = edcn_tf.FeatureSpec.load(data / "features").schema
    logs = {"train": [tmp_path / "train.csv"], "valid": [tmp_path / "valid.csv"]}
    edcn_tf.prepare(logs, schema, tmp_path / "data")
    with pytest.raises(edcn_tf.InputError, match="the valid split has clicks only"):
        edcn_tf.train(tmp_path / "data", tmp_path / "run", config())


def test_a_loss_that_is_no_number_stops_the_run(data, tmp_path):
    with pytest.raises(
        edcn_tf.InputError,
        match="epoch 1, by step 8, .* 1e.30; no longer numbers: embedding/table",
    ):
        edcn_tf.train(
            data, tmp_path / "run", config(learning_rate=1e30, average_decay=None)
        )


def test_a_loss_that_is_no_number_stops_training(data, tmp_path, monkeypatch):
    """It names step, rate and weights; the last good checkpoint and model stay."""
    run, settings = tmp_path / "run", config(epochs=4, steps_per_execution=1)
    begin = TrainingCallback.on_epoch_begin

    def diverge(self, epoch, logs=None):
        begin(self, epoch, logs)
        if epoch == 2:
            self.model.optimizer.learning_rate = 1e25

    with monkeypatch.context() as patch:
        patch.setattr(TrainingCallback, "on_epoch_begin", diverge)
        with pytest.raises(
            edcn_tf.InputError,
            match=r"became (nan|inf) in epoch 3, by step \d, at a learning rate of "
            r"1e\+25; (no longer numbers|grown most): .*/.*Lower learning_rate",
        ) as caught:
            edcn_tf.train(data, run, settings)
    assert len(str(caught.value).splitlines()) == 1
    assert latest_checkpoint(run)[:2] == (2, 0)
    model, _ = load_run(run)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert edcn_tf.train(data, run, settings)["epochs"] == 4
