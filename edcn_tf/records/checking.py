"""Which records of TFRecord files are bad, and copies of the files without them."""

import contextlib
import functools
import itertools
import os
import re
import tempfile
from typing import NamedTuple

import tensorflow as tf

from edcn_tf.errors import InputError
from edcn_tf.framing import DAMAGED, compression_of, framing_of
from edcn_tf.records.frames import frames
from edcn_tf.records.parsing import parsed, parsing_of

FILES = 64  # that are read in one pass
CHUNK = 1 << 10  # records that are parsed at once
TENSORFLOWS_OWN = re.compile(r"\{\{.*?\}\}|\[Op:.*?\]")


class CheckedRecords(NamedTuple):
    """What `check_records` found.

    Attributes:
        files: Paths to read in place of the files: themselves, and copies of those
            with bad records that have only their good ones.
        rows: Number of good records.
        skipped: File -> number of its bad records, for files that have any.
        lost: How many rows less than were prepared; those that followed the place
            where a file was cut are lost with one bad record.
    """

    files: list[str]
    rows: int
    skipped: dict[str, int]
    lost: int


def check_records(
    files, spec, *, group=False, allowed=0, before=0, prepared=None, counted=False
):
    """Looks at every record of TFRecord files, before they are trained on.

    A record is bad if its frame is damaged (as are bytes that belong to none, and an
    empty file, which count as one), or if it does not fit the schema. A file without
    a bad record costs a pass of reading and parsing; one with them is also copied to
    where Python puts temporary files, until the process ends.

    Args:
        files: Paths.
        spec: The `FeatureSpec`.
        group: Whether the group column will be read.
        allowed: Number of bad records at most.
        before: How many of these were found elsewhere.
        prepared: How many rows the files are to hold, where that is known.
        counted: Whether every record has to hold its statistics.

    Returns:
        `CheckedRecords`, its files in the order of `files`.

    Raises:
        InputError: With file and record, if there are more bad ones, or only such; if
            there are more rows than prepared, or less and no bad record says why.
    """
    fits = _Fits(spec, group, counted)
    good, rows, skipped = [], 0, {}
    for path, number in _numbers(files, fits):
        if number is None:
            copy = _new_file() if allowed else os.devnull
            number = 0
            with tf.io.TFRecordWriter(copy) as writer:
                for record, reason in _looked_at(path, fits):
                    if reason is None:
                        writer.write(record)
                        number += 1
                        continue
                    skipped[path] = skipped.get(path, 0) + 1
                    bad = before + sum(skipped.values())
                    if bad > allowed:
                        raise InputError(f"{path}{reason}{_excess(bad, allowed)}")
            path = copy if path in skipped else path
        rows += number
        if number:
            good.append(path)
    if files and not rows:
        raise InputError(f"{files[0]}: holds no good record, nor does any other file")
    lost = 0 if prepared is None else prepared - rows
    if lost < 0 or (lost > 0 and not skipped):
        named = files[0] if len(files) == 1 else f"{files[0]} to {files[-1]}"
        raise InputError(
            f"{named}: there are {rows:,} rows, and {prepared:,} were prepared; was a "
            "file removed or added? Prepare the data again"
        )
    return CheckedRecords(good, rows, skipped, lost)


def _excess(bad, allowed):
    if not allowed:
        return ""
    return f" (bad record {bad}; no more than {allowed} may be skipped)"


class _Fits:
    """Finds the records that do not fit the schema."""

    def __init__(self, spec, group, counted=False):
        self.schema, self.counted = spec.schema, counted
        self.parsing = parsing_of(self.schema, group)
        # Fast, but its errors tell of its own code: `reasons` does without.
        self.check = tf.function(
            self.parse, input_signature=[tf.TensorSpec([None], tf.string)]
        )

    def parse(self, records):
        """The labels of a batch of records, all of which fit."""
        columns = parsed(records, self.parsing, self.schema, self.counted)
        return columns[self.schema.label]

    def reasons(self, records):
        """None for each record that fits, and what is wrong for each other one."""
        try:
            self.parse(tf.constant(records))
            return [None] * len(records)
        except UnicodeDecodeError:  # TensorFlow's message holds the record
            reason = "is no tf.Example"
        except tf.errors.InvalidArgumentError as error:
            told = " ".join(TENSORFLOWS_OWN.sub("", error.message).split())
            reason = f"does not fit the schema: {told[:300]}"
        if len(records) == 1:
            return [reason]
        half = len(records) // 2
        return self.reasons(records[:half]) + self.reasons(records[half:])


def _numbers(files, fits):
    """Each file, with the number of its records if all are good, or None.

    Some files at a time, since a pass over one file takes milliseconds to begin.
    """
    for start in range(0, len(files), FILES):
        part = files[start : start + FILES]
        counts = [_frames_of(path) if _has_bytes(path) else None for path in part]
        framed = {path: n for path, n in zip(part, counts) if n is not None}
        if not _all_fit(framed, fits):
            counts = [
                n if n is not None and _all_fit({path: n}, fits) else None
                for path, n in zip(part, counts)
            ]
        yield from zip(part, counts)


def _frames_of(path):
    """Number of a file's frames by their lengths; None if these do not fit it."""
    try:
        framing = framing_of(path)
    except OSError:
        return None
    return None if framing.fault else framing.records


def _has_bytes(path):
    return os.path.isfile(path) and os.path.getsize(path) > 0


def _all_fit(files, fits):
    """Whether all records of files (with their number of frames) are good."""
    found = 0
    with contextlib.suppress(tf.errors.OpError, UnicodeDecodeError):
        for _, paths in itertools.groupby(files, compression_of):
            paths = list(paths)
            records = tf.data.TFRecordDataset(paths, compression_of(paths[0]))
            for batch in records.batch(CHUNK).prefetch(2):
                found += len(fits.check(batch))
        return found == sum(files.values())
    return False


def _looked_at(path, fits):
    """Each record of a file, with None or what is wrong with it."""
    if os.path.isfile(path) and not _has_bytes(path):
        yield None, ": is empty; make it again, or move it away"
        return
    waiting = []
    try:
        for number, record in frames(path):
            waiting.append((number, record))
            if len(waiting) == CHUNK:
                yield from _judged(waiting, fits)
                waiting = []
    except OSError as error:
        yield None, f": cannot be read ({error.strerror})"
    yield from _judged(waiting, fits)


def _judged(numbered, fits):
    whole = [record for _, record in numbered if record is not None]
    reasons = iter(fits.reasons(whole) if whole else ())
    for number, record in numbered:
        reason = DAMAGED if record is None else next(reasons)
        yield record, reason and f": record {number} {reason}"


@functools.cache
def _folder():
    """For copies; removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="edcn-good-records-")


def _new_file():
    handle, path = tempfile.mkstemp(suffix=".tfrecord", dir=_folder().name)
    os.close(handle)
    return path
