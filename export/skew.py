"""The comparison of logged scores with those of an export: `edcn verify --against`."""

import collections
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from edcn_tf.console import progress_bar
from edcn_tf.errors import InputError
from edcn_tf.field import MISSING
from edcn_tf.files import read_json
from edcn_tf.logs.normalizing import check_once
from edcn_tf.logs.reading import log_bytes, read_log
from edcn_tf.logs.served.reading import hold_predictions, read_served, record_of
from edcn_tf.records.writing import serialize_examples
from edcn_tf.schema import Schema

from .c_api import Session
from .recording import EXTREMES, FEATURES

NUMBERS = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal)
REPLAYED_ROWS = 4096
EXAMINED_ROWS = 10_000  # of those that differ
BY_CHANCE = 0.1  # a share of rows whose score may be the logged one all the same


class FieldSkew(NamedTuple):
    """What the rows that differ have to do with one field.

    Attributes:
        name: The field's name.
        as_if_missing: Rows whose logged score is the one without the field's value.
        as_if_unseen: Rows whose logged score is the one with an unseen value.
        value: The value with the largest share of rows that differ, of those that at
            least 1 % of the rows have (None: where it is missing).
        rows: Rows of the log with that value.
        differing: How many of them differ.
    """

    name: str
    as_if_missing: int
    as_if_unseen: int
    value: object
    rows: int
    differing: int


class Skew(NamedTuple):
    """How logged scores compare with those of an export.

    Attributes:
        rows: Rows that were compared.
        differing: Rows whose scores differ by more than the tolerance.
        largest: Largest absolute difference.
        worst_row: Its number among all rows of the logs, as among the scores, from 1;
            of logged requests the number of its record in its file.
        worst_file: Name of that file; None where the scores are beside the logs.
        logged, answered: The two scores of that row.
        fields: A `FieldSkew` for each field that is no cross, those that explain most
            rows (a tenth of those that differ at least, as fewer may be chance) first,
            then those with a value most of whose rows differ; empty if no row differs.
        left_out: What was left out of logged requests -> how much of it.
    """

    rows: int
    differing: int
    largest: float
    worst_row: int
    worst_file: str | None
    logged: float
    answered: float
    fields: list
    left_out: dict


def compare_scores(version, logs, scores=None, *, format=None, tolerance=1e-6):
    """Replays logged rows through an export and compares with their logged scores.

    For each row that differs (up to 10,000 of them), the export is asked once more
    with each field missing, and unseen: the field with which that gives the logged
    score is the one that was not there, or not known, when the score was logged.

    Args:
        version: The directory of an exported version.
        logs: Names of raw logs (`edcn_tf.logs.reading.read_log`); they need no label.
            Or of TFRecord files with the requests that TF Serving logged
            (`edcn_tf.logs.served`), of which those are compared that this version
            answered, if their answers tell a version and its directory is named by a
            number.
        scores: A `.csv` or `.parquet` file with the logged `probability` of each row,
            in the log's order; None for requests that TF Serving logged.
        format: Format of the logs, or told from their names.
        tolerance: Absolute difference up to which two scores are the same.

    Returns:
        A `Skew`.

    Raises:
        InputError: If a file cannot be read, or the numbers of rows differ.
    """
    config = read_json(Path(version) / "assets.extra" / FEATURES)
    schema = Schema.from_dict(config["schema"])
    check_scores(logs, scores, format)
    told, batches, answers = collections.Counter(), [], []
    parts, numbers = [], []  # of logged requests: their scores and records
    with Session(version) as session:
        with progress_bar("Replaying", log_bytes(logs)) as bar:
            if scores is None:
                number = _number(version)
                rows = read_served(logs, schema, told, bar.update, number)
            else:
                names = [field.name for field in schema.inputs]
                read = read_log(logs, schema, format, names, bar.update)
                rows = ((batch, [], []) for batch in read)
            for batch, own, records in rows:
                batches.append(batch)
                answers.append(_answers(session, batch))
                parts.append(own)
                numbers.append(records)
        if not batches:
            why = "; ".join(f"{told[reason]:,} {reason}" for reason in sorted(told))
            why = f" but what is left out: {why}" if why else ""
            raise InputError(f"{', '.join(map(str, logs))}: no rows{why}")
        logged = np.concatenate(parts) if scores is None else _read_scores(scores)
        table, answers = pa.Table.from_batches(batches), np.concatenate(answers)
        if len(answers) != len(logged):
            raise InputError(
                f"{scores}: has {len(logged):,} scores, but the log has "
                f"{len(answers):,} rows"
            )
        differences = np.abs(answers - logged)
        differences[np.isnan(differences)] = np.inf
        differs = differences > tolerance
        worst = int(np.argmax(differences))
        fields = []
        if differs.any():
            fields = _examined(session, table, logged, differs, tolerance, schema)
    row, file = worst + 1, None
    if scores is None:
        file, row = record_of(logs, int(np.concatenate(numbers)[worst]))
    return Skew(
        rows=len(answers),
        differing=int(differs.sum()),
        largest=float(differences[worst]),
        worst_row=row,
        worst_file=file,
        logged=float(logged[worst]),
        answered=float(answers[worst]),
        fields=fields,
        left_out=dict(told),
    )


def check_scores(logs, scores, format=None):
    """Raises an `InputError` unless there are scores once: in the logs, or beside."""
    if hold_predictions(logs, format) != (scores is None):
        raise InputError(
            "--against LOG and --scores FILE go together, unless LOG holds requests "
            "that TF Serving logged, with scores of their own"
        )


def _number(version):
    """Of the version, by which TF Serving calls it; None where it has no number."""
    name = Path(version).absolute().name
    return int(name) if name.isdecimal() else None


def _read_scores(path):
    readers = {".csv": pyarrow.csv.read_csv, ".parquet": pyarrow.parquet.read_table}
    suffix = Path(path).suffix
    if suffix not in readers:
        raise InputError(f"Scores are read from {list(readers)}. Received: {path}")
    try:
        table = readers[suffix](path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())[:200]}") from None
    if "probability" not in table.column_names:
        raise InputError(
            f"{path}: has no column 'probability'; it has {table.column_names}"
        )
    check_once(path, ["probability"], table.column_names)
    column = table["probability"]
    if not any(is_kind(column.type) for is_kind in NUMBERS):
        raise InputError(f"{path}: 'probability' must be numbers, not {column.type}")
    return column.cast(pa.float64()).to_numpy()


def _answers(session, batch):
    records = np.array(serialize_examples(batch), object)
    parts = range(0, len(records), REPLAYED_ROWS)
    return np.concatenate(
        [
            session.run("examples", {"inputs": records[i : i + REPLAYED_ROWS]})[
                "probability"
            ][:, 0]
            for i in parts
        ]
    )


def _examined(session, table, logged, differs, tolerance, schema):
    places = np.flatnonzero(differs)[:EXAMINED_ROWS]
    rows = table.take(places).combine_chunks().to_batches()[0]
    fields = []
    for number, field in enumerate(schema.inputs):
        counts = []
        for value in (None, _unseen(field)):
            changed = _with_value(rows, schema, field, value)
            same = np.abs(_answers(session, changed) - logged[places]) <= tolerance
            counts.append(int(same.sum()))
        value, of, differing = _worst_value(field, table.column(number), differs)
        fields.append(FieldSkew(field.name, *counts, value, of, differing))

    def explained(field):
        """Rows that a missing or unseen value explains; then what one value does."""
        same = max(field.as_if_missing, field.as_if_unseen)
        by_chance = same < BY_CHANCE * rows.num_rows
        return 0 if by_chance else same, field.differing / max(field.rows, 1)

    return sorted(fields, key=explained, reverse=True)


def _unseen(field):
    if field.has_ranges or field.is_vector:
        return None
    value = EXTREMES[field.dtype][0 if field.dtype == "string" else -1]
    value = value.decode() if isinstance(value, bytes) else value
    return [value] if field.is_list else value


def _with_value(rows, schema, field, value):
    """The rows with one value of a field in place of theirs; sequences keep in step."""
    along = [other for other in schema.fields if other.along == field.name]
    if field.along is None:
        columns = {field.name: [value] * rows.num_rows}
        nothing = {other.name: [MISSING[other.dtype]] for other in along}
        for name, one in nothing.items():
            columns[name] = [value and one] * rows.num_rows
    else:  # as many as its sequence has
        one = [MISSING[field.dtype]] if value is None else value
        lengths = rows.column(field.along).value_lengths().fill_null(0).to_pylist()
        columns = {field.name: [one * length for length in lengths]}
    for name, values in columns.items():
        number = rows.schema.get_field_index(name)
        kind = rows.schema.field(number)
        rows = rows.set_column(number, kind, pa.array(values, kind.type))
    return rows


def _worst_value(field, column, differs):
    """(value, rows, differing rows) of the value that differs most often."""
    places = np.arange(len(column))
    if field.is_vector:  # of which hardly one comes twice
        there = pc.greater(pc.list_value_length(column), 0)
        column = pc.if_else(there, "a vector", pa.scalar(None, pa.string()))
    elif pa.types.is_list(column.type):
        column, places = _values_of_lists(column)
    grouped = pa.table({"value": column, "differs": differs[places].astype(int)})
    grouped = grouped.group_by("value").aggregate(
        [("differs", "sum"), ("differs", "count")]
    )
    rows, differing = (
        grouped[name].to_numpy() for name in ("differs_count", "differs_sum")
    )
    common = rows >= 0.01 * len(differs)
    if not common.any():
        return None, 0, 0
    share = np.where(common, differing / rows, -1)
    best = int(np.lexsort((rows, share))[-1])
    return grouped["value"][best].as_py(), int(rows[best]), int(differing[best])


def _values_of_lists(column):
    """Each value once a row, None for an empty list; and its row."""
    column = column.combine_chunks()
    empty = np.flatnonzero(
        pc.fill_null(pc.list_value_length(column), 0).to_numpy() == 0
    )
    rows = np.concatenate([pc.list_parent_indices(column).to_numpy(), empty])
    values = pa.concat_arrays(
        [column.flatten(), pa.nulls(len(empty), column.type.value_type)]
    )
    pairs = pa.table({"row": rows, "value": values})
    pairs = pairs.group_by(["row", "value"]).aggregate([])
    return pairs["value"], pairs["row"].to_numpy()
