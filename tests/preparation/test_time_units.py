"""Dates in one file and numbers of another unit in the next are no order."""

import pytest

import edcn_tf
from edcn_tf.errors import InputError

SCHEMA = edcn_tf.Schema(
    label="y", timestamp="t", fields=(edcn_tf.Field(name="f", min_count=1),)
)
DATE = "2026-03-01 08:15:02"
SECONDS, MILLISECONDS = 1_772_352_902, 1_772_352_902_000
MICROSECONDS, NANOSECONDS = MILLISECONDS * 1000, MILLISECONDS * 10**6


def prepared(folder, *times, **options):
    logs = []
    for number, time in enumerate(times):
        path = folder / f"{number}.csv"
        later = time if isinstance(time, str) else time + 1
        path.write_text(f"f,y,t\na,0,{time}\nb,1,{later}\n")
        logs.append(path)
    given = {"train": logs, "valid": logs}
    return edcn_tf.prepare(given, SCHEMA, folder / "data", **options)


@pytest.mark.parametrize(
    "times, units",
    [
        ((DATE, MILLISECONDS), ("seconds", "milliseconds")),
        ((SECONDS, MILLISECONDS), ("seconds", "milliseconds")),
        ((MICROSECONDS, DATE), ("seconds", "microseconds")),
        ((NANOSECONDS, MILLISECONDS), ("milliseconds", "nanoseconds")),
    ],
)
def test_times_of_two_units_are_refused(tmp_path, times, units):
    with pytest.raises(InputError) as error:
        prepared(tmp_path, *times)
    assert [unit in str(error.value) for unit in units] == [True, True]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "times",
    [
        (DATE, SECONDS),
        (MILLISECONDS, MILLISECONDS + 10**9),
        (0, 10**12),  # since the log began
        ("1965-01-01", DATE),
        ("1974-01-01", "2100-01-01"),
        (DATE,),
    ],
)
def test_times_of_one_unit_are_not(tmp_path, times):
    assert prepared(tmp_path, *times)["splits"]["train"]["rows"] == 2 * len(times)


def test_so_on_beam(tmp_path):
    pytest.importorskip("apache_beam")
    with pytest.raises(InputError, match="timestamps are of two units"):
        prepared(tmp_path, DATE, MILLISECONDS, runner="DirectRunner")
