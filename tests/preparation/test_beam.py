"""`edcn prepare --runner`: a Beam pipeline makes what one machine makes."""

import collections
import gzip
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf

from edcn import main
from edcn_tf import prepare
from edcn_tf.errors import InputError
from edcn_tf.features import counting
from edcn_tf.field import Field
from edcn_tf.framing import compression_of
from edcn_tf.logs import opening, reading
from edcn_tf.logs.formats import SCHEMAS
from edcn_tf.logs.reading import LogPart, log_parts
from edcn_tf.preparation import beam
from edcn_tf.preparation.plan import Plan
from edcn_tf.preparation.splitting import Splitter
from edcn_tf.schema import Schema
from helpers.forked import edcn

SCHEMA = Schema(
    label="click",
    group="user",
    timestamp="time",
    weight="weight",
    fields=(
        Field(name="user"),
        Field(name="word", min_count=3, max_size=10, unseen_rows=4),
        Field(name="tags", multiple=True, min_count=1),
        Field(name="code", dtype="int64"),
        Field(name="hashed", hash_buckets=8),
        Field(name="price", kind="numeric", buckets=6),
        Field(name="age", kind="numeric", dtype="int64", scale="log", buckets=5),
    ),
)


def columns_of(rows, seed):
    random = np.random.default_rng(seed)

    def some(values, share=0.1):
        return [None if random.random() < share else value for value in values]

    words = (random.zipf(1.4, rows) % 90).tolist()
    return {
        "user": some([f"u{i}" for i in random.zipf(1.5, rows) % 60]),
        "word": some([f'w, "{i}"' + "\nx" * (i % 9 == 2) for i in words]),
        "tags": [
            [f"t{i}" for i in random.integers(0, 40, random.integers(0, 4))]
            for _ in range(rows)
        ],
        "code": some([int(i) for i in random.integers(-40, 40, rows)]),
        "hashed": some([f"h{i}" for i in random.integers(0, 300, rows)]),
        "price": some([round(float(x), 3) for x in random.lognormal(2, 1, rows)]),
        "age": some([int(x) for x in random.integers(0, 90, rows)]),
        "click": [int(x) for x in random.random(rows) < 0.3],
        "time": [int(x) for x in random.integers(0, 900, rows)],
        "weight": [float(x) for x in random.integers(0, 5, rows) / 4],
        "unused": ["x"] * rows,
    }


def write_csv(path, rows, seed):
    """With quotes, commas, line ends and lists in it."""
    columns = columns_of(rows, seed)
    columns["tags"] = ["|".join(tags) for tags in columns["tags"]]
    pa.csv.write_csv(pa.table(columns), path)
    return path


def write_parquet(path, rows, seed):
    """With four row groups."""
    table = pa.table(columns_of(rows, seed))
    pa.parquet.write_table(table, path, row_group_size=-(-rows // 4))
    return path


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Three CSV files, one packed, of which one has a single row."""
    folder = tmp_path_factory.mktemp("logs")
    logs = [write_csv(folder / f"{i}.csv", n, i) for i, n in enumerate((700, 1, 500))]
    packed = folder / "2.csv.gz"
    packed.write_bytes(gzip.compress(logs[2].read_bytes()))
    return [*logs[:2], packed]


@pytest.fixture(autouse=True)
def small_samples_and_ranges(monkeypatch):
    monkeypatch.setattr(counting, "SAMPLE_SIZE", 100)
    monkeypatch.setattr(beam, "BYTES_PER_RANGE", 20_000)


def rows_in(directory, split):
    """How often each record is in a split."""
    records = collections.Counter()
    for path in directory.glob(f"{split}-*"):
        dataset = tf.data.TFRecordDataset(str(path), compression_of(str(path)))
        records.update(record.numpy() for record in dataset)
    return records


def features_of(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in [directory / "summary.json", *(directory / "features").rglob("*")]
        if path.is_file()
    }


def assert_same(
    logs, directory, runner="DirectRunner", runner_options=(), schema=SCHEMA, **options
):
    """That a pipeline makes what one machine makes; returns where that is."""
    one, many = directory / "one", directory / "many"
    expected = prepare(logs, schema, one, **options)
    options |= {"runner": runner, "runner_options": runner_options}
    assert prepare(logs, schema, many, **options) == expected
    assert features_of(many) == features_of(one)
    for split in ("train", "valid", "test"):
        assert rows_in(many, split) == rows_in(one, split)
    named = {path.name.split("-")[0] for path in one.iterdir()}
    assert {path.name.split("-")[0] for path in many.iterdir()} == named
    assert sorted(os.listdir(directory)) == ["many", "one"]
    return many


OPTIONS = {
    "by chance": {},
    "another seed": {"seed": 11, "split": (0.5, 0.2, 0.3)},
    "by time": {"split_by": "time"},
    "negatives": {"negative_sampling_rate": 0.3, "compression": "GZIP"},
    "training alone": {"split": (1, 0, 0)},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_csv(tmp_path, logs, options):
    out = assert_same(logs, tmp_path, **options)
    # The files of a log have its number; the one row is in one file at most.
    numbers = {path.name.split("-")[1][:5] for path in out.glob("*-*.tfrecord*")}
    assert {"00000", "00002"} <= numbers <= {"00000", "00001", "00002"}


def test_an_own_split(tmp_path, logs):
    split = {"train": logs[:2], "test": logs[2:]}
    assert_same(split, tmp_path, negative_sampling_rate=0.5)


def test_small_batches_and_small_files(tmp_path, logs, monkeypatch):
    monkeypatch.setattr(opening, "BLOCK_BYTES", 1 << 12)
    defaults = beam.RecordWriter.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "rows_per_file", 100)
    out = assert_same(logs, tmp_path)
    # 700 rows and 500: the numbers of a part go on in steps of the parts.
    names = [path.name for path in sorted(out.glob("train-*"))]
    assert {int(name[6:11]) % 3 for name in names} >= {0, 2} and len(names) > 6


def test_parquet(tmp_path):
    (tmp_path / "logs").mkdir()
    logs = [
        write_parquet(tmp_path / "logs" / f"{i}.parquet", rows, i)
        for i, rows in enumerate((801, 90))
    ]
    out = assert_same(logs, tmp_path / "out")
    assert len(list(out.glob("train-*"))) == 8


def test_criteo(tmp_path):
    random = np.random.default_rng(4)
    (tmp_path / "logs").mkdir()
    for day in range(2):
        with open(tmp_path / "logs" / f"day_{day}", "w") as file:
            for _ in range(300):
                numbers = [str(i) if i else "" for i in random.integers(-2, 40, 13)]
                texts = [f"{i:08x}" if i else "" for i in random.integers(0, 9, 26)]
                row = [str(random.integers(0, 2)), *numbers, *texts]
                print(*row, sep="\t", file=file)
    logs = sorted((tmp_path / "logs").iterdir())
    assert_same(logs, tmp_path / "out", schema=SCHEMAS["criteo"], format="criteo")


def test_parts_of_logs(tmp_path, logs):
    assert log_parts(str(logs[0])) == [LogPart(str(logs[0]))]
    table = pa.table({"f": ["a", "b", "c"], "click": [0, 1, 0]})
    path = str(tmp_path / "log.parquet")
    pa.parquet.write_table(table, path, row_group_size=2)
    assert log_parts(path) == [LogPart(path, 0, 0), LogPart(path, 2, 1)]
    packed = tmp_path / "log.parquet.gz"
    packed.write_bytes(gzip.compress(pathlib.Path(path).read_bytes()))
    assert log_parts(str(packed)) == [LogPart(str(packed))]
    pa.parquet.write_table(table.slice(0, 0), path)
    assert log_parts(path) == [LogPart(path)]


def test_a_bad_row_is_numbered_in_its_log(tmp_path):
    path = str(tmp_path / "log.parquet")
    table = pa.table({"f": ["a"] * 5, "click": [0, 1, 0, 1, 7]})
    pa.parquet.write_table(table, path, row_group_size=2)
    schema = Schema(label="click", fields=(Field(name="f"),))
    with pytest.raises(InputError, match="row 5, column 'click'"):
        list(reading.read_part(log_parts(path)[2], schema))


# Work that is done twice


@pytest.fixture
def plan(logs):
    splitter = Splitter(schema=SCHEMA, seed=0)
    return Plan(tuple(map(str, logs)), (None,) * 3, splitter)


def names_and_bytes(directory):
    return {path.name: path.read_bytes() for path in directory.glob("*.tfrecord")}


def test_a_part_prepared_twice_is_there_once(tmp_path, plan):
    (tmp_path / beam.WORK).mkdir()
    step = beam.PreparePart(str(tmp_path), 3, 4)
    element = (1, 0, LogPart(plan.logs[0]))
    first = list(step.process(element, plan))
    once = names_and_bytes(tmp_path)
    assert sorted(once) == [f"{s}-00001.tfrecord" for s in ("test", "train", "valid")]
    second = list(step.process(element, plan))
    assert names_and_bytes(tmp_path) == once
    assert [key for key, _ in first] == [key for key, _ in second]
    # One piece with the rows; four hash ranges of each of four vocabularies.
    assert len(first) == 1 + 4 * 4 + 3
    assert os.listdir(tmp_path / beam.WORK) == []


def test_a_try_that_breaks_off_leaves_no_records(tmp_path, plan, monkeypatch):
    def read_part(*args, **kwargs):
        yield next(original(*args, **kwargs))
        raise OSError("the network is gone")

    original = reading.read_part
    monkeypatch.setattr("edcn_tf.preparation.plan.read_part", read_part)
    (tmp_path / beam.WORK).mkdir()
    step = beam.PreparePart(str(tmp_path), 3, 1)
    with pytest.raises(OSError, match="network"):
        list(step.process((0, 0, LogPart(plan.logs[0])), plan))
    assert names_and_bytes(tmp_path) == {}
    monkeypatch.undo()
    list(step.process((0, 0, LogPart(plan.logs[0])), plan))
    assert len(names_and_bytes(tmp_path)) == 3


def test_the_result_written_twice(tmp_path, plan):
    (tmp_path / beam.WORK).mkdir()
    step = beam.PreparePart(str(tmp_path), 3, 1)
    result = beam.WriteResult(plan, str(tmp_path))
    for _ in range(2):
        pieces = [
            piece
            for number, log in enumerate(plan.logs)
            for piece in step.process((number, number, LogPart(log)), plan)
        ]
        assert result.process((0, pieces)) is None
    prepare(list(plan.logs), SCHEMA, tmp_path / "expected")
    assert features_of(tmp_path) == features_of(tmp_path / "expected")


def test_a_worker_that_does_not_share_the_directory(tmp_path, plan):
    step = beam.PreparePart(str(tmp_path / "elsewhere"), 3, 1)
    with pytest.raises(RuntimeError, match="all workers share"):
        list(step.process((0, 0, LogPart(plan.logs[0])), plan))
    assert os.listdir(tmp_path) == []


# What goes wrong


def errors_of(logs, directory, schema=SCHEMA, **options):
    """What one machine and a pipeline say of the same mistake."""
    messages = []
    for runner in (None, "DirectRunner"):
        with pytest.raises(InputError) as caught:
            prepare(logs, schema, directory / "out", runner=runner, **options)
        messages.append(str(caught.value))
        assert not list(directory.glob("*out*")) and not list(directory.glob(".*"))
    return messages


def test_a_bad_row(tmp_path, logs):
    bad = tmp_path / "bad.csv"
    lines = logs[1].read_text().replace("\r\n", "\n")
    bad.write_text(lines + 'u,w,t,5,h,1,2,7,8,1,"x"\n')
    one, many = errors_of([*logs, bad], tmp_path)
    assert one == many
    assert "bad.csv: row 2, column 'click'" in one


@pytest.mark.parametrize(
    "options",
    [
        {"split": (0.5, 0.4, 0.2)},
        {"split_by": "user"},
        {"negative_sampling_rate": 0},
        {"compression": "ZIP"},
        {"format": "xml"},
        {"format": "parquet"},
        {"split": (0.999999, 0.0000005, 0.0000005)},
    ],
    ids=str,
)
def test_mistakes_are_told_alike(tmp_path, logs, options):
    one, many = errors_of(logs[:2], tmp_path, **options)
    assert one == many
    assert "\n" not in one


def test_ties_are_told_alike(tmp_path, logs):
    pairs = zip(logs[0].read_text().splitlines()[:1] * 2, ("1.csv", "2.csv"))
    row = 'u,w,t,5,h,1,2,1,8,1,"x"'
    ties = []
    for head, name in pairs:
        (tmp_path / name).write_text("\n".join([head, *[row] * 20]) + "\n")
        ties.append(tmp_path / name)
    one, many = errors_of(ties, tmp_path, split_by="time")
    assert one == many
    assert one.startswith("The valid split has no rows: 40 rows have the time 8, and")


@pytest.mark.parametrize("split_by", ["chance", "time"])
def test_no_rows(tmp_path, split_by, logs):
    empty = tmp_path / "empty.csv"
    empty.write_text(logs[0].read_text().split("\n")[0] + "\n")
    one, many = errors_of([empty, empty], tmp_path, split_by=split_by)
    assert one == many == f"{empty}, {empty}: no rows"


@pytest.mark.parametrize("name", ["absent.csv", "absent.parquet"])
def test_a_missing_log(tmp_path, name):
    one, many = errors_of([tmp_path / name], tmp_path)
    assert one == many and f"{name}: No such file" in one


def test_no_log_and_logs_that_are_damaged(tmp_path):
    assert errors_of([], tmp_path)[1] == "There is no log to prepare"
    (tmp_path / "text.parquet").write_text("not Parquet at all")
    one, many = errors_of([tmp_path / "text.parquet"], tmp_path)
    assert one == many and "text.parquet: is not parquet" in one


def test_what_exists_is_left_alone(tmp_path, logs):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists already"):
        prepare(logs, SCHEMA, tmp_path / "out", runner="DirectRunner")
    assert os.listdir(tmp_path / "out") == []


def test_an_unknown_runner(tmp_path, logs):
    with pytest.raises(InputError, match="--runner: .*NoSuchRunner"):
        prepare(logs, SCHEMA, tmp_path / "out", runner="NoSuchRunner")
    assert os.listdir(tmp_path) == []


def test_runner_and_workers_exclude_each_other(tmp_path, logs, capsys):
    SCHEMA.save(tmp_path / "schema.json")
    arguments = ["prepare", logs[0], "--schema", tmp_path / "schema.json", "--out"]
    arguments += [tmp_path / "out", "--runner", "DirectRunner", "--workers", 2]
    assert main(list(map(str, arguments))) == 1
    message = "edcn prepare: --runner and --workers exclude each other\n"
    assert capsys.readouterr().err == message


def test_without_beam_one_line_names_the_extra(tmp_path, logs, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "edcn_tf.preparation.beam")
    with pytest.raises(InputError) as caught:
        prepare(logs, SCHEMA, tmp_path / "out", runner="DirectRunner")
    assert str(caught.value) == (
        "--runner needs the package apache-beam, which is not installed: "
        'pip install "edcn-tf[beam]"'
    )


# As a person calls it


def test_the_command(tmp_path, logs, capsys):
    SCHEMA.save(tmp_path / "schema.json")
    options = ["--schema", tmp_path / "schema.json", "--runner", "DirectRunner"]
    arguments = ["prepare", *logs, *options, "--out", tmp_path / "out"]
    assert main(list(map(str, arguments))) == 0
    said = capsys.readouterr().out
    assert "train" in said and "Next:" in said
    bad = tmp_path / "bad.csv"
    bad.write_text(logs[1].read_text().replace("click", "clack"))
    arguments = ["prepare", bad, *options, "--out", tmp_path / "other"]
    status, said, errors = edcn(*arguments, cwd=tmp_path)
    assert (status, said) == (1, "")
    assert errors.count("\n") == 1  # and nothing of what Beam logs
    assert errors.startswith(f"edcn prepare: {bad}: has no column 'click'")


# Workers that are other processes


@pytest.fixture
def job_service(tmp_path_factory):
    """Address of Beam's own job service, which takes jobs as Flink's and Spark's do."""
    folder = tmp_path_factory.mktemp("jobs")
    module = "apache_beam.runners.portability.local_job_service_main"
    port = folder / "port"
    with subprocess.Popen(
        [sys.executable, "-m", module, "--port=0", f"--port_file={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as service:
        try:
            while not (port.exists() and port.read_text()):
                assert service.poll() is None
                time.sleep(0.1)
            yield f"localhost:{port.read_text()}"
        finally:
            service.terminate()


@pytest.mark.slow
def test_portable_runner(tmp_path, logs, job_service):
    options = [f"--job_endpoint={job_service}", "--environment_type=LOOPBACK"]
    assert_same(logs, tmp_path, "PortableRunner", options, split_by="time")
    bad = tmp_path / "bad.csv"
    bad.write_text(logs[1].read_text().replace("click", "clack"))
    with pytest.raises(InputError, match=f"{bad}: has no column 'click'"):
        prepare(
            [*logs, bad],
            SCHEMA,
            tmp_path / "out",
            runner="PortableRunner",
            runner_options=options,
        )


@pytest.mark.slow
def test_several_processes(tmp_path, logs):
    options = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "SAMPLE_SIZE", 1 << 18)  # as in those processes
        assert_same(logs, tmp_path, "DirectRunner", options)
