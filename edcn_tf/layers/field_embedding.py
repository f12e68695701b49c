"""All fields' embeddings, out of one table for each width."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from edcn_tf.checks import check_least
from edcn_tf.layers import large_table, vectors
from edcn_tf.layers.pooling import pooled, whole
from edcn_tf.layers.width_groups import groups_of


@keras.saving.register_keras_serializable(package="edcn_tf")
class FieldEmbedding(keras.layers.Layer):
    """Looks up the embeddings of a batch's ids and pools those of each list.

    All fields share one table E of `[num_rows, D]`, so one gather feeds the model:

        e_f = E[id_f]                                  a field of one slot
        e_f = sum or mean over the used slots s of E[id_s]     a list (id 0 is unused)
        e_f = E[id_f] + z_f W_f / sqrt(n)                      a vector z_f, [n]

    A vector has two rows of the table: that of a missing one, and that of one that is
    there, which is the projection's bias. Its numbers, standardized and 0 where it is
    missing (`Encoder`), follow its id, bit by bit. Each field projects by a W_f of its
    own, `[n, D]`, whose rows start as the table's do.

    With `l2`, each row's weight decays by the inverse of its frequency. The loss gets

        l2 * mean over the batch of sum over its ids of ||E[id]||^2 / count(id)

    with count(id) the number of training values that have the row. Averaged over an
    epoch of N log rows that is (l2 / N) * ||E||^2, the L2 of the whole table without
    bias, at a cost that follows the batch: `l2` is the precision of a Gaussian prior
    (halved), whatever the size of the log. A projection W_f counts as part of the row
    of a vector that is there.

    With `unseen_rate`, training replaces that share of the ids, drawn anew for each
    batch, by their field's row for unseen values. It trains that row where the log
    itself has few unseen values, and makes the model rely less on any one id.

    Fields may have unequal widths. All fields of a width then share a table, whose rows
    are those of these fields, and ids stay what they are: rows of one table of
    `num_rows`, in which each field has a range of its own.

    A sequence whose name is among `whole` is not pooled, nor are those along it: their
    embeddings come side by side for each position, for a layer that looks at the order.

    Tables are float32 whatever the dtype policy; the output has the compute dtype.

    Args:
        fields: The fields in the order of their slots: a list of dicts with `name`,
            `slots` (ids a row), `pooling` (`"mean"` or `"sum"`) and, if there is
            one, `unseen` (id of an unseen value), as `FeatureSpec.layout()` gives it.
            Where widths are unequal also `rows`, of the field's range; the ranges
            follow each other from row 1 on. A sequence has `kind`, and may have `of`
            (the field whose range it shares) and `along`; a vector has `vector`, the
            id of one that is there, and 1 + n `slots`.
        num_rows: Rows of the table; ids are in [0, num_rows).
        embedding_dim: Width D, or a list with the width of each field.
        l2: Strength of the regularization, 0 for none.
        row_counts: `[num_rows]` training values of each row, needed where `l2` is not
            0: without it there is no L2. Kept as a weight, so a model that is loaded
            need not be given it.
        unseen_rate: Share of the ids that training replaces, in [0, 1).
        seed: Seed of that replacement.
        embeddings_initializer: Keras initializer of the tables.
        whole: Names of sequences along no other to leave whole; then all fields must
            have one width.

    Input shape:
        `[B, S]` int32, S the sum of the fields' slots; of a vector the id, then n
        numbers, `tf.bitcast` from float32.

    Output shape:
        `[B, F, D]`, or for unequal widths `[B, d]`, the fields side by side. With
        `whole`, a list of that of the other fields and, for each sequence, a list of
        `[B, T, P * D]` (its own embedding and those of the P - 1 along it) and
        `[B, T]` bool, which positions there are.

    Example:
        >>> fields = [{"name": "user", "slots": 1, "pooling": "mean"},
        ...           {"name": "tags", "slots": 2, "pooling": "mean"}]
        >>> layer = FieldEmbedding(fields, num_rows=100, embedding_dim=4)
        >>> layer(np.array([[3, 7, 0]])).shape
        TensorShape([1, 2, 4])

    Reference:
        Chen et al. 2021 (EDCN), section 3. Inverse frequency makes their L2 (eq. 9)
        independent of how often a row is drawn.
    """

    def __init__(
        self,
        fields: Sequence[dict[str, Any]],
        num_rows: int,
        embedding_dim: int | Sequence[int],
        *,
        l2: float = 0.0,
        row_counts: np.ndarray | None = None,
        unseen_rate: float = 0.0,
        seed: int | None = None,
        embeddings_initializer: str | keras.initializers.Initializer | None = None,
        whole: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for field in fields:
            if field["pooling"] not in ("mean", "sum") or field["slots"] < 1:
                raise ValueError(
                    "Each field needs `slots` of at least 1 and a `pooling` of 'mean' "
                    f"or 'sum'. Received: {field}"
                )
            if "vector" in field and field["slots"] < 2:
                raise ValueError(
                    "A vector needs a slot for its id and one for each number. "
                    f"Received: {field}"
                )
        if isinstance(embedding_dim, int):
            widths = [embedding_dim] * len(fields)
        else:
            widths = list(embedding_dim)
        if len(widths) != len(fields):
            raise ValueError(
                "`embedding_dim` must be a number, or one for each of the "
                f"{len(fields)} fields. Received: {embedding_dim}"
            )
        check_least("num_rows", num_rows, 1)
        check_least("embedding_dim", min(widths), 1)
        check_least("l2", l2, 0)
        check_least("unseen_rate", unseen_rate, 0)
        if unseen_rate >= 1:
            raise ValueError(f"`unseen_rate` must be below 1. Received: {unseen_rate}")
        self.fields = [dict(field) for field in fields]
        self.num_rows = num_rows
        self.embedding_dim = embedding_dim
        self.widths = widths
        self.l2 = l2
        self.row_counts = row_counts
        self.unseen_rate = unseen_rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed) if unseen_rate else None
        self.embeddings_initializer = keras.initializers.get(
            embeddings_initializer or keras.initializers.RandomNormal(stddev=0.1)
        )
        self.num_slots = sum(field["slots"] for field in self.fields)
        self.is_uniform = len(set(self.widths)) == 1
        self.groups = groups_of(self.fields, self.widths, num_rows)
        self.whole = list(whole)
        self.sequences = [self._sequence(name) for name in self.whole]
        self.unpooled = [name for names in self.sequences for name in names]
        if self.whole and not self.is_uniform:
            raise ValueError(
                "Sequences that are left whole need fields of one width: set "
                f"`embedding_dim` to one number. Received: {embedding_dim}"
            )
        # XLA can compile neither the sparse update of the table nor its gather's
        # tf.unique, so Keras must not turn on jit_compile="auto" (as it would on GPU).
        self.supports_jit = False

    def build(self, input_shape):
        if input_shape[-1] != self.num_slots:
            raise ValueError(
                f"Expected ids of shape [B, {self.num_slots}]. Received: {input_shape}"
            )
        self.tables = [
            self.add_weight(
                name="table" if self.is_uniform else f"table_{group.width}",
                shape=(group.rows, group.width),
                initializer=self._initial_table,
                dtype="float32",
                autocast=False,  # which would copy the whole table
            )
            for group in self.groups
        ]
        self.projections = {
            field["name"]: self.add_weight(
                name=f"projection_{field['name']}",
                shape=(field["slots"] - 1, width),
                # A clone draws numbers of its own.
                initializer=self.embeddings_initializer.clone(),
                dtype="float32",
                autocast=False,
            )
            for field, width in zip(self.fields, self.widths)
            if "vector" in field
        }
        if self.l2:
            self.inverse_counts = self.add_weight(
                name="inverse_counts",
                shape=(self.num_rows,),
                initializer=self._inverse_counts,
                dtype="float32",
                autocast=False,
                trainable=False,
            )
        self.built = True

    def _sequence(self, name):
        """A sequence's name and the names of those along it."""
        found = [field for field in self.fields if field["name"] == name]
        if not found or found[0].get("kind") != "sequence" or found[0].get("along"):
            raise ValueError(
                "`whole` are names of sequences that are along no other. "
                f"Received: {name!r}"
            )
        along = [f["name"] for f in self.fields if f.get("along") == name]
        return [name, *along]

    @property
    def table(self):
        """The table, where all fields have the same width."""
        (table,) = self.tables
        return table

    def width_of(self, field_name):
        """Width D of a field's embeddings."""
        return self.widths[self._position_of(field_name)]

    def set_rows(self, field_name, rows, values):
        """Replaces rows of a field in place.

        Args:
            field_name: Name of the field.
            rows: Their ids, `[n]` int, all of the field's range.
            values: Their new embeddings, `[n, D]` float32.
        """
        large_table.set_rows(*self.table_rows(field_name, rows), values)

    def table_rows(self, field_name, rows):
        """The table of a field, and which of its rows are those with the ids `rows`."""
        position = self._position_of(field_name)
        [number] = [i for i, group in enumerate(self.groups) if group.has[position]]
        shifts = self.groups[number].shifts
        return self.tables[number], rows if shifts is None else rows - shifts[position]

    def _position_of(self, field_name):
        names = [field["name"] for field in self.fields]
        if field_name not in names:
            raise ValueError(
                f"There is no such field; there are {names}. Received: {field_name!r}"
            )
        return names.index(field_name)

    def _initial_table(self, shape, dtype=None):
        return large_table.initial(self.embeddings_initializer, shape, dtype)

    def save_own_variables(self, store):
        for table in self.tables:
            large_table.save(store, table)
        for projection in self.projections.values():
            store[projection.name] = projection
        if self.l2:
            store["inverse_counts"] = self.inverse_counts

    def load_own_variables(self, store):
        for table in self.tables:
            large_table.load(store, table)
        for projection in self.projections.values():
            projection.assign(store[projection.name])
        if self.l2:
            self.inverse_counts.assign(store["inverse_counts"])

    def _inverse_counts(self, shape, dtype=None):
        if self.row_counts is None:
            return ops.zeros(shape, dtype)  # to be loaded
        counts = np.asarray(self.row_counts, np.float32)
        if counts.shape != tuple(shape):
            raise ValueError(
                f"`row_counts` must have the shape {tuple(shape)}. "
                f"Received: {counts.shape}"
            )
        # A row that no training value has may still be drawn in a later log.
        inverse = 1 / np.maximum(counts, 1)
        inverse[0] = 0  # padding
        return ops.convert_to_tensor(inverse, dtype)

    def call(self, ids, training=False):
        ids, fields, numbers = vectors.parted(ops.cast(ids, "int32"), self.fields)
        logged = ids
        if self.unseen_rate and training:
            ids = self._some_unseen(ids, fields)
        parts = self._looked_up(ids, fields)
        if self.l2 and training:
            inverse = tf.nn.embedding_lookup(self.inverse_counts.value, ids)  # [B, S]
            # What was put in place of an id is not among the counts.
            inverse *= ops.cast(ops.equal(ids, logged), inverse.dtype)
            squares = [
                ops.sum(ops.square(embeddings), axis=-1) * _take(inverse, slots)
                for _, slots, embeddings, _ in parts
            ]
            sums = sum(ops.sum(each, axis=-1) for each in squares)
            sums += vectors.squares(ids, inverse, fields, self.projections)
            self.add_loss(self.l2 * ops.mean(sums))
        return self._side_by_side(parts, fields, numbers)

    def embed(self, ids, names):
        """Embeddings of some of the fields alone, for inference.

        Args:
            ids: `[B, S']`, the slots of these fields side by side.
            names: Names of the fields, in that order.

        Returns:
            `[B, len(names), D]`, or `[B, d']` for fields of unequal width; if some are
            left whole, a list as of `call`.
        """
        by_name = {field["name"]: field for field in self.fields}
        fields = [by_name[name] for name in names]
        ids, fields, numbers = vectors.parted(ops.cast(ids, "int32"), fields)
        return self._side_by_side(self._looked_up(ids, fields), fields, numbers)

    def _looked_up(self, ids, fields):
        """For each width of these fields: (fields, slots, embeddings, ids).

        Fields as a list, slots as their columns in `ids` (`None` for all),
        embeddings `[B, slots, width]`, ids `[B, slots]`.
        """
        if self.is_uniform:
            # From the variable itself, not its value: the gradient stays sparse, and
            # no copy of the table is made.
            embeddings = tf.nn.embedding_lookup(self.table.value, ids)  # [B, S, D]
            return [(fields, None, embeddings, ids)]
        ids = ops.cast(ids, "int64")  # int32 is added on the host, not on a GPU
        positions = {field["name"]: i for i, field in enumerate(self.fields)}
        of = [positions[field["name"]] for field in fields]
        of_slot = np.repeat(of, [field["slots"] for field in fields])  # [S]
        parts = []
        for group, table in zip(self.groups, self.tables):
            mine = [field for field, i in zip(fields, of) if group.has[i]]
            if not mine:
                continue
            slots = np.flatnonzero(np.array(group.has)[of_slot])
            own = _take(ids, slots)
            used = ops.cast(ops.cast(own, "bool"), "int64")  # padding stays 0
            rows = own - used * group.shifts[of_slot[slots]]
            embeddings = tf.nn.embedding_lookup(table.value, rows)
            parts.append((mine, slots, embeddings, own))
        return parts

    def _side_by_side(self, parts, fields, numbers):
        """The embeddings of the fields, of lists pooled: `[B, F, D]` or `[B, d]`.

        Those of vectors with the projections of `numbers`, name -> `[B, n]`.
        """
        weights = self.projections
        parts = [
            (mine, slots, vectors.with_projections(part, mine, numbers, weights), own)
            for mine, slots, part, own in parts
        ]
        names = {field["name"] for field in fields}
        sequences = [each for each in self.sequences if each[0] in names]
        if sequences:
            [(_, _, part, ids)] = parts
            part = ops.cast(part, self.compute_dtype)
            return [
                pooled(part, ids, fields, self.unpooled),
                *([*whole(part, ids, fields, each)] for each in sequences),
            ]
        tensors = [
            pooled(ops.cast(part, self.compute_dtype), ids, mine)
            for mine, _, part, ids in parts
        ]
        if self.is_uniform:
            return tensors[0]
        places = {
            field["name"]: (number, i)
            for number, (mine, *_) in enumerate(parts)
            for i, field in enumerate(mine)
        }
        pieces = []
        for number, start, end in _spans(places[field["name"]] for field in fields):
            piece = tensors[number][:, start:end]
            pieces.append(ops.reshape(piece, (-1, (end - start) * piece.shape[2])))
        return ops.concatenate(pieces, axis=1)

    def _some_unseen(self, ids, fields):
        """The ids, some of them replaced by that of an unseen value; padding stays."""
        unseen = [
            field.get("unseen") or 0 for field in fields for _ in range(field["slots"])
        ]
        unseen = ops.convert_to_tensor(unseen, "int32")  # [S], 0 where there is none
        draws = keras.random.uniform(ops.shape(ids), seed=self.seed_generator)
        replaced = (draws < self.unseen_rate) & (ids > 0) & (unseen > 0)
        return ops.where(replaced, unseen, ids)

    def compute_output_shape(self, input_shape):
        batch, width = input_shape[0], self.widths[0]
        if self.whole:
            slots = {field["name"]: field["slots"] for field in self.fields}
            others = len(self.fields) - len(self.unpooled)
            return [
                (batch, others, width),
                *(
                    [
                        (batch, slots[each[0]], len(each) * width),
                        (batch, slots[each[0]]),
                    ]
                    for each in self.sequences
                ),
            ]
        if self.is_uniform:
            return (batch, len(self.fields), width)
        return (input_shape[0], sum(self.widths))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "fields": self.fields,
            "num_rows": self.num_rows,
            "embedding_dim": self.embedding_dim,
            "l2": self.l2,
            "unseen_rate": self.unseen_rate,
            "seed": self.seed,
            "embeddings_initializer": keras.initializers.serialize(
                self.embeddings_initializer
            ),
            "whole": self.whole,
        }


def _take(tensor, columns):
    """Some columns of `[B, S]`, all if `None`."""
    # ops.take would look for negative columns first.
    return tensor if columns is None else tf.gather(tensor, columns, axis=1)


def _spans(places):
    """(number, start, end): each run of places (number, i) with rising i."""
    runs = []
    for number, i in places:
        if runs and runs[-1][0] == number and runs[-1][2] == i:
            runs[-1][2] += 1
        else:
            runs.append([number, i, i + 1])
    return runs
