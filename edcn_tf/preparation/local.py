"""Raw logs to shuffled-out splits of records and a FeatureSpec: `edcn prepare`."""

import collections
import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from edcn_tf import console
from edcn_tf.choices import CHOOSING, PROTOCOLS, SPLITS
from edcn_tf.directories import PreparedData
from edcn_tf.errors import InputError
from edcn_tf.features.counting import ValueCounts
from edcn_tf.features.growth import Growth
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import StrPath, new_directory, refuse_existing
from edcn_tf.logs.reading import LogPart, log_bytes, log_files
from edcn_tf.preparation.choosing.plan import with_chosen
from edcn_tf.preparation.counted import Counted, count
from edcn_tf.preparation.groups import number_of_groups
from edcn_tf.preparation.histories import History
from edcn_tf.preparation.plan import COUNTS, HISTORIES, Counts, Plan
from edcn_tf.preparation.splitting import Splitter
from edcn_tf.preparation.statistics import Statistics
from edcn_tf.preparation.usable import remarks
from edcn_tf.records.writing import RecordWriter
from edcn_tf.schema import Schema

ONE_PROCESS_BYTES = 1 << 28  # a log smaller than this is not worth more processes


def prepare(
    logs: StrPath | Iterable[StrPath] | Mapping[str, Iterable[StrPath]],
    schema: Schema,
    directory: StrPath,
    *,
    format: str | None = None,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    split_by: str = "chance",
    seed: int = 0,
    negative_sampling_rate: float = 1.0,
    workers: int | None = None,
    runner: str | None = None,
    runner_options: Sequence[str] = (),
    compression: str | None = None,
    vocabulary_of: StrPath | None = None,
    forget_after: int | None = None,
    refit: Iterable[str] = (),
    history: str | None = None,
    protocol: str = "frozen",
    statistics: str | None = None,
) -> dict[str, Any]:
    """Writes TFRecord splits, the FeatureSpec and a summary of raw logs.

    Everything is written beside `directory` under a temporary name, which is renamed
    at the end: an interrupted run leaves nothing that looks like a whole one. The
    FeatureSpec is counted on the training split alone.

    Args:
        logs: Name of a log, or a directory of its files, that is split here, or a list
            of them; or a dict of
            `"train"`, `"valid"` and `"test"` to such lists where the user has made
            the split.
        schema: The `Schema`.
        directory: Where the result goes; it must not exist.
        format: Format of the logs (`edcn_tf.choices.FORMATS`), or from their names.
        split: Shares of train, valid and test, which sum to 1.
        split_by: `"chance"` (each row by its own draw) or `"time"` (the oldest rows
            train, the newest test; needs a timestamp in the schema).
        seed: Seed of the split, of the numeric samples and of the negatives to keep:
            each row's draws are a function of it, the log's number and the row's.
        negative_sampling_rate: Share of the rows without a click that the training
            split keeps, above 0 and at most 1; the other splits keep all, and
            `edcn_tf.evaluation.calibration` corrects the probabilities.
        workers: Number of processes that write records; by default one for a small
            log and as many as there are processors for a large one.
        runner: Name of an Apache Beam runner that does all of it in place of this
            machine (`edcn_tf.preparation.beam`), with the same result but for the
            files' names and the order of rows.
        runner_options: Beam's options, such as `["--flink_master=host:8081"]`.
        compression: `None` or `"GZIP"`, of the records.
        vocabulary_of: Prepared data or a run of the days before, whose FeatureSpec
            this log's goes on from (`edcn_tf.features.growth`), so that
            `edcn_tf.train(..., warm_start=RUN)` can go on from the run.
        forget_after: Values that the last so many days, this one among them, did not
            have lose their row; by default none.
        refit: Names of numeric fields whose ranges are fitted anew, where the others
            keep those of the days before.
        history: `"USER:ITEM:TIME"`, the names of three columns: each row gets the items
            that its user clicked strictly before its time, in any of the logs
            (`edcn_tf.preparation.histories`), as the schema's sequence `of` ITEM, or
            as a new one, `ITEM_history`.
        statistics: `"auto"`: the schema gets the statistics and crosses that take
            something off the log loss of training rows that they were not counted on
            (`edcn_tf.preparation.choosing`), printed as a table. By default none.

    Returns:
        The summary, a dict: rows and click rate of each split, and how many rows and
        clicks have a weight above 0; kept values of each field and the share of this
        log's training values that they cover. A split that no model can be trained on
        or judged by is named in a printed line, and a field of text whose values all
        look like `17.0`.

    Raises:
        InputError: For anything wrong with the logs, the schema or the options.
    """
    directory = Path(directory)
    refuse_existing(directory)
    if protocol not in PROTOCOLS:
        raise InputError(
            f"The protocol must be one of {list(PROTOCOLS)}. Received: {protocol!r}"
        )
    if statistics is not None and statistics not in CHOOSING:
        raise InputError(
            f"Statistics are chosen by 'auto', or not at all. Received: {statistics!r}"
        )
    if statistics and vocabulary_of:
        raise InputError(
            "Statistics cannot be chosen anew for data that goes on from an earlier "
            "vocabulary: its schema is taken as it is; leave --statistics out. "
            f"Received: {statistics!r}"
        )
    built = None
    if history:
        built, schema = History.parse(history, schema)
    growth = None
    if vocabulary_of:
        growth = Growth(vocabulary_of, forget_after, tuple(refit))
        growth.check(schema)
    elif refit or forget_after is not None:
        raise InputError("What to forget or fit anew needs an earlier vocabulary")
    plan = _plan(
        logs,
        format,
        compression,
        growth,
        built,
        protocol,
        schema=schema,
        seed=seed,
        split=tuple(split),
        split_by=split_by,
        negative_sampling_rate=negative_sampling_rate,
    )
    total = log_bytes(plan.logs)
    if runner and workers:
        raise InputError("--runner and --workers exclude each other")
    if statistics:
        plan = with_chosen(plan, protocol)
    if runner:
        from edcn_tf.preparation.beam import prepare_on_beam

        summary = prepare_on_beam(plan, directory, runner, runner_options)
        return _remarked(summary, directory)
    if workers is None:
        workers = 1 if total < ONE_PROCESS_BYTES else os.cpu_count() or 1
    parts = list(enumerate(map(LogPart, plan.logs)))  # each log whole
    if plan.splitter.needs_times and plan.splitter.times is None:
        times = ValueCounts()
        with console.progress_bar("Reading timestamps", total) as bar:
            for _, part in parts:
                plan.count_times(part, times, bar.update)
        plan = plan.with_times(times)
    counts = Counts(plan.schema)
    with (
        new_directory(directory) as partial,
        tempfile.TemporaryDirectory(dir=partial) as work,
    ):
        joined = _Joined(plan, parts, Path(work))
        with (
            _writers(partial, compression, workers) as write,
            console.progress_bar("Preparing", total) as bar,
        ):

            def progress(done: int) -> None:
                rows = sum(counts.tally.rows.values())
                bar.set_postfix_str(f"{rows:,} rows", refresh=False)
                bar.update(done)

            for log, part in parts:
                plan.prepare(log, part, counts, write, progress, joined.of(log))
        summary = plan.write(counts, partial, joined.counted)
    return _remarked(summary, directory)


def _remarked(summary: dict[str, Any], directory: Path) -> dict[str, Any]:
    spec = FeatureSpec.load(PreparedData(directory).features)
    for line in remarks(summary["splits"], spec):
        print(line)
    return summary


class _Joined:
    """What was found of each part's rows, in files beside the data until the end.

    Attributes:
        counted: `edcn_tf.preparation.counted.Counted`, for statistics.
    """

    def __init__(
        self, plan: Plan, parts: Sequence[tuple[int, LogPart]], work: Path
    ) -> None:
        self.plan, self.parts, self.work = plan, parts, work
        self.total = log_bytes(plan.logs)
        self.groups = number_of_groups(self.total)
        self.counted: Counted | None = None
        if plan.history:
            self._find_histories(plan.history)
        if plan.statistics:
            self._count()

    def of(self, log: int) -> Path:
        """The directory of a log's."""
        return self.work / "joined" / str(log)

    def _folders(self, kind: str) -> tuple[list[Path], list[Path]]:
        """Of each log a directory for what is gathered, and one for what is joined."""
        gathered = [self.work / "gathered" / kind / str(log) for log, _ in self.parts]
        joined = [self.of(log) / kind for log, _ in self.parts]
        for path in (*gathered, *joined):
            path.mkdir(parents=True)
        return gathered, joined

    def _find_histories(self, history: History) -> None:
        gathered, joined = self._folders(HISTORIES)
        with console.progress_bar("Reading histories", self.total) as bar:
            for (_, part), target in zip(self.parts, gathered):
                history.gather(part, self.plan, self.groups, target, bar.update)
        with console.progress_bar("Joining histories", self.groups) as bar:
            for group in range(self.groups):
                history.join(group, gathered, joined)
                bar.update(1)

    def _count(self) -> None:
        gathered, joined = self._folders(COUNTS)
        tables = self.work / "tables"
        tables.mkdir()
        self.counted = count(self.plan, self.parts, gathered, joined, tables)


def _plan(
    logs: StrPath | Iterable[StrPath] | Mapping[str, Iterable[StrPath]],
    format: str | None,
    compression: str | None,
    growth: Growth | None,
    history: History | None,
    protocol: str,
    **options: Any,
) -> Plan:
    """The `Plan` of `prepare`'s arguments."""
    names: tuple[str, ...]
    splits: tuple[str | None, ...]
    if isinstance(logs, Mapping):
        if not logs.get("train"):
            raise InputError("A split of your own needs logs for training: --train")
        pairs = [(log, s) for s, part in logs.items() for log in log_files(part)]
        names, splits = (tuple(column) for column in zip(*pairs))
        options["split"] = None
    else:
        one = isinstance(logs, (str, Path))
        names = tuple(log_files([logs] if one else logs))  # type: ignore[arg-type,list-item]
        if not names:
            raise InputError("There is no log to prepare")
        splits = (None,) * len(names)
    splitter = Splitter(**options)
    statistics = Statistics.of(splitter, protocol, growth)
    rest = growth, history, statistics
    return Plan(names, splits, splitter, format, compression, *rest)


@contextlib.contextmanager
def _writers(
    directory: Path, compression: str | None, workers: int
) -> Iterator[Callable[[str, pa.RecordBatch], None]]:
    """A function (split, batch) that has the batch written by one of `workers`."""
    if workers == 1:
        _start_writing(directory, compression, 0, 1)
        yield _write
        _finish_writing()
        return
    # A process each, so that a process owns its files and batches keep their order.
    spawn = multiprocessing.get_context("spawn")
    pools = [
        ProcessPoolExecutor(
            1, spawn, _start_writing, (directory, compression, number, workers)
        )
        for number in range(workers)
    ]
    try:
        with console.quiet():  # while the processes start and import TensorFlow
            for pool in pools:
                pool.submit(os.getpid)
            for pool in pools:
                pool.submit(os.getpid).result()
        waiting: collections.deque[Future] = collections.deque()
        turn = 0

        def write(split: str, batch: pa.RecordBatch) -> None:
            nonlocal turn
            waiting.append(pools[turn % workers].submit(_write, split, batch))
            turn += 1
            while len(waiting) > 2 * workers:  # bounds the memory
                waiting.popleft().result()

        yield write
        for task in [*waiting, *[pool.submit(_finish_writing) for pool in pools]]:
            task.result()
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


_WRITERS: dict[str, RecordWriter] = {}  # of this process: split -> RecordWriter


def _start_writing(
    directory: Path, compression: str | None, first: int, step: int
) -> None:
    _WRITERS.clear()
    for split in SPLITS:
        _WRITERS[split] = RecordWriter(
            PreparedData(directory).prefix(split),
            compression=compression,
            first=first,
            step=step,
        )


def _write(split: str, batch: pa.RecordBatch) -> None:
    _WRITERS[split].write(batch)


def _finish_writing() -> None:
    for writer in _WRITERS.values():
        writer.close()
