"""How fast EDCN trains: against peers, the machine's limit and its own table."""

import os
import sys
import tempfile
from pathlib import Path

from .contenders import Contender, measured, peers_in
from .from_records import waiting
from .workload import (
    BATCH_SIZE,
    EMBEDDING_DIM,
    NUM_FIELDS,
    NUM_LAYERS,
)

SMALL = 100_000
LARGE = 10_000_000
IDS = ("zipf", "uniform")
TURNS = 8
TURN_SECONDS = 2.0
OURS = "edcn-tf"
LIMIT = "products"
# Without what a peer does not have; the rest of the defaults is each library's.
PLAIN = {"dropout": 0.0, "unseen_rate": 0.0, "l2": 0.0}
NETWORK = {"embedding_dim": EMBEDDING_DIM, "num_layers": NUM_LAYERS}


def benchmark_training(rows=LARGE, peers=None):
    """Training steps of one network by several libraries, at two sizes of the table.

    The network: 39 fields x 16, 3 layers, hadamard bridges, softmax gates, no
    regularization, Adam, batches of 2,048 rows in memory. Programs take turns of
    about two seconds in one run; the best turn of each counts, since what disturbs a
    turn only makes it longer.

    Args:
        rows: Rows of the large table.
        peers: Directory of the peers' virtual environments, which are made there if
            they are not yet; without it, no peers are measured.
    """
    print(
        f"{NUM_FIELDS} fields x {EMBEDDING_DIM}, {NUM_LAYERS} layers, hadamard, batch "
        f"{BATCH_SIZE:,}; {os.cpu_count()} processors; the best of {TURNS} turns\n"
    )
    others = peers_in(peers) if peers else {}
    programs = {OURS: ("with_edcn_tf.py", sys.executable), **others}
    seconds, peaks = {}, {}
    for ids in IDS:
        contenders = {LIMIT: Contender("with_products.py")}
        for size in (SMALL, rows):
            for name, (program, python) in programs.items():
                contenders[name, size] = Contender(program, python, rows=size, ids=ids)
        seconds[ids], peaks[ids] = measured(contenders, TURNS, TURN_SECONDS)
    _print_speeds(seconds, rows, list(programs))
    for ids, taken in seconds.items():
        _print(
            f"step at {rows:,} rows / at {SMALL:,}, {ids}",
            f"{taken[OURS, rows].min() / taken[OURS, SMALL].min():.2f}",
        )
    peak = max(taken[OURS, rows] for taken in peaks.values()) / 1e9
    over = peak - 3 * 4 * EMBEDDING_DIM * rows / 1e9
    _print(f"peak memory at {rows:,} rows", f"{peak:.2f} GB")
    _print("   of that over the table and its two slots", f"{over:.2f} GB")
    with tempfile.TemporaryDirectory() as folder:
        log_rows = min(SMALL, rows)
        share = waiting(Path(folder), log_rows, BATCH_SIZE, {**NETWORK, **PLAIN})
    _print("share of a step that waits for records", f"{share:.1%}")


def _print_speeds(seconds, rows, names):
    heads = "".join(f"{name:>11}" for name in [*names, LIMIT])
    ratios = "".join(f"{f'/ {name}':>12}" for name in names[1:])
    print(f"{'examples/s':<24}{heads}{ratios}{'of limit':>10}")
    for size in (SMALL, rows):
        for ids, taken in seconds.items():
            ours = taken[OURS, size].min()
            line = f"{f'{size:,} rows, {ids}':<24}"
            for key in [*((name, size) for name in names), LIMIT]:
                line += f"{BATCH_SIZE / taken[key].min():>11,.0f}"
            for name in names[1:]:
                line += f"{taken[name, size].min() / ours:>12.2f}"
            print(f"{line}{taken[LIMIT].min() / ours:>10.0%}")
    flops = 2 * 3 * NUM_LAYERS * BATCH_SIZE * (NUM_FIELDS * EMBEDDING_DIM) ** 2
    fastest = min(taken[LIMIT].min() for taken in seconds.values())
    print(
        f"\n{LIMIT}: the {3 * NUM_LAYERS} matrix products of the deep tower, forward "
        f"and back; {flops / fastest / 1e9:,.0f} GFLOP/s at best\n"
    )


def _print(what, figure):
    print(f"{what:<46}{figure:>12}")
