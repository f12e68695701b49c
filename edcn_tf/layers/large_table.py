"""Tables that fill the memory are made, changed and stored part by part."""

import math

import keras
import numpy as np
import tensorflow as tf

PART_SIZE = 1 << 22  # numbers of a table that are handled at once
# Those that draw each number by itself, whatever the shape.
ELEMENTWISE_INITIALIZERS = (
    keras.initializers.RandomNormal,
    keras.initializers.RandomUniform,
    keras.initializers.TruncatedNormal,
)


def initial(initializer, shape, dtype):
    """A table's first values; a large one at once would take three times its size."""
    if (
        shape[0] * shape[1] <= PART_SIZE
        or not isinstance(initializer, ELEMENTWISE_INITIALIZERS)
        or not tf.executing_eagerly()  # Keras asks for its shape alone
    ):
        return initializer(shape, dtype)
    seed = initializer.seed
    if isinstance(seed, keras.random.SeedGenerator):
        seed = seed.get_config()["seed"]
    table = tf.zeros(shape, dtype)
    for number, (start, end) in enumerate(parts(shape)):
        drawing = initializer.clone()
        drawing.seed = seed + number  # or each part would be the same
        tf.raw_ops.InplaceUpdate(
            x=table,
            i=tf.range(start, end),
            v=drawing((end - start, shape[1]), dtype),
        )
    return table


def set_rows(table, rows, values):
    """Puts values `[n, D]` into rows `[n]` of a Keras variable `[rows, D]`."""
    # An assignment to a slice of the variable would copy the table first.
    for replica in getattr(table.value, "values", [table.value]):  # of tf.distribute
        replica.scatter_update(tf.IndexedSlices(values, rows))


def save(store, table):
    """Stores a Keras variable in parts, so that no copy of it as a whole is made."""
    for start, end in parts(table.shape):
        store[f"{table.name}_from_{start}"] = table.value[start:end]


def load(store, table):
    """Reads what `save` stored, whatever the size of its parts."""
    rows, prefix = 0, f"{table.name}_from_"
    for key in store.keys():  # noqa: SIM118 (it is no dict)
        if not key.startswith(prefix):
            continue
        start, part = int(key.removeprefix(prefix)), store[key]
        end, rows = start + len(part), rows + len(part)
        if end > table.shape[0] or part.shape[1] != table.shape[1]:
            rows = None
            break
        set_rows(table, np.arange(start, end), part)
    if rows != table.shape[0]:
        raise ValueError(
            f"The stored table has not the shape {tuple(table.shape)} of this layer's"
        )


def parts(shape):
    """(start, end) of runs of rows that are handled at once."""
    rows = max(1, PART_SIZE // math.prod(shape[1:]))
    for start in range(0, shape[0], rows):
        yield start, min(start + rows, shape[0])
