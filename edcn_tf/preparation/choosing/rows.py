"""The training rows by which statistics and crosses are chosen, as columns of codes."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse

from edcn_tf import console
from edcn_tf.errors import InputError
from edcn_tf.features.draws import NEGATIVES, ORDER, draws, row_keys
from edcn_tf.logs.reading import LogPart, log_bytes
from edcn_tf.preparation.statistics import DELAY
from edcn_tf.preparation.totals import Totals

MOST_ROWS = 300_000
LEAST_ROWS = 200  # on fewer nothing can be judged
JUDGED = 0.25  # of the rows, the last ones
RANGES = 32  # of a number, by quantiles
TIME, DRAW, WEIGHT, CLICK = ".time", ".draw", ".weight", ".click"  # no field's name


@dataclasses.dataclass(frozen=True)
class Rows:
    """Training rows, in the order in which they are counted.

    Attributes:
        columns: Name of a categorical field with one value a row -> `[N]` int64, a
            number for each value from 0 on; -1 where it is missing.
        others: Name of a list or number that the baseline has -> CSR `[N, values]`.
        labels, weights: `[N]` float64.
        fitted: How many rows, the first ones, are fitted on; the others are judged.
        known: `[N]`: of row i the rows before `known[i]` are counted.
        by_time: Whether they are in the order of their times, and not drawn.
        running: Whether rows that are judged are counted as those that are fitted on.
        total: Number of training rows of which these are a part.
    """

    columns: dict
    others: dict
    labels: np.ndarray
    weights: np.ndarray
    fitted: int
    known: np.ndarray
    by_time: bool
    running: bool
    total: int

    def __len__(self):
        return len(self.labels)

    def thinned(self, step):
        """Every so many-th row; of these nothing is known."""
        return dataclasses.replace(
            self,
            columns={name: codes[::step] for name, codes in self.columns.items()},
            others={},
            labels=self.labels[::step],
            weights=self.weights[::step],
            fitted=-(-self.fitted // step),
            known=np.zeros(len(self.labels[::step]), int),
        )


def read_rows(plan, protocol, by_time):
    """The newest training rows, or those drawn first, of at most `MOST_ROWS`.

    Args:
        plan: The `edcn_tf.preparation.plan.Plan`, which knows where to split by time.
        protocol: Of statistics, `"frozen"` or `"running"`.
        by_time: Whether rows are counted in the order of their times.

    Returns:
        `Rows`.

    Raises:
        InputError: If there are too few rows, or none or all of them clicks.
    """
    schema = plan.schema
    fields = [f for f in schema.inputs if f.kind in ("categorical", "numeric")]
    fields = [f for f in fields if not f.is_vector]
    names = [f.name for f in fields]
    kept, totals, total = None, Totals(), 0
    with console.progress_bar("Reading for statistics", log_bytes(plan.logs)) as bar:
        for log, path in enumerate(plan.logs):
            pieces = []
            for first_row, batch in plan.read(
                LogPart(path), [*names, *_roles(schema)], bar.update
            ):
                rows, trains = _training_rows(plan, log, first_row, batch, names)
                total += trains
                pieces.append(rows)
                if by_time:
                    totals.span.add(rows[TIME])
                if sum(piece.num_rows for piece in pieces) > MOST_ROWS:
                    kept, pieces = _shrunk([kept, *pieces], by_time), []
            kept = _shrunk([kept, *pieces], by_time)
    _check(kept)
    delay = totals.duration(DELAY, "delay") if by_time else None
    return _as_rows(kept, fields, protocol, delay, total)


def _roles(schema):
    return [c for c in (schema.label, schema.timestamp, schema.weight) if c]


def _training_rows(plan, log, first_row, batch, names):
    """A table of the rows that train, negatives that are left out not among them.

    Those that stay weigh as much more.
    """
    schema, splitter = plan.schema, plan.splitter
    keys = row_keys(splitter.seed, log, first_row, batch.num_rows)
    trains = splitter.places(batch, plan.splits[log], keys) == 0
    clicks = batch.column(schema.label).to_numpy().astype(np.float64)
    weights = np.ones(batch.num_rows)
    if schema.weight:
        weights = batch.column(schema.weight).to_numpy().astype(np.float64)
    rate = splitter.negative_sampling_rate
    if rate < 1:
        weights = np.where(clicks == 1, weights, weights / rate)
        trains &= (clicks == 1) | (draws(keys, NEGATIVES) < rate)
    columns = {name: batch.column(name) for name in names}
    columns[DRAW], columns[WEIGHT], columns[CLICK] = draws(keys, ORDER), weights, clicks
    if schema.timestamp:
        columns[TIME] = batch.column(schema.timestamp)
    chosen = trains & (weights > 0)
    return pa.table(columns).filter(pa.array(chosen)), int(chosen.sum())


def _shrunk(tables, by_time):
    """The rows of several tables, in order, but for those beyond `MOST_ROWS`."""
    table = pa.concat_tables([t for t in tables if t is not None])
    order = [table[DRAW].to_numpy()]
    if by_time:
        order.append(table[TIME].to_numpy())
    places = np.lexsort(order)
    places = places[-MOST_ROWS:] if by_time else places[:MOST_ROWS]
    return table.take(pa.array(places))


def _check(table):
    rows = table.num_rows
    clicks = int(pc.sum(table[CLICK], min_count=0).as_py())
    if rows < LEAST_ROWS or clicks in (0, rows):
        raise InputError(
            f"Statistics are chosen by at least {LEAST_ROWS} training rows, some of "
            f"which are clicks and some not. Received: {rows} rows, {clicks} clicks"
        )


def _as_rows(table, fields, protocol, delay, total):
    columns, others = {}, {}
    for field in fields:
        column = table[field.name].combine_chunks()
        if field.multiple:
            others[field.name] = _of_list(column)
        elif field.has_ranges:
            others[field.name] = one_hot(_ranges(column))
        else:
            columns[field.name] = _codes(column)
    rows = table.num_rows
    fitted = rows - int(rows * JUDGED)
    known = np.arange(rows)
    if delay is not None:
        times = table[TIME].to_numpy()
        known = np.searchsorted(times, times - delay, side="left")
        end = np.searchsorted(times, times[fitted - 1] - delay, side="right")
    else:
        end = fitted
    if protocol == "frozen":
        known[fitted:] = end
    return Rows(
        columns,
        others,
        table[CLICK].to_numpy(),
        table[WEIGHT].to_numpy(),
        fitted,
        known,
        delay is not None,
        protocol == "running",
        total,
    )


def _codes(column):
    codes = column.dictionary_encode().indices
    return codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def _ranges(column):
    numbers = column.to_numpy(zero_copy_only=False).astype(np.float64)
    present = np.isfinite(numbers)
    if not present.any():
        return np.full(len(numbers), -1)
    ends = np.unique(np.quantile(numbers[present], np.arange(1, RANGES) / RANGES))
    return np.where(present, np.searchsorted(ends, numbers, side="right"), -1)


def _of_list(column):
    rows = column.value_parent_indices().to_numpy(zero_copy_only=False)
    codes = _codes(column.flatten())
    rows, codes = rows[codes >= 0], codes[codes >= 0]
    each = 1 / np.bincount(rows, minlength=len(column))[rows]
    shape = len(column), codes.max(initial=0) + 1
    return scipy.sparse.csr_matrix((each, (rows, codes)), shape)


def one_hot(codes):
    """CSR `[N, values]` of numbers of values, all 0 in a row without one."""
    rows = np.flatnonzero(codes >= 0)
    shape = len(codes), codes.max(initial=0) + 1
    return scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, codes[rows])), shape)
