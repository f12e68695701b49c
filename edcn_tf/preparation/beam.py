"""`edcn prepare --runner NAME`: the same preparation as an Apache Beam pipeline.

The logs are divided into parts (`edcn_tf.logs.reading.log_parts`), each of which a
worker prepares as `edcn_tf.prepare` prepares whole logs:

    parts -> users, times and items, a file for each group of users
          -> a group's files joined: the history of each row   (only for --history)
    parts -> keys, times and labels, a file for each counter and group of keys
          -> a group's files joined: the counts of each row    (only for statistics)
    parts -> timestamps, their counts merged         (only for a split by time)
    parts -> records, in files with the part's number
          -> counts, a piece for each field and hash range of its values
          -> the pieces of a range merged, without the values that get no row
          -> all of them in one place: features/ and summary.json

Workers read the logs and write the records themselves, so both must lie where each of
them finds them under the same name.
"""

import contextlib
import functools
import os
import shutil
from pathlib import Path

from edcn_tf.choices import SPLITS
from edcn_tf.directories import PreparedData
from edcn_tf.errors import InputError
from edcn_tf.features.counting import ValueCounts
from edcn_tf.files import flush, new_directory, partial_directory, read_json
from edcn_tf.logs.reading import log_bytes, log_parts
from edcn_tf.preparation.counted import Counted
from edcn_tf.preparation.groups import number_of_groups
from edcn_tf.preparation.plan import COUNTS, HISTORIES, Counts
from edcn_tf.records.writing import RecordWriter

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ModuleNotFoundError as error:
    raise InputError(
        "--runner needs the package apache-beam, which is not installed: "
        'pip install "edcn-tf[beam]"'
    ) from error

BYTES_PER_RANGE = 1 << 28  # of logs: one worker merges the values of a hash range
MOST_RANGES = 1024
TALLY = -1  # stands where counts of values have their field's number
WORK = ".work"  # holds what workers have not finished, and why they failed


def prepare_on_beam(plan, directory, runner, options=()):
    """Has a `Plan` carried out by a Beam runner.

    Args:
        plan: The `Plan`.
        directory: A new directory, on a file system that all workers share.
        runner: Name of the runner, as Beam's own option `--runner` takes it.
        options: Beam's other options, a list of strings.

    Returns:
        The summary, as `edcn_tf.prepare` does.

    Raises:
        InputError: For anything wrong with the logs or the options, also if a worker
            meets it.
    """
    parts = [
        (log, part)
        for log, path in enumerate(plan.logs)
        for part in log_parts(path, plan.format)
    ]
    files = {p.piece if p.path.startswith("tfds:") else p.path for _, p in parts}
    size = log_bytes(files)
    ranges = min(1 + size // BYTES_PER_RANGE, MOST_RANGES)
    with new_directory(directory) as partial:
        (partial / WORK).mkdir()
        pipeline = _pipeline(runner, options)
        kinds = len(plan.statistics.counters) if plan.statistics else 1
        groups = number_of_groups(size, kinds)
        _build(pipeline, plan, parts, ranges, groups, str(partial.absolute()))
        try:
            pipeline.run().wait_until_finish()
        except Exception as error:
            # Runners pass on no exception as it was, but all its text.
            if messages := sorted((partial / WORK).glob("error-*")):
                raise InputError(messages[0].read_text(encoding="utf-8")) from error
            raise
        shutil.rmtree(partial / WORK)
        return read_json(PreparedData(partial).summary)


def _pipeline(runner, options):
    if runner == "DirectRunner":
        # Beam's own choice under this name would first try to download a program.
        runner = "FnApiRunner"
    try:
        return beam.Pipeline(runner, PipelineOptions(list(options)))
    except (ImportError, ValueError) as error:
        raise InputError(f"--runner: {error}") from error


def _build(pipeline, plan, parts, ranges, groups, directory):
    """Adds all steps to a pipeline."""
    numbered = [(number, *part) for number, part in enumerate(parts)]
    parts = pipeline | "Parts" >> beam.Create(numbered) | beam.Reshuffle()
    split_plan = plan
    if plan.splitter.needs_times:
        split_plan = beam.pvalue.AsSingleton(
            parts
            | "Count times" >> beam.ParDo(CountTimes(plan, directory))
            | "Merge times" >> beam.CombineGlobally(Merge())
            | "Split times" >> beam.ParDo(SplitTimes(plan, directory))
        )
    done = []  # waited for
    if plan.statistics:
        totals = beam.pvalue.AsSingleton(
            parts
            | "Gather statistics"
            >> beam.ParDo(CountPart(directory, groups), split_plan)
            | "Merge totals" >> beam.CombineGlobally(Merge())
        )
        counted = (
            pipeline
            | "Groups of keys" >> beam.Create(range(groups))
            | "Spread keys" >> beam.Reshuffle()
            | "Join statistics"
            >> beam.ParDo(JoinCounts(plan, directory, len(numbered), groups), totals)
            | "All counted" >> beam.combiners.Count.Globally()
        )
        done.append(beam.pvalue.AsSingleton(counted))
    if plan.history:
        gathered = (
            parts
            | "Gather histories" >> beam.ParDo(GatherPart(plan, directory, groups))
            | "All gathered" >> beam.combiners.Count.Globally()
        )
        joined = (
            pipeline
            | "Groups" >> beam.Create(range(groups))
            | "Spread" >> beam.Reshuffle()
            | "Join histories"
            >> beam.ParDo(
                JoinGroup(plan, directory, len(numbered)),
                beam.pvalue.AsSingleton(gathered),
            )
            | "All joined" >> beam.combiners.Count.Globally()
        )
        done.append(beam.pvalue.AsSingleton(joined))
    prepare = PreparePart(directory, len(numbered), ranges)
    counts = (
        parts
        | "Prepare" >> beam.ParDo(prepare, split_plan, *done)
        | "Merge" >> beam.CombinePerKey(Merge())
    )
    if plan.growth is None:  # else a rare value may have its row from earlier days
        counts = counts | "Keep" >> beam.MapTuple(_without_rare_values)
    (
        counts
        | "Gather" >> beam.GroupBy(lambda _: 0)
        | "Write"
        >> beam.ParDo(
            WriteResult(plan, directory), *([totals] if plan.statistics else [])
        )
    )


class Merge(beam.CombineFn):
    """Merges counts of any kind: what has a method `merge`."""

    def create_accumulator(self):
        return None

    def add_input(self, merged, counts):
        return counts if merged is None else merged.merge(counts)

    def merge_accumulators(self, accumulators):
        return functools.reduce(self.add_input, filter(None, accumulators), None)

    def extract_output(self, merged):
        return merged


class CountTimes(beam.DoFn):
    """A part of the logs -> `ValueCounts` of its timestamps."""

    def __init__(self, plan, directory):
        self.plan, self.directory = plan, directory

    def process(self, element):
        number, _, part = element
        counts = ValueCounts()
        with _attempt(self.directory, number):
            self.plan.count_times(part, counts)
        yield counts


class SplitTimes(beam.DoFn):
    """The counts of all timestamps -> the plan that splits at some of them."""

    def __init__(self, plan, directory):
        self.plan, self.directory = plan, directory

    def process(self, counts):
        with _attempt(self.directory, "times"):
            plan = self.plan.with_times(counts)
        yield plan


class GatherPart(beam.DoFn):
    """A part of the logs -> a file for each group of users in it."""

    def __init__(self, plan, directory, groups):
        self.plan, self.directory, self.groups = plan, directory, groups

    def process(self, element):
        number, _, part = element
        with _attempt(self.directory, f"gather-{number}") as attempt:
            self.plan.history.gather(part, self.plan, self.groups, attempt)
            _take(attempt, _gathered(self.directory, number, HISTORIES))
        yield number


class JoinGroup(beam.DoFn):
    """A group of users -> the histories of its rows, a file for each part."""

    def __init__(self, plan, directory, parts):
        self.plan, self.directory, self.parts = plan, directory, parts

    def process(self, group, gathered):
        numbers = range(self.parts)
        sources = [_gathered(self.directory, n, HISTORIES) for n in numbers]
        with _attempt(self.directory, f"join-{group}") as attempt:
            folders = _folders(attempt, self.parts)
            self.plan.history.join(group, sources, folders)
            for number, folder in zip(numbers, folders):
                _take(folder, _joined(self.directory, number) / HISTORIES)
        yield group


class CountPart(beam.DoFn):
    """A part of the logs -> a file for each counter and group of keys; `Totals`."""

    def __init__(self, directory, groups):
        self.directory, self.groups = directory, groups

    def process(self, element, plan):
        number, log, part = element
        with _attempt(self.directory, f"count-{number}") as attempt:
            totals = plan.statistics.gather(log, part, plan, self.groups, attempt)
            _take(attempt, _gathered(self.directory, number, COUNTS))
        yield totals


class JoinCounts(beam.DoFn):
    """A group of keys -> what its rows knew of them, a file for each part."""

    def __init__(self, plan, directory, parts, groups):
        self.plan, self.directory = plan, directory
        self.parts, self.groups = parts, groups

    def process(self, group, totals):
        numbers = range(self.parts)
        sources = [_gathered(self.directory, n, COUNTS) for n in numbers]
        with _attempt(self.directory, f"counts-{group}") as attempt:
            folders, tables = _folders(attempt, self.parts), attempt / "tables"
            tables.mkdir()
            self.plan.statistics.join(
                group, self.groups, totals, sources, folders, tables
            )
            for number, folder in zip(numbers, folders):
                _take(folder, _joined(self.directory, number) / COUNTS)
            _take(tables, _tables(self.directory))
        yield group


def _folders(attempt, parts):
    folders = [attempt / str(number) for number in range(parts)]
    for folder in folders:
        folder.mkdir()
    return folders


def _gathered(directory, part, kind):
    return Path(directory, WORK, "gathered", kind, str(part))


def _joined(directory, part):
    return Path(directory, WORK, "joined", str(part))


def _tables(directory):
    return Path(directory, WORK, "tables")


def _take(attempt, target):
    """Gives what a try made its place, that of an earlier try replaced."""
    target.mkdir(parents=True, exist_ok=True)
    flush(attempt)
    for path in attempt.iterdir():
        os.replace(path, target / path.name)


class PreparePart(beam.DoFn):
    """A part of the logs -> its records, and pieces of its counts.

    A runner may try a part more than once: records get their names when all of them
    are written, and these hold the part's number, so that a second try replaces the
    first. Files go on with the numbers `number + parts`, `number + 2 * parts`, ...
    """

    def __init__(self, directory, parts, ranges):
        self.directory, self.parts, self.ranges = directory, parts, ranges

    def process(self, element, plan, *waited_for):
        number, log, part = element
        counts = Counts(plan.schema)
        with _attempt(self.directory, number) as records:
            writers = {
                split: RecordWriter(
                    PreparedData(records).prefix(split),
                    compression=plan.compression,
                    first=number,
                    step=self.parts,
                )
                for split in SPLITS
            }
            plan.prepare(
                log,
                part,
                counts,
                lambda split, rows: writers[split].write(rows),
                joined=_joined(self.directory, number),
            )
            for writer in writers.values():
                writer.close()
            flush(records)
            for path in records.iterdir():
                os.replace(path, os.path.join(self.directory, path.name))
        yield (TALLY, 0), counts.tally
        if counts.features.rows:
            for counter in counts.features.counters:
                for i, piece in enumerate(counter.divided(self.ranges)):
                    yield (counter.number, i), piece


def _without_rare_values(key, counts):
    if key[0] != TALLY and counts.field.has_vocabulary:
        counts.keep()
    return key, counts


class WriteResult(beam.DoFn):
    """All merged counts -> `features/` and `summary.json`."""

    def __init__(self, plan, directory):
        self.plan, self.directory = plan, directory

    def process(self, element, totals=None):
        _, pieces = element
        statistics = self.plan.statistics
        counted = statistics and Counted(statistics, totals, _tables(self.directory))
        counts = Counts(self.plan.schema)
        for (number, _), piece in pieces:
            if number == TALLY:
                counts.tally.merge(piece)
            else:
                counts.features.counters[number].merge(piece)
        counts.features.rows = counts.tally.rows["train"]
        with _attempt(self.directory, "result") as result:
            self.plan.write(counts, result, counted)
            for path in result.iterdir():
                target = Path(self.directory, path.name)
                shutil.rmtree(target, ignore_errors=True)  # of an earlier try
                os.replace(path, target)


@contextlib.contextmanager
def _attempt(directory, name):
    """A directory of its own for one try of a step.

    What is wrong with the input is told in a file, for the process that waits.
    """
    work = Path(directory, WORK)
    if not work.is_dir():
        raise RuntimeError(
            f"{directory}: is not there on a worker; it must be on a file system that "
            "all workers share"
        )
    try:
        with partial_directory(work / f"try-{name}") as attempt:
            yield attempt
    except InputError as error:
        (work / f"error-{name:0>9}").write_text(str(error), encoding="utf-8")
        raise
