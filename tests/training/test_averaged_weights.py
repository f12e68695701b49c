"""Keras' own callbacks and ours, with a model of ours and SparseAdam."""

import csv
import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf import EDCN, AveragedWeights, SparseAdam
from edcn_tf.training.optimizers import averaged_weights

NUM_ROWS, BATCH, STEPS = 12, 16, 4
SPEC = {
    "fields": [{"name": n, "slots": 1, "pooling": "mean"} for n in "ab"],
    "num_rows": NUM_ROWS,
}


def made_rows(seed=0):
    """Ids and labels; row 0, the padding, and the last row are never drawn."""
    random = np.random.default_rng(seed)
    ids = random.integers(1, NUM_ROWS - 1, (BATCH * STEPS, 2), dtype=np.int32)
    return ids, ((ids[:, 0] + ids[:, 1]) % 2).astype(np.float32)


def dataset(ids, labels):
    return tf.data.Dataset.from_tensor_slices((ids, labels)).batch(BATCH)


TRAIN = dataset(*made_rows())
# The contrary of what training teaches: the first epoch is the best one.
CONTRARY = dataset(made_rows()[0], 1 - made_rows()[1])


def made_model(learning_rate=0.05, seed=0, **options):
    keras.utils.set_random_seed(seed)
    model = EDCN(SPEC, embedding_dim=3, dropout=0.0)
    model.compile(
        SparseAdam(learning_rate, **options), "binary_crossentropy", metrics=["auc"]
    )
    return model


def fit(model, epochs, callbacks=(), **options):
    options = {"verbose": 0, "shuffle": False, **options}
    return model.fit(TRAIN, epochs=epochs, callbacks=list(callbacks), **options)


class Tables(keras.callbacks.Callback):
    """Notes the table, and the last or the averaged one, at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.found, self.averages = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.found.append(self.model.embedding.table.numpy())
        with averaged_weights(self.model.optimizer):
            self.averages.append(self.model.embedding.table.numpy())


def table_of(model):
    return model.embedding.table.numpy()


def everything(model):
    variables = [*model.weights, *model.optimizer.variables]
    return [variable.numpy() for variable in variables]


def assert_same(one, other, atol=1e-7):
    assert len(one) == len(other)
    for a, b in zip(one, other):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=atol)


def test_early_stopping_restores_the_table_of_the_best_epoch():
    model, tables = made_model(), Tables()
    stopping = keras.callbacks.EarlyStopping(
        "val_auc", mode="max", patience=2, restore_best_weights=True
    )
    history = fit(model, 9, [tables, stopping], validation_data=CONTRARY).history
    best = int(np.argmax(history["val_auc"]))
    assert len(tables.found) == best + 3 < 9
    np.testing.assert_array_equal(table_of(model), tables.found[best])
    assert np.abs(table_of(model) - tables.found[-1]).max() > 1e-3


def test_reduce_lr_on_plateau_lowers_the_rate_of_the_table_too():
    never_better = {"monitor": "loss", "patience": 1, "min_delta": 1e9}
    model, tables = made_model(0.05), Tables()
    plateau = keras.callbacks.ReduceLROnPlateau(**never_better, factor=0.2)
    rates = fit(model, 3, [tables, plateau]).history["learning_rate"]
    np.testing.assert_allclose(rates, [0.05, 0.05, 0.01], rtol=1e-6)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.002)
    # A rate of zero from the third epoch on: it reaches the compiled step.
    model, tables = made_model(0.05), Tables()
    plateau = keras.callbacks.ReduceLROnPlateau(**never_better, factor=0.0)
    fit(model, 3, [tables, plateau])
    assert np.abs(tables.found[1] - tables.found[0]).max() > 1e-3
    np.testing.assert_array_equal(tables.found[2], tables.found[1])


def test_learning_rate_scheduler():
    model, tables = made_model(), Tables()
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 * (epoch < 2))
    rates = fit(model, 3, [scheduler, tables]).history["learning_rate"]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.0], rtol=1e-6)
    assert np.abs(tables.found[1] - tables.found[0]).max() > 1e-3
    np.testing.assert_array_equal(tables.found[2], tables.found[1])


@pytest.mark.parametrize("path", ["whole.keras", "only.weights.h5"])
def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(path, tmp_path):
    path = tmp_path / path
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, save_weights_only=path.suffix == ".h5", save_freq="epoch"
    )
    # A schedule, whose rate hangs on the number of steps that the optimizer made.
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, 10, warmup_target=0.1, warmup_steps=3
    )
    whole = made_model(schedule, average_decay=0.9)
    fit(whole, 2, [checkpoint])
    stopped = everything(whole)
    fit(whole, 3, initial_epoch=2)
    if path.suffix == ".keras":
        again = keras.saving.load_model(path)
    else:
        again = made_model(schedule, seed=1, average_decay=0.9)
        again.load_weights(path)
    assert int(again.optimizer.iterations) == 2 * STEPS
    assert_same(everything(again), stopped)
    fit(again, 3, initial_epoch=2)
    assert int(again.optimizer.iterations) == 3 * STEPS
    assert_same(everything(again), everything(whole), atol=1e-6)
    assert np.abs(everything(whole)[0] - stopped[0]).max() > 1e-4


def test_checkpoint_of_the_best_epoch_alone(tmp_path):
    model, tables = made_model(), Tables()
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="val_auc", mode="max", save_best_only=True
    )
    history = fit(model, 4, [tables, checkpoint], validation_data=CONTRARY).history
    best = keras.saving.load_model(tmp_path / "best.keras")
    epoch = int(np.argmax(history["val_auc"]))
    assert epoch < 3
    np.testing.assert_array_equal(table_of(best), tables.found[epoch])


def test_backup_and_restore(tmp_path):
    def stop(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    stopper = keras.callbacks.LambdaCallback(on_epoch_begin=stop)
    with pytest.raises(KeyboardInterrupt):
        fit(made_model(), 4, [backup, stopper])
    again, whole = made_model(seed=1), made_model()
    assert len(fit(again, 4, [backup]).history["loss"]) == 2
    fit(whole, 4)
    assert_same(everything(again), everything(whole), atol=1e-6)


def csv_rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_csv_logger(tmp_path):
    path = tmp_path / "history.csv"
    logger = keras.callbacks.CSVLogger(path)
    history = fit(made_model(), 2, [logger], validation_data=CONTRARY).history
    rows = csv_rows(path)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert set(rows[0]) == {"epoch", *history}
    for key in ("loss", "auc", "val_loss", "val_auc"):
        assert [float(row[key]) for row in rows] == pytest.approx(history[key])


def test_a_schedule_decides_each_step_of_fit():
    # To zero within the first epoch: the second one changes nothing.
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, STEPS, 0.0)
    start, model, tables = made_model(), made_model(schedule), Tables()
    start.build((None, 2))
    fit(model, 2, [tables])
    assert np.abs(tables.found[0] - table_of(start)).max() > 1e-2
    np.testing.assert_array_equal(tables.found[1], tables.found[0])


# The average


def test_validation_sees_the_average_and_training_the_last_weights():
    plain, tables = made_model(average_decay=0.9), Tables()
    fit(plain, 3, [tables])
    model, seen = made_model(average_decay=0.9), Tables()
    history = fit(model, 3, [AveragedWeights(), seen], validation_data=CONTRARY).history
    assert_same(seen.found, tables.averages, atol=1e-6)
    assert np.abs(tables.averages[-1] - tables.found[-1]).max() > 1e-3
    with averaged_weights(plain.optimizer):
        expected = plain.evaluate(CONTRARY, verbose=0, return_dict=True)
    last = plain.evaluate(CONTRARY, verbose=0, return_dict=True)
    assert history["val_loss"][-1] == pytest.approx(expected["loss"], abs=1e-5)
    assert abs(last["loss"] - expected["loss"]) > 1e-3
    # After training the model has what was validated.
    np.testing.assert_allclose(table_of(model), tables.averages[-1], atol=1e-6)
    found = model.evaluate(CONTRARY, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)


def test_the_best_average_is_restored_and_saved(tmp_path):
    tables = Tables()
    stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    model = made_model(average_decay=0.9)
    callbacks = [tables, AveragedWeights(), stopping, best]
    history = fit(model, 9, callbacks, validation_data=CONTRARY).history
    epoch = int(np.argmin(history["val_loss"]))
    assert len(tables.found) == epoch + 3 < 9
    expected = tables.averages[epoch]
    assert np.abs(expected - tables.found[epoch]).max() > 1e-3
    np.testing.assert_allclose(table_of(model), expected, atol=1e-6)
    saved = keras.saving.load_model(tmp_path / "best.keras")
    np.testing.assert_allclose(table_of(saved), expected, atol=1e-6)


def test_a_checkpoint_before_the_average_goes_on_with_the_last_weights(tmp_path):
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "last.keras")
    whole, tables = made_model(average_decay=0.9), Tables()
    fit(whole, 3, [tables])
    fit(made_model(average_decay=0.9), 2, [checkpoint, AveragedWeights()])
    again = keras.saving.load_model(tmp_path / "last.keras")
    np.testing.assert_allclose(table_of(again), tables.found[1], atol=1e-6)
    fit(again, 3, initial_epoch=2)
    assert_same(everything(again), everything(whole), atol=1e-6)


def test_evaluate_and_predict_with_the_average():
    model = made_model(average_decay=0.9)
    fit(model, 2)
    before, ids = everything(model), made_rows()[0]
    with averaged_weights(model.optimizer):
        expected = model.predict(ids, verbose=0)
        loss = model.evaluate(TRAIN, verbose=0)[0]
    assert np.abs(expected - model.predict(ids, verbose=0)).max() > 1e-3
    average = [AveragedWeights()]
    found = model.predict(ids, verbose=0, callbacks=average)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert model.evaluate(TRAIN, verbose=0, callbacks=average)[0] == pytest.approx(loss)
    assert_same(everything(model), before, atol=0.0)


def test_an_interrupted_validation_leaves_the_last_weights_to_the_next_fit():
    model, average = made_model(average_decay=0.9), AveragedWeights()
    fit(model, 1)
    last = table_of(model)

    def stop(batch, logs):
        raise KeyboardInterrupt

    callbacks = [average, keras.callbacks.LambdaCallback(on_test_batch_begin=stop)]
    with pytest.raises(KeyboardInterrupt):
        model.evaluate(TRAIN, verbose=0, callbacks=callbacks)
    assert np.abs(table_of(model) - last).max() > 1e-3
    average.on_epoch_begin(0)
    np.testing.assert_array_equal(table_of(model), last)


@pytest.mark.parametrize("optimizer", [SparseAdam(0.1), keras.optimizers.Adam(0.1)])
def test_an_optimizer_without_an_average_is_refused(optimizer):
    model = made_model()
    model.compile(optimizer, "binary_crossentropy")
    with pytest.raises(ValueError, match=r"SparseAdam\(average_decay=0.998\)"):
        fit(model, 1, [AveragedWeights()])


# TensorBoard


needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None,
    reason='needs pip install "edcn-tf[tensorboard]"',
)


def scalars(directory):
    """Run -> tag -> values, as `tensorboard --logdir` finds them."""
    from tensorboard.backend.event_processing.plugin_event_multiplexer import (
        EventMultiplexer,
    )

    runs = EventMultiplexer().AddRunsFromDirectory(str(directory))
    runs.Reload()

    def values(run, tag):
        events = runs.Tensors(run, tag)
        return [float(tf.make_ndarray(event.tensor_proto)) for event in events]

    return {
        run: {tag: values(run, tag) for tag in plugins["tensors"] if "epoch_" in tag}
        for run, plugins in runs.Runs().items()
    }


@needs_tensorboard
def test_tensorboard_of_fit(tmp_path):
    model = made_model(average_decay=0.9)
    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1, update_freq=2)
    callbacks = [AveragedWeights(), board]
    history = fit(model, 3, callbacks, validation_data=CONTRARY).history
    found = scalars(tmp_path)
    assert found["train"]["epoch_loss"] == pytest.approx(history["loss"])
    assert found["validation"]["epoch_auc"] == pytest.approx(history["val_auc"])
    rates = found["train"]["epoch_learning_rate"]
    assert rates == pytest.approx([0.05] * 3)


@needs_tensorboard
def test_tensorboard_shows_runs_side_by_side(tmp_path):
    ids, labels = made_rows()
    lines = [f"u{a},i{b},{label:.0f}" for (a, b), label in zip(ids, labels)] * 8
    (tmp_path / "log.csv").write_text("\n".join(["user,item,click", *lines]) + "\n")
    fields = [{"name": "user"}, {"name": "item"}]
    schema = edcn_tf.Schema.from_dict({"label": "click", "fields": fields})
    edcn_tf.prepare(tmp_path / "log.csv", schema, tmp_path / "data")
    results = {}
    for name, rate in [("slow", 0.003), ("fast", 0.03)]:
        config = edcn_tf.TrainingConfig.from_dict(
            {"epochs": 2, "batch_size": 64, "learning_rate": rate}
        )
        out = tmp_path / "runs" / name
        results[name] = edcn_tf.train(tmp_path / "data", out, config)
    found = scalars(tmp_path / "runs")
    assert set(found) == {
        f"{name}/tensorboard/{part}"
        for name in results
        for part in ("train", "validation")
    }
    for name, rate in [("slow", 0.003), ("fast", 0.03)]:
        rows = csv_rows(tmp_path / "runs" / name / "history.csv")
        train = found[f"{name}/tensorboard/train"]
        validation = found[f"{name}/tensorboard/validation"]
        assert train["epoch_learning_rate"] == pytest.approx([rate] * 2)
        for values, key in [
            (train["epoch_loss"], "loss"),
            (validation["epoch_auc"], "val_auc"),
            (validation["epoch_log_loss"], "val_log_loss"),
        ]:
            assert values == pytest.approx([float(row[key]) for row in rows], rel=1e-5)
