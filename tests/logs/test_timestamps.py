"""Times as files have them: each is one moment, or an error that says what to set."""

import datetime

import pandas as pd
import pyarrow as pa
import pytest

from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.logs.reading import read_log
from edcn_tf.logs.timestamps import moments
from edcn_tf.logs.values import BadValue
from edcn_tf.schema import Schema

UTC = datetime.timezone.utc


def seconds(*parts):
    return datetime.datetime(*parts, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text, moment",
    [
        ("2017-07-02 7:50", (2017, 7, 2, 7, 50)),
        ("2026-03-01 08:15:02 UTC", (2026, 3, 1, 8, 15, 2)),
        ("2026-03-01 08:15:02 +0000", (2026, 3, 1, 8, 15, 2)),
        ("2026-03-01 08:15:02 +0200", (2026, 3, 1, 6, 15, 2)),
        ("2026-03-01T08:15:02-05", (2026, 3, 1, 13, 15, 2)),
        ("2026-03-01 08:15:02+05:30", (2026, 3, 1, 2, 45, 2)),
        ("2026/03/01", (2026, 3, 1)),
        ("2026/3/1 8:05", (2026, 3, 1, 8, 5)),
        (" 2026-03-01 ", (2026, 3, 1)),
        ("2026-03-01 08:15:02.125Z", (2026, 3, 1, 8, 15, 2, 125000)),
        ("2026-03-01 08:15:02,5", (2026, 3, 1, 8, 15, 2, 500000)),
        ("2026-03-01 08:15:02.123456789 GMT", (2026, 3, 1, 8, 15, 2, 123456)),
        ("1969-12-31 23:59:59", (1969, 12, 31, 23, 59, 59)),
    ],
)
def test_a_time_is_its_moment(text, moment):
    mixed = pa.array([text, "2026-03-01 00:00:00"])
    assert moments(mixed).to_pylist() == [seconds(*moment), seconds(2026, 3, 1)]


@pytest.mark.parametrize(
    "text",
    [
        *("01/03/2026", "2026-02-31", "2026-13-01", "2026-03/01", "26-03-01"),
        *("2026-03-01 25:00", "2026-03-01 08:15:02 CET", "2026-03-01 8", "yesterday"),
    ],
)
def test_another_form_is_an_error_that_says_what_to_set(text):
    with pytest.raises(BadValue, match="timestamp_format") as error:
        moments(pa.array(["2026-03-01", text]))
    assert error.value.row == 1


@pytest.mark.parametrize(
    "text, format, moment",
    [
        ("01/03/2026", "%d/%m/%Y", (2026, 3, 1)),
        ("1/3/2026 7:50", "%d/%m/%Y %H:%M", (2026, 3, 1, 7, 50)),
        ("01-Mar-2026 07:50 PM", "%d-%b-%Y %I:%M %p", (2026, 3, 1, 19, 50)),
        (
            "01/03/2026 07:50:01.25",
            "%d/%m/%Y %H:%M:%S.%f",
            (2026, 3, 1, 7, 50, 1, 250000),
        ),
        ("01/03/2026 07:50 +0200", "%d/%m/%Y %H:%M %z", (2026, 3, 1, 5, 50)),
        ("14102100", "%y%m%d%H", (2014, 10, 21)),
        ("20260301", "%Y%m%d", (2026, 3, 1)),
    ],
)
def test_a_format_reads_what_it_says(text, format, moment):
    assert moments(pa.array([text]), format).to_pylist() == [seconds(*moment)]


@pytest.mark.parametrize("text", ["31/02/2026", "1/3/26", "2026-03-01", "01/13/2026"])
def test_what_is_not_of_the_format_is_an_error(text):
    with pytest.raises(BadValue, match="%d/%m/%Y") as error:
        moments(pa.array(["28/02/2026", text]), "%d/%m/%Y")
    assert error.value.row == 1


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.float64()])
def test_numbers_that_look_like_days_ask_for_a_format(kind):
    days = pa.array([20260228, 20260301]).cast(kind)
    with pytest.raises(BadValue, match='"%Y%m%d", or to "number"'):
        moments(days)
    wanted = [seconds(2026, 2, 28), seconds(2026, 3, 1)]
    assert moments(days, "%Y%m%d").to_pylist() == wanted
    assert moments(days, "number").to_pylist() == [20260228, 20260301]


def test_numbers_of_eight_digits_that_are_no_days_are_numbers():
    assert moments(pa.array([20260228, 20260301, 20260399])).to_pylist()[2] == 20260399
    assert moments(pa.array([1, 20260301])).to_pylist() == [1, 20260301]


def test_one_time_is_one_moment_in_every_container(tmp_path):
    times = pd.to_datetime(["2026-03-01 08:15:02.250", "2026-03-02 00:00:00.000"])
    frame = pd.DataFrame({"f": ["a", "b"], "y": [0, 1], "t": times})
    frame.to_csv(tmp_path / "log.csv", index=False)
    frame.to_parquet(tmp_path / "log.parquet")
    frame.to_json(
        tmp_path / "log.jsonl", orient="records", lines=True, date_format="iso"
    )
    schema = Schema(label="y", timestamp="t", fields=(Field(name="f"),))
    german = frame.assign(t=times.strftime("%d.%m.%Y %H:%M:%S.%f"))
    german.to_csv(tmp_path / "german.csv", index=False)
    own = Schema(
        label="y",
        timestamp="t",
        timestamp_format="%d.%m.%Y %H:%M:%S.%f",
        fields=(Field(name="f"),),
    )
    wanted = [time.timestamp() for time in times.tz_localize("UTC")]
    for name in ("log.csv", "log.parquet", "log.jsonl"):
        [batch] = read_log([tmp_path / name], schema)
        assert batch["t"].to_pylist() == wanted
    [batch] = read_log([tmp_path / "german.csv"], own)
    assert batch["t"].to_pylist() == wanted


@pytest.mark.parametrize("format", ["%d/%m/%Y %Z", "%Q", "", "%"])
def test_a_format_that_cannot_be_read_by_is_refused(format):
    with pytest.raises(InputError, match="timestamp_format"):
        Schema(
            label="y", timestamp="t", timestamp_format=format, fields=(Field(name="f"),)
        )


def test_a_format_needs_a_column():
    with pytest.raises(InputError, match="needs the column's name"):
        Schema(label="y", timestamp_format="%Y", fields=(Field(name="f"),))


def test_the_format_is_stored():
    schema = Schema(
        label="y", timestamp="t", timestamp_format="%d.%m.%Y", fields=(Field(name="f"),)
    )
    assert Schema.from_dict(schema.to_dict()) == schema
