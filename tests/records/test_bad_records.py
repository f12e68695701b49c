"""Bad records: named by default, and with leave passed over, all others trained on."""

import json

import numpy as np
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.records.checking import check_records
from edcn_tf.records.encoded import encode_rows
from edcn_tf.records.reading import reading
from edcn_tf.records.writing import record_files
from edcn_tf.training import callback

SCHEMA = edcn_tf.Schema.from_dict(
    {
        "label": "click",
        "group": "user",
        "weight": "weight",
        "fields": [
            {"name": "user"},
            {"name": "tags", "multiple": True, "max_length": 3},
            {"name": "price", "kind": "numeric"},
        ],
    }
)
FILES = 3  # of the training split


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepared data with its training split in some files; copy it before damage."""
    folder = tmp_path_factory.mktemp("bad")
    random = np.random.default_rng(7)
    lines = ["click,user,tags,price,weight"]
    for row in range(1500):
        tags = "|".join(random.choice(list("abcdef"), random.integers(0, 4)))
        user, price = random.integers(0, 15), random.integers(0, 99)
        click = int(random.random() < (0.9 if user % 2 else 0.1))
        lines.append(f"{click},u{user},{tags},{price},{1 + row % 2}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    edcn_tf.prepare(folder / "log.csv", SCHEMA, folder / "data")
    path = folder / "data" / "train-00000.tfrecord"
    records = records_of(path)
    for i in range(FILES):
        write(path.with_name(f"train-{i:05d}.tfrecord"), records[i::FILES])
    return folder / "data"


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory):
    """A run on it."""
    run = tmp_path_factory.mktemp("bad") / "run"
    edcn_tf.train(prepared, run, config(epochs=1))
    return run


@pytest.fixture
def data(prepared, tmp_path):
    return copied(prepared, tmp_path / "data")


def copied(data, to):
    to.mkdir()
    (to / "features").symlink_to(data / "features")
    for path in data.glob("*.*"):
        (to / path.name).write_bytes(path.read_bytes())
    return to


def records_of(path):
    compression = "GZIP" if path.suffix == ".gz" else ""
    return [r.numpy() for r in tf.data.TFRecordDataset(str(path), compression)]


def write(path, records):
    compression = "GZIP" if path.suffix == ".gz" else None
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)


def spec_of(data):
    return edcn_tf.FeatureSpec.load(data / "features")


def config(**settings):
    small = {"epochs": 2, "batch_size": 64, "embedding_dim": 4, "num_layers": 1}
    return edcn_tf.TrainingConfig.from_dict({**small, **settings})


# Where training ends in an error, whatever the model: traced in half of the time.
LINEAR = edcn_tf.TrainingConfig.from_dict(
    {"model": "logistic_regression", "epochs": 2, "batch_size": 64}
)


def example(record, **features):
    """The tf.Example with other features in place of its own."""
    changed = tf.train.Example.FromString(record)
    for name, value in features.items():
        changed.features.feature[name].CopyFrom(value)
    return changed.SerializeToString()


def ints(*values):
    return tf.train.Feature(int64_list={"value": values})


def floats(*values):
    return tf.train.Feature(float_list={"value": values})


def texts(*values):
    return tf.train.Feature(bytes_list={"value": values})


NAN, INFINITY = float("nan"), float("inf")
UNFIT = {
    "no proto": lambda record: b"\xff\xff no proto",
    "half of it": lambda record: record[: len(record) // 2],
    "another proto": lambda record: tf.constant([1.0]).numpy().tobytes() * 9,
    "nothing": lambda record: b"",
    "label 2": lambda record: example(record, click=ints(2)),
    "label NaN": lambda record: example(record, click=floats(NAN)),
    "label text": lambda record: example(record, click=texts(b"1")),
    "labels": lambda record: example(record, click=ints(0, 1)),
    "weight NaN": lambda record: example(record, weight=floats(NAN)),
    "weight -1": lambda record: example(record, weight=floats(-1.0)),
    "weight infinite": lambda record: example(record, weight=floats(INFINITY)),
    "weight whole": lambda record: example(record, weight=ints(1)),
    "user number": lambda record: example(record, user=ints(1)),
    "users": lambda record: example(record, user=texts(b"u1", b"u2")),
    "tags number": lambda record: example(record, tags=ints(1)),
    "price text": lambda record: example(record, price=texts(b"1")),
    "prices": lambda record: example(record, price=floats(1.0, 2.0)),
}


def flip(place):
    def damage(data, start, end):
        at = start + place if place >= 0 else end + place
        return data[:at] + bytes([data[at] ^ 8]) + data[at + 1 :]

    return damage


# Of the bytes of a file and where one record's frame is.
DAMAGE = {
    "length": flip(1),
    "checksum of the length": flip(9),
    "record": flip(20),
    "checksum of the record": flip(-2),
    "cut within the header": lambda data, start, end: data[: start + 7],
    "cut within the record": lambda data, start, end: data[: start + 20],
}


def damage(path, number, how):
    """Damages a file at its record of that number from 1."""
    records = records_of(path)
    if how in UNFIT:
        records[number - 1] = UNFIT[how](records[number - 1])
        write(path, records)
        return records[: number - 1] + records[number:]
    start = sum(16 + len(record) for record in records[: number - 1])
    end = start + 16 + len(records[number - 1])
    path.write_bytes(DAMAGE[how](path.read_bytes(), start, end))
    left = [] if how.startswith("cut") else records[number:]
    return records[: number - 1] + left


def one_line(caught, *parts):
    told = str(caught.value)
    assert "\n" not in told and len(told) < 600
    for part in parts:
        assert part in told
    return True


@pytest.mark.parametrize("how", [*UNFIT, *DAMAGE])
def test_a_bad_record_is_named_or_skipped(data, how):
    spec, path = spec_of(data), data / "train-00001.tfrecord"
    good = damage(path, 7, how)
    files = record_files(f"{data}/train-*")
    for check in (
        lambda: check_records(files, spec, group=True),
        lambda: list(edcn_tf.read_records(files, spec, 64, skip_corrupt=0)),
    ):
        with pytest.raises(InputError) as caught:
            check()
        assert one_line(caught, f"{path}: record 7 ")
    if how != "cut within the header":  # to reading alone that is the file's end
        with pytest.raises(InputError) as caught, reading(files, spec):
            list(edcn_tf.read_records(files, spec, 64, group=True))
        assert one_line(caught, f"{path}: record 7 ")
    found = check_records(files, spec, group=True, allowed=1)
    assert found.skipped == {str(path): 1}
    assert [found.files[0], found.files[2]] == [files[0], files[2]]
    assert [r.numpy() for r in tf.data.TFRecordDataset(found.files[1])] == good
    others = sum(len(records_of(data / f"train-0000{i}.tfrecord")) for i in (0, 2))
    assert found.rows == len(good) + others


@pytest.mark.parametrize("how", ["users", "label 2", "no proto"])
def test_in_a_gzip_file(data, how):
    path = data / "train-00001.tfrecord.gz"
    write(path, records_of(path.with_suffix("")))
    good = damage(path, 300, how)
    spec = spec_of(data)
    with pytest.raises(InputError, match=f"{path}: record 300 "):
        check_records([str(path)], spec)
    found = check_records([str(path)], spec, allowed=1)
    assert [r.numpy() for r in tf.data.TFRecordDataset(found.files)] == good


def test_files_that_hold_nothing(data):
    spec = spec_of(data)
    files = record_files(f"{data}/train-*")
    (data / "train-00000.tfrecord").write_bytes(b"")
    (data / "train-00002.tfrecord").write_text("click,user\n1,u1\n" * 40)
    for check in (check_records, lambda *given: edcn_tf.read_records(*given, 64)):
        with pytest.raises(InputError, match="00000.tfrecord: is empty; make it"):
            check(files, spec)
    found = check_records(files, spec, allowed=2)
    assert found.skipped == {files[0]: 1, files[2]: 1}
    assert found.files == [files[1]]
    with pytest.raises(InputError, match="00002.tfrecord: record 1 is damaged"):
        check_records(files[2:], spec)
    with pytest.raises(InputError, match="00002.tfrecord: holds no good record, nor"):
        check_records(files[2:], spec, allowed=1)


def test_more_than_may_be_skipped(data):
    path, spec = data / "train-00001.tfrecord", spec_of(data)
    for number in (3, 9, 200):
        damage(path, number, "label 2")
    damage(path, 300, "record")
    found = check_records([str(path)], spec, allowed=4)
    assert found.skipped == {str(path): 4}
    with pytest.raises(InputError, match="no more than 3 may be skipped") as caught:
        check_records([str(path)], spec, allowed=3)
    assert one_line(caught, f"{path}: record 300 ", "(bad record 4;")


def batches(*args, **options):
    return [
        [part.numpy() for part in b] for b in edcn_tf.read_records(*args, **options)
    ]


def assert_equal_batches(found, expected):
    for one, other in zip(found, expected, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("how", [None, "record", "users"])
def test_the_batches_are_those_of_the_good_records(data, tmp_path, how):
    """In the order that they have by seed and epoch."""
    clean = copied(data, tmp_path / "clean")
    if how:
        good = damage(data / "train-00001.tfrecord", 7, how)
        write(clean / "train-00001.tfrecord", good)
    spec = spec_of(data)
    for options in ({}, {"shuffle": True, "seed": 3, "epoch": 1}):
        options = {"group": True, **options}
        found = batches(f"{data}/train-*", spec, 64, skip_corrupt=1, **options)
        expected = batches(f"{clean}/train-*", spec, 64, **options)
        assert_equal_batches(found, expected)


def test_all_values_of_a_group_that_is_not_read_are_good(data):
    path = data / "train-00001.tfrecord"
    schema = edcn_tf.Schema.from_dict(
        {**SCHEMA.to_dict(), "group": "session", "fields": [{"name": "user"}]}
    )
    spec = spec_of(data)
    spec = edcn_tf.FeatureSpec(spec.directory, schema, spec.fields[:1])
    records = records_of(path)
    records[6] = example(records[6], session=ints(1))
    write(path, records)
    assert check_records([str(path)], spec).skipped == {}
    with pytest.raises(InputError, match="record 7 .*session"):
        check_records([str(path)], spec, group=True)


# Training


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("how", ["cut within the header", "record", "label NaN"])
def test_training_on_a_bad_record(data, tmp_path, split, how):
    """That of a cut within the header is seen by the rows that are missing."""
    path = record_files(f"{data}/{split}-*")[0]
    damage(data / path.rsplit("/")[-1], 100, how)
    with pytest.raises(InputError) as caught:
        edcn_tf.train(data, tmp_path / "run", LINEAR)
    assert one_line(caught, f"{path}: record 100 ")
    assert not list((tmp_path / "run").glob("checkpoints/epoch-*"))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_file_that_went_away(data, tmp_path, split):
    path = data / f"{split}-00000.tfrecord"
    records = records_of(path)
    write(path, records[:-1])
    message = f"{split}-.*: there are [0-9,]* rows, and [0-9,]* were prepared; was a"
    with pytest.raises(InputError, match=message):
        edcn_tf.train(data, tmp_path / "run", LINEAR)
    with pytest.raises(InputError, match=message):  # no bad record says why
        edcn_tf.train(data, tmp_path / "run", LINEAR, skip_corrupt=9)


def weights_of(run):
    model, _ = load_run(run)
    return {v.path.partition("/")[2]: v.numpy() for v in model.weights}


def assert_same_weights(run, other):
    expected = weights_of(other)
    for path, found in weights_of(run).items():
        np.testing.assert_allclose(found, expected[path], atol=1e-5, err_msg=path)


@pytest.fixture
def damaged(data):
    """Data with bad records in both splits, and the number of each file's."""
    damage(data / "train-00001.tfrecord", 3, "users")
    damage(data / "train-00001.tfrecord", 7, "record")
    damage(data / "train-00002.tfrecord", 200, "cut within the header")
    damage(data / "valid-00000.tfrecord", 9, "label 2")
    numbers = {"train-00001": 2, "train-00002": 1, "valid-00000": 1}
    return data, {f"{data}/{name}.tfrecord": n for name, n in numbers.items()}


def test_training_without_bad_records(damaged, tmp_path):
    """As on data that never had them, and an interrupted run goes on."""
    data, numbers = damaged
    clean = copied(data, tmp_path / "clean")
    summary = json.loads((clean / "summary.json").read_text())
    for split in ("train", "valid"):
        rows = 0
        for path in sorted(clean.glob(f"{split}-*")):
            [good] = check_records([str(path)], spec_of(data), allowed=9).files
            records = [r.numpy() for r in tf.data.TFRecordDataset(good)]
            rows += len(records)
            write(path, records)
        summary["splits"][split]["rows"] = rows
    (clean / "summary.json").write_text(json.dumps(summary))

    whole = json.loads((data / "summary.json").read_text())["splits"]
    lost = sum(
        whole[s]["rows"] - summary["splits"][s]["rows"] for s in ("train", "valid")
    )
    assert lost > 100  # with the file that was cut
    result = edcn_tf.train(data, tmp_path / "run", config(), skip_corrupt=4)
    assert result["skipped"] == numbers and result["lost_rows"] == lost
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert stored["skipped"] == numbers
    expected = edcn_tf.train(clean, tmp_path / "expected", config())
    assert "skipped" not in expected
    assert result["valid_auc"] == pytest.approx(expected["valid_auc"], abs=1e-6)
    assert_same_weights(tmp_path / "run", tmp_path / "expected")

    part = edcn_tf.train(data, tmp_path / "parts", config(), until=1, skip_corrupt=4)
    assert not part["finished"]
    edcn_tf.train(data, tmp_path / "parts", config(), skip_corrupt=4)
    assert_same_weights(tmp_path / "parts", tmp_path / "expected")

    with pytest.raises(InputError, match="valid-00000.*record 9 .*bad record"):
        edcn_tf.train(data, tmp_path / "more", config(), skip_corrupt=3)
    assert not (tmp_path / "more").exists()


class Stopped(BaseException):
    pass


def test_an_epoch_begins_anew_where_its_rows_are_others(data, tmp_path, monkeypatch):
    """A run is left within its second epoch; a record goes bad; it goes on without."""
    after, calls = callback.TrainingCallback.on_train_batch_end, 0
    settings = config(checkpoint_minutes=0, steps_per_execution=1)

    def stop(self, batch, logs=None):
        nonlocal calls
        after(self, batch, logs)
        calls += 1
        if calls == 25:
            raise Stopped

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(callback.TrainingCallback, "on_train_batch_end", stop)
        with pytest.raises(Stopped):
            edcn_tf.train(data, run, settings)
    damage(data / "train-00001.tfrecord", 7, "record")
    with pytest.raises(InputError, match="train-00001.tfrecord: record 7 is damaged"):
        edcn_tf.train(data, run, settings)
    steps = []

    def count(self, batch, logs=None):
        steps.append(self._steps() - self.first_step)
        after(self, batch, logs)

    monkeypatch.setattr(callback.TrainingCallback, "on_train_batch_end", count)
    result = edcn_tf.train(data, run, settings, skip_corrupt=1)
    rows = json.loads((data / "summary.json").read_text())["splits"]["train"]["rows"]
    assert steps == list(range(1, 1 - (1 - rows) // 64))
    assert result["epochs"] == 2
    assert result["skipped"] == {f"{data}/train-00001.tfrecord": 1}


# Evaluation


@pytest.mark.parametrize("how", ["cut within the header", "record", "users"])
def test_evaluation(data, finished, tmp_path, how):
    path = data / "test-00000.tfrecord"
    rows = len(records_of(path))
    good = damage(path, 50, how)
    with pytest.raises(InputError) as caught:
        edcn_tf.evaluate_run(finished, data)
    assert one_line(caught, f"{path}: record 50 ")
    figures = edcn_tf.evaluate_run(finished, data, skip_corrupt=1)
    assert figures.pop("skipped") == {str(path): 1}
    assert figures.pop("lost_rows") == rows - len(good)
    write(path, good)
    with pytest.raises(InputError, match="there are .*; was a file removed"):
        edcn_tf.evaluate_run(finished, data, skip_corrupt=1)  # no bad record says why
    (data / "summary.json").unlink()  # as another producer's records have none
    assert figures == edcn_tf.evaluate_run(finished, data)
    assert figures["rows"] == len(good)


def test_the_commands(damaged, finished, tmp_path, capsys):
    from edcn import main

    data, numbers = damaged
    sets = ["--set=epochs=1", "--set=batch_size=64", "--set=embedding_dim=4"]
    command = ["train", str(data), "--out", str(tmp_path / "run"), *sets]
    assert main([*command, "--skip-corrupt", "3"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and "no more than" in told[0]
    assert main([*command, "--skip-corrupt", "4"]) == 0
    told = capsys.readouterr().out.splitlines()
    for path, number in numbers.items():
        assert f"{path}: {number} bad record{'s' * (number > 1)} skipped" in told
    lost = json.loads((tmp_path / "run/result.json").read_text())["lost_rows"]
    assert f"{lost} of the prepared rows are lost" in told
    command = ["evaluate", str(finished), str(data), "--skip-corrupt", "1"]
    assert main([*command, "--split=valid", f"--json={tmp_path}/figures.json"]) == 0
    path = f"{data}/valid-00000.tfrecord"
    assert f"{path}: 1 bad record skipped" in capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["skipped"] == {path: 1} and figures["lost_rows"] == 1
    assert main([*command, "--split=test"]) == 0
    assert "No bad records" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "--skip-corrupt=-1"])


# Encoded rows


@pytest.mark.parametrize("how", [*DAMAGE, "users", "label NaN", "no proto"])
def test_encoding_a_bad_record(data, tmp_path, how):
    path = data / "train-00001.tfrecord"
    damage(path, 7, how)
    with pytest.raises(InputError) as caught:
        encode_rows(data, tmp_path / "encoded")
    assert one_line(caught, f"{path}: record 7 ")
    assert not list(tmp_path.glob("*encoded*"))


@pytest.mark.parametrize("how", ["cut", "row", "bit", "checksum", "empty"])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_damaged_encoded_rows(data, tmp_path, split, how):
    """Seen before a row is read, and the checksum of one that cannot be."""
    encode_rows(data, tmp_path / "encoded")
    path = tmp_path / "encoded" / f"{split}-00000.tfrecord.ids"
    content = path.read_bytes()
    row = 4 * (spec_of(data).num_slots + 2)
    path.write_bytes(
        {
            "cut": content[:-3],
            "row": content[:-row],
            "bit": content[:row] + bytes([content[row] ^ 1]) + content[row + 1 :],
            "checksum": content,
            "empty": b"",
        }[how]
    )
    if how == "checksum":
        (tmp_path / "encoded" / "checksums.json").unlink()
        path = path.with_name("valid-00000.tfrecord.ids")  # read first
    told = f"{path}: is damaged; remove {path.parent} and encode the rows again"
    told = f"{path}: is empty" if how == "empty" else told
    with pytest.raises(InputError, match=told):
        edcn_tf.train(data, tmp_path / "run", LINEAR, encoded=tmp_path / "encoded")


def test_encoded_rows_of_other_data(data, tmp_path):
    """Each file is as it was written, but one is not there."""
    encode_rows(data, tmp_path / "encoded")
    (tmp_path / "encoded" / "train-00001.tfrecord.ids").unlink()
    with pytest.raises(InputError, match="rows, and .* were prepared; encode the rows"):
        edcn_tf.train(data, tmp_path / "run", LINEAR, encoded=tmp_path / "encoded")
