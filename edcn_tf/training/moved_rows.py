"""Where the rows of a vocabulary's tables were in those of an earlier one."""

from typing import NamedTuple

import keras
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.features.counting import value_buckets
from edcn_tf.layers import FieldEmbedding


def row_sources(earlier, spec):
    """Which row of an earlier table each row of a new one starts from.

    Args:
        earlier: The earlier `FeatureSpec`.
        spec: The new one.

    Returns:
        sources: `[num_rows]` int32, -1 for the rows of a new field.
        has_row: `[num_rows]` bool, false for values that had no row of their own.
    """
    sources = np.full(spec.num_rows, -1, np.int32)
    has_row = np.ones(spec.num_rows, bool)
    sources[0] = 0  # padding
    before = {own.field.name: own for own in earlier.fields}
    for own in spec.owners:
        if own.field.name in before:
            rows = slice(own.offset, own.offset + own.rows)
            sources[rows], has_row[rows] = _of_field(before[own.field.name], own)
    pa.default_memory_pool().release_unused()  # what the values took
    return sources, has_row


def _of_field(old, new):
    first = old.offset + np.arange(old.first_value - old.offset)  # missing, unseen
    if new.field.is_vector:
        places, has_row = np.zeros(1, int), np.ones(new.rows, bool)
    elif new.statistic:  # whose ranges stay what they are
        places = np.arange(new.rows - 1)
        has_row = np.ones(new.rows, bool)
    elif new.field.has_ranges:
        lowest = np.float32([-np.inf, *new.boundaries])
        places = np.searchsorted(np.float32(old.boundaries), lowest, side="right")
        has_row = np.ones(new.rows, bool)
    elif new.field.hash_buckets:
        places = np.arange(new.field.hash_buckets)
        has_row = np.ones(new.rows, bool)
    else:
        values = new.values()
        places = pc.index_in(values, old.values()).fill_null(-1).to_numpy()
        known = places >= 0
        has_row = np.concatenate([np.ones(len(first), bool), known])
        # As the encoder finds the rows of unseen values, before the first value's.
        hashed = np.full(len(values), -1)
        if old.field.unseen_rows > 1:
            hashed = value_buckets(values, old.field.unseen_rows)
            hashed -= old.field.unseen_rows
        places = np.where(known, places, hashed)
    return np.concatenate([first, old.first_value + places]), has_row


class MovedTable(NamedTuple):
    """A table, and where its rows are in the run's.

    `embedding` and `number` are of the run's table, `rows` the ids of the table's own
    rows, `places` where each of them was (-1: nowhere).
    """

    table: keras.Variable
    embedding: FieldEmbedding
    number: int
    rows: np.ndarray
    places: np.ndarray

    @property
    def earlier_rows(self):
        """Number of rows of the run's table."""
        return self.embedding.groups[self.number].rows


def moved_tables(model, spec, before, earlier, sources):
    """Yields a `MovedTable` for each table of a width that the run has one of."""
    for embedding, old in zip(model.embeddings, before.embeddings):
        numbers = {group.width: i for i, group in enumerate(old.groups)}
        for group, table in zip(embedding.groups, embedding.tables):
            if group.width not in numbers:  # of new fields alone
                continue
            number = numbers[group.width]
            rows = _rows_of(group, spec)
            old_rows = _rows_of(old.groups[number], earlier)
            places = np.full(earlier.num_rows, -1, np.int32)
            places[old_rows] = np.arange(len(old_rows))
            places = np.where(sources[rows] < 0, -1, places[sources[rows]])
            yield MovedTable(table, old, number, rows, places)


def _rows_of(group, spec):
    """Rows of the table of all fields that a group's own table has."""
    rows = [np.zeros(1, np.int32)]
    for own, has in zip(spec.fields, group.has):
        if has and own.of is None:
            rows.append(own.offset + np.arange(own.rows, dtype=np.int32))
    return np.concatenate(rows)
