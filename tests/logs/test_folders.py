"""Directories as logs: parts, folders that tell columns, what is passed over."""

import gzip
import types

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.logs import opening
from edcn_tf.logs.reading import log_bytes, read_log
from edcn_tf.schema import Schema

SCHEMA = Schema(label="y", fields=(Field(name="f"), Field(name="day")))
PLAIN = Schema(label="y", fields=(Field(name="f"),))


def rows(path, schema=SCHEMA, **options):
    columns = schema.columns
    return [
        tuple(row[name] for name in columns)
        for batch in read_log([path], schema, **options)
        for row in batch.to_pylist()
    ]


def test_hive_folders_tell_a_column(tmp_path):
    table = pa.table({"f": ["a", "b", "c"], "day": ["007", "1", None], "y": [0, 1, 0]})
    pyarrow.dataset.write_dataset(
        table,
        tmp_path / "log",
        format="parquet",
        partitioning=["day"],
        partitioning_flavor="hive",
    )
    found = rows(tmp_path / "log")
    assert sorted(found, key=str) == [("a", "007", 0), ("b", "1", 1), ("c", None, 0)]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "jsonl"])
def test_parts_of_text_below_hive_folders(tmp_path, kind):
    for day, name in (("1", "a"), ("a%2Fb", "b")):
        folder = tmp_path / "log" / f"day={day}"
        folder.mkdir(parents=True)
        text = {"csv": f"f,y\n{name},1\n", "tsv": f"f\ty\n{name}\t1\n"}
        line = text.get(kind[:3], f'{{"f": "{name}", "y": 1}}\n').encode()
        path = folder / f"part-0.{kind}"
        path.write_bytes(gzip.compress(line) if kind.endswith("gz") else line)
    assert rows(tmp_path / "log") == [("a", "1", 1), ("b", "a/b", 1)]


def test_parts_are_read_by_name_and_what_is_no_part_is_not(tmp_path):
    for name in ("part-10", "part-02", "sub/part-3"):
        path = tmp_path / "log" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(f"f,y\n{name},1\n")
    for name in ("_SUCCESS", ".part-02.csv.crc", "_temporary/0/part-9.csv"):
        path = tmp_path / "log" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("no log\n")
    wanted = [("part-02", 1), ("part-10", 1), ("sub/part-3", 1)]
    assert rows(tmp_path / "log", PLAIN) == wanted
    assert rows(f"{tmp_path}/log/", PLAIN) == wanted
    parts = (tmp_path / "log").rglob("part-*.csv")
    assert log_bytes([tmp_path / "log"]) == sum(
        path.stat().st_size for path in parts if "_temporary" not in str(path)
    )


def test_a_directory_below_a_hidden_one_is_a_log(tmp_path):
    (tmp_path / "_data").mkdir()
    (tmp_path / "_data" / "log.csv").write_text("f,y\na,1\n")
    assert rows(tmp_path / "_data", PLAIN) == [("a", 1)]


def test_parts_without_a_suffix_are_of_the_format_given(tmp_path):
    (tmp_path / "part-00000").write_text("f,y\na,1\n")
    with pytest.raises(InputError, match="part-00000: cannot tell the format"):
        rows(tmp_path, PLAIN)
    assert rows(tmp_path, PLAIN, format="csv") == [("a", 1)]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_of_both_the_file_and_its_folder_is_refused(tmp_path, kind):
    folder = tmp_path / "day=1"
    folder.mkdir()
    frame = pd.DataFrame({"f": ["a"], "day": ["2"], "y": [1]})
    path = folder / f"log.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    with pytest.raises(InputError, match="has the column 'day', which the folder"):
        rows(tmp_path)
    assert rows(tmp_path, PLAIN) == [("a", 1)]


def test_only_the_folders_tell_what_is_read(tmp_path):
    (tmp_path / "day=20260301").mkdir()
    pq.write_table(pa.table({"f": ["a", "b"]}), tmp_path / "day=20260301" / "x.parquet")
    schema = Schema(
        label="y", timestamp="day", timestamp_format="%Y%m%d", fields=(Field(name="f"),)
    )
    [batch] = read_log([tmp_path], schema, columns=["day"])
    assert batch.to_pydict() == {"day": [1772323200.0] * 2}


def test_a_directory_without_a_log_is_an_error(tmp_path):
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(InputError, match="the directory holds no files of a log"):
        rows(tmp_path)


def test_a_store_that_arrow_reaches(tmp_path):
    """By its name with `://`: what is run here is Arrow's store of local files."""
    (tmp_path / "day=1").mkdir()
    (tmp_path / "day=1" / "log.csv").write_text("f,y\na,1\n")
    (tmp_path / "_SUCCESS").touch()
    uri = tmp_path.as_uri()
    assert rows(uri) == rows(f"{uri}/day=1/log.csv") == [("a", "1", 1)]
    assert log_bytes([uri]) == 8
    with pytest.raises(InputError, match="absent.csv: cannot be read"):
        rows(f"{uri}/absent.csv")
    with pytest.raises(InputError, match="cannot be reached"):
        rows("nosuchstore://x/log.csv")


def test_a_store_with_options_and_without_passwords(monkeypatch):
    """Names of Arrow's store in memory, which is asked in place of S3."""
    store = pyarrow.fs._MockFileSystem()
    store.create_dir("logs/day=1")
    for name, text in (("_SUCCESS", b""), ("day=1/log.csv", b"f,y\na,1\n")):
        with store.open_output_stream(f"logs/{name}") as stream:
            stream.write(text)

    def from_uri(uri):
        return store, uri.partition("?")[0].removeprefix("s3://")

    monkeypatch.setattr(
        opening.pa.fs, "FileSystem", types.SimpleNamespace(from_uri=from_uri)
    )
    assert rows("s3://logs?scheme=http&x=/a=b/c") == [("a", "1", 1)]
    with pytest.raises(InputError) as error:
        rows("s3://key:secret@logs")
    assert "secret" not in str(error.value).replace("AWS_SECRET", "")


def test_a_directory_is_prepared_as_its_files_are(tmp_path):
    frame = pd.DataFrame({"f": list("abcdabcdab"), "y": [0, 1] * 5})
    (tmp_path / "log").mkdir()
    parts = [tmp_path / "log" / f"part-{i}.csv" for i in range(2)]
    frame[:6].to_csv(parts[0], index=False)
    frame[6:].to_csv(parts[1], index=False)
    options = {"split": (0.6, 0.2, 0.2), "seed": 3}
    of_files = edcn_tf.prepare(parts, PLAIN, tmp_path / "files", **options)
    of_folder = edcn_tf.prepare(tmp_path / "log", PLAIN, tmp_path / "folder", **options)
    assert of_files == of_folder
    for name in sorted(path.name for path in (tmp_path / "files").glob("*.tfrecord")):
        first, second = (tmp_path / data / name for data in ("files", "folder"))
        assert first.read_bytes() == second.read_bytes()
    given = {"train": [tmp_path / "log"], "valid": [parts[1]]}
    summary = edcn_tf.prepare(given, PLAIN, tmp_path / "given")
    assert summary["splits"]["train"]["rows"] == 10
