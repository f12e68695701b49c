"""How the time of a training step grows with the length of a history."""

import os
import time

import numpy as np
import tensorflow as tf

from edcn_tf.models import make_model
from edcn_tf.models.parts import HISTORIES
from edcn_tf.training.optimizers import SparseAdam

from .figures import check_figure, draw

LENGTHS = (10, 20, 50, 100, 200)
BATCH_SIZE, EMBEDDING_DIM, NUM_FIELDS, VALUES = 1024, 32, 6, 10_000
TURNS, STEPS = 5, 3


def benchmark_history_growth(figure=None):
    """Milliseconds a training step of EDCN with a history of growing length.

    All models take turns, so that noise falls on them alike. Histories are full.

    Args:
        figure: Name of a new SVG or PNG file for the plot.
    """
    if figure:
        check_figure(figure)
    kinds = ("pooling", *HISTORIES)
    print(
        f"EDCN, {NUM_FIELDS} fields and a history of {VALUES:,} items, width "
        f"{EMBEDDING_DIM}, batch {BATCH_SIZE:,}; {os.cpu_count()} processors; the best "
        f"of {TURNS} turns, ms a step\n"
    )
    tf.get_logger().setLevel("ERROR")  # each model is traced, as it should be
    steps = {
        (kind, length): _step(kind, length) for kind in kinds for length in LENGTHS
    }
    best = dict.fromkeys(steps, np.inf)
    for _ in range(TURNS):
        for key, step in steps.items():
            best[key] = min(best[key], _seconds(step))
    print(f"{'length':<10}" + "".join(f"{kind:>14}" for kind in kinds))
    for length in LENGTHS:
        cells = (f"{1e3 * best[kind, length]:>14.1f}" for kind in kinds)
        print(f"{length:<10}" + "".join(cells))
    if figure:
        lines = {
            kind: {length: 1e3 * best[kind, length] for length in LENGTHS}
            for kind in kinds
        }
        draw(figure, [("length of the history", "ms a step", lines)])


def _step(kind, length):
    """A function that trains for a step, which has been traced."""
    fields = [
        {"name": f"field_{i}", "slots": 1, "rows": VALUES, "pooling": "mean"}
        for i in range(NUM_FIELDS)
    ]
    history = {"name": "history", "slots": length, "rows": VALUES, "pooling": "mean"}
    history.update(kind="sequence", of="field_0", along=None)
    spec = {"fields": [*fields, history], "num_rows": 1 + NUM_FIELDS * VALUES}
    model = make_model(spec, "edcn", embedding_dim=EMBEDDING_DIM, history=kind, l2=0.0)
    model.compile(SparseAdam(1e-2, average_decay=0.998), "binary_crossentropy")
    random = np.random.default_rng(0)
    first = [1 + i * VALUES for i in range(NUM_FIELDS)] + [1] * length
    # Zipf's law, by which few items are most of a log.
    ids = first + random.zipf(1.1, (BATCH_SIZE, len(first))) % VALUES
    labels = random.integers(0, 2, BATCH_SIZE)
    data = tf.constant(ids, tf.int32), tf.constant(labels, tf.float32)
    model.make_train_function()

    def step():
        model.train_function(iter([data]))

    step()
    return step


def _seconds(step):
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - began) / STEPS
