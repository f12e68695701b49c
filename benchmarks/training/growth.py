"""How the time of a training step grows with each size of the workload."""

import os

from ..figures import check_figure, draw
from .contenders import Contender, measured
from .workload import (
    BATCH_SIZE,
    EMBEDDING_DIM,
    NUM_FIELDS,
    NUM_LAYERS,
)

TURNS = 5
ROWS = 1_000_000  # where the table is not what grows
SIZES = {
    "rows": ("rows of the table", (10_000, 100_000, 1_000_000, 10_000_000)),
    "fields": ("fields", (10, 20, 40, 80)),
    "width": ("width of an embedding", (8, 16, 32, 64)),
    "layers": ("layers", (1, 2, 3, 4)),
    "batch": ("rows a batch", (512, 1024, 2048, 4096, 8192)),
}


def benchmark_training_growth(figure=None):
    """Milliseconds a step of EDCN, one size at a time away from the usual ones.

    The programs of one line take turns, so that its points compare.

    Args:
        figure: Name of a new SVG or PNG file for the plot.
    """
    if figure:
        check_figure(figure)
    print(
        f"{NUM_FIELDS} fields x {EMBEDDING_DIM}, {NUM_LAYERS} layers, batch "
        f"{BATCH_SIZE:,}, {ROWS:,} rows but for what grows; {os.cpu_count()} "
        f"processors; the best of {TURNS} turns"
    )
    panels = []
    for key, (name, sizes) in SIZES.items():
        lines = {}
        for ids in ("zipf", "uniform") if key == "rows" else ("zipf",):
            contenders = {
                size: Contender(
                    "with_edcn_tf.py", **{"rows": ROWS, "ids": ids, key: size}
                )
                for size in sizes
            }
            taken, _ = measured(contenders, TURNS, seconds=1)
            lines[ids] = {size: 1e3 * taken[size].min() for size in sizes}
            print(f"\n{f'{name}, {ids} ids':<28}{'ms a step':>12}")
            for size, milliseconds in lines[ids].items():
                print(f"{size:<28,}{milliseconds:>12.1f}")
        panels.append((name, "ms a step", lines))
    if figure:
        draw(figure, panels)
