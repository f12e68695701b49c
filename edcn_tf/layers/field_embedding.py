"""All fields' embeddings out of one table."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

PART_SIZE = 1 << 22  # numbers of a table that are initialized or stored at once
# Those that draw each number by itself, whatever the shape.
ELEMENTWISE_INITIALIZERS = (
    keras.initializers.RandomNormal,
    keras.initializers.RandomUniform,
    keras.initializers.TruncatedNormal,
)


@keras.saving.register_keras_serializable(package="edcn_tf")
class FieldEmbedding(keras.layers.Layer):
    """Looks up the embeddings of a batch's ids and pools those of each list.

    All fields share one table E of `[num_rows, D]`, so one gather feeds the model:

        e_f = E[id_f]                                  a field of one slot
        e_f = sum or mean over the used slots s of E[id_s]     a list (id 0 is unused)

    With `l2`, each row's weight decays by the inverse of its frequency. The loss gets

        l2 * mean over the batch of sum over its ids of ||E[id]||^2 / count(id)

    with count(id) the number of training values that have the row. Averaged over an
    epoch of N log rows that is (l2 / N) * ||E||^2, the L2 of the whole table without
    bias, at a cost that follows the batch: `l2` is the precision of a Gaussian prior
    (halved), whatever the size of the log.

    With `unseen_rate`, training replaces that share of the ids, drawn anew for each
    batch, by their field's row for unseen values. It trains that row where the log
    itself has few unseen values, and makes the model rely less on any one id.

    The table is float32 whatever the dtype policy; the output has the compute dtype.

    Args:
        fields: The fields in the order of their slots: a list of dicts with `name`,
            `slots` (ids a row), `pooling` (`"mean"` or `"sum"`) and, if there is
            one, `unseen` (id of an unseen value), as `FeatureSpec.layout()` gives it.
        num_rows: Rows of the table; ids are in [0, num_rows).
        embedding_dim: Width D.
        l2: Strength of the regularization, 0 for none.
        row_counts: `[num_rows]` training values of each row, needed where `l2` is not
            0: without it there is no L2. Kept as a weight, so a model that is loaded
            need not be given it.
        unseen_rate: Share of the ids that training replaces, in [0, 1).
        seed: Seed of that replacement.
        embeddings_initializer: Keras initializer of the table.

    Input shape:
        `[B, S]` int32, S the sum of the fields' slots.

    Output shape:
        `[B, F, D]`.

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
        fields,
        num_rows,
        embedding_dim,
        *,
        l2=0.0,
        row_counts=None,
        unseen_rate=0.0,
        seed=None,
        embeddings_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for field in fields:
            if field["pooling"] not in ("mean", "sum") or field["slots"] < 1:
                raise ValueError(
                    "Each field needs `slots` of at least 1 and a `pooling` of 'mean' "
                    f"or 'sum'. Received: {field}"
                )
        for name, value, low in [
            ("num_rows", num_rows, 1),
            ("embedding_dim", embedding_dim, 1),
            ("l2", l2, 0),
            ("unseen_rate", unseen_rate, 0),
        ]:
            if value < low:
                raise ValueError(f"`{name}` must be at least {low}. Received: {value}")
        if unseen_rate >= 1:
            raise ValueError(f"`unseen_rate` must be below 1. Received: {unseen_rate}")
        self.fields = [dict(field) for field in fields]
        self.num_rows = num_rows
        self.embedding_dim = embedding_dim
        self.l2 = l2
        self.row_counts = row_counts
        self.unseen_rate = unseen_rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed) if unseen_rate else None
        self.embeddings_initializer = keras.initializers.get(
            embeddings_initializer or keras.initializers.RandomNormal(stddev=0.1)
        )
        self.num_slots = sum(field["slots"] for field in self.fields)
        # XLA can compile neither the sparse update of the table nor its gather's
        # tf.unique, so Keras must not turn on jit_compile="auto" (as it would on GPU).
        self.supports_jit = False

    def build(self, input_shape):
        if input_shape[-1] != self.num_slots:
            raise ValueError(
                f"Expected ids of shape [B, {self.num_slots}]. Received: {input_shape}"
            )
        self.table = self.add_weight(
            name="table",
            shape=(self.num_rows, self.embedding_dim),
            initializer=self._initial_table,
            dtype="float32",
            autocast=False,  # which would copy the whole table
        )
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

    def _initial_table(self, shape, dtype=None):
        """A large one part by part: at once would take three times its size."""
        initializer = self.embeddings_initializer
        if (
            self.num_rows * self.embedding_dim <= PART_SIZE
            or not isinstance(initializer, ELEMENTWISE_INITIALIZERS)
            or not tf.executing_eagerly()  # Keras asks for its shape alone
        ):
            return initializer(shape, dtype)
        seed = initializer.seed
        if isinstance(seed, keras.random.SeedGenerator):
            seed = seed.get_config()["seed"]
        table = tf.zeros(shape, dtype)
        for number, (start, end) in enumerate(self._parts()):
            drawing = initializer.clone()
            drawing.seed = seed + number  # or each part would be the same
            tf.raw_ops.InplaceUpdate(
                x=table,
                i=tf.range(start, end),
                v=drawing((end - start, self.embedding_dim), dtype),
            )
        return table

    def _parts(self):
        """(start, end) of runs of rows that are handled at once."""
        rows = max(1, PART_SIZE // self.embedding_dim)
        for start in range(0, self.num_rows, rows):
            yield start, min(start + rows, self.num_rows)

    def width_of(self, field_name):
        """Width D of a field's embeddings."""
        if field_name not in [field["name"] for field in self.fields]:
            raise ValueError(f"There is no such field. Received: {field_name!r}")
        return self.embedding_dim

    def set_rows(self, rows, values):
        """Replaces rows of the table in place.

        Args:
            rows: `[n]` integers, no two alike.
            values: `[n, D]` float32.
        """
        # An assignment to a slice of the variable would copy the table first.
        variable = self.table.value
        for replica in getattr(variable, "values", [variable]):  # of tf.distribute
            replica.scatter_update(tf.IndexedSlices(values, rows))

    def save_own_variables(self, store):
        """Stores the table in parts, so that no copy of it as a whole is made."""
        for start, end in self._parts():
            store[f"table_from_{start}"] = self.table.value[start:end]
        if self.l2:
            store["inverse_counts"] = self.inverse_counts

    def load_own_variables(self, store):
        rows = 0
        for key in store.keys():  # noqa: SIM118 (it is no dict)
            if not key.startswith("table_from_"):
                continue
            start, part = int(key.removeprefix("table_from_")), store[key]
            end, rows = start + len(part), rows + len(part)
            if end > self.num_rows or part.shape[1] != self.embedding_dim:
                rows = None
                break
            self.set_rows(tf.range(start, end), part)
        if rows != self.num_rows:
            raise ValueError(
                f"The stored table has not the shape {self.table.shape} of this layer's"
            )
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
        ids = ops.cast(ids, "int32")
        logged = ids
        if self.unseen_rate and training:
            ids = self._some_unseen(ids)
        # From the variable itself, not its value: the gradient stays sparse, and no
        # copy of the table is made.
        embeddings = tf.nn.embedding_lookup(self.table.value, ids)  # [B, S, D]
        if self.l2 and training:
            inverse = tf.nn.embedding_lookup(self.inverse_counts.value, ids)  # [B, S]
            # What was put in place of an id is not among the counts.
            inverse *= ops.cast(ops.equal(ids, logged), inverse.dtype)
            squares = ops.sum(ops.square(embeddings), axis=-1) * inverse
            self.add_loss(self.l2 * ops.mean(ops.sum(squares, axis=-1)))
        return self._pooled(embeddings, ids, self.fields)  # [B, F, D]

    def embed(self, ids, names):
        """Embeddings of some of the fields alone, for inference.

        Args:
            ids: `[B, S']`, the slots of these fields side by side.
            names: Names of the fields, in that order.

        Returns:
            `[B, len(names), D]`.
        """
        by_name = {field["name"]: field for field in self.fields}
        ids = ops.cast(ids, "int32")
        embeddings = tf.nn.embedding_lookup(self.table.value, ids)
        return self._pooled(embeddings, ids, [by_name[name] for name in names])

    def _pooled(self, embeddings, ids, fields):
        """`[B, S, D]` of the fields' slots -> `[B, F, D]`."""
        embeddings = ops.cast(embeddings, self.compute_dtype)
        if all(field["slots"] == 1 for field in fields):
            return embeddings
        # By way of bool: TensorFlow compares and slices int32 in the host's memory.
        used = ops.cast(ops.cast(ids, "bool"), embeddings.dtype)  # [B, S]
        pooled = []
        for start, stop, field in _runs(fields):
            part = embeddings[:, start:stop]
            if field is not None:
                part = _pool(part, used[:, start:stop], field["pooling"])
            pooled.append(part)
        return ops.concatenate(pooled, axis=1)

    def _some_unseen(self, ids):
        """The ids, some of them replaced by that of an unseen value; padding stays."""
        unseen = [
            field.get("unseen") or 0
            for field in self.fields
            for _ in range(field["slots"])
        ]
        unseen = ops.convert_to_tensor(unseen, "int32")  # [S], 0 where there is none
        draws = keras.random.uniform(ops.shape(ids), seed=self.seed_generator)
        replaced = (draws < self.unseen_rate) & (ids > 0) & (unseen > 0)
        return ops.where(replaced, unseen, ids)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], len(self.fields), self.embedding_dim)

    def get_config(self):
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
        }


def _runs(fields):
    """(start, stop, field): each list, and each run of fields of one slot."""
    start = stop = 0
    for field in fields:
        if field["slots"] == 1:
            stop += 1
            continue
        if stop > start:
            yield start, stop, None
        start, stop = stop, stop + field["slots"]
        yield start, stop, field
        start = stop
    if stop > start:
        yield start, stop, None


def _pool(embeddings, used, pooling):
    """`[B, length, D]` -> `[B, 1, D]`, of the slots that are used."""
    if pooling == "mean":
        used /= ops.maximum(ops.sum(used, axis=1, keepdims=True), 1)
    return ops.sum(embeddings * used[:, :, None], axis=1, keepdims=True)
