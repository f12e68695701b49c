"""What every contender trains on, and how it is asked to: NumPy alone.

A contender's program builds its model, then calls `take_turns` with a function that
trains on n batches. The measuring process gives the turns by standard input, so that
contenders in environments of their own alternate and only one computes at a time.
"""

import argparse
import json
import resource
import sys
import time

import numpy as np

NUM_FIELDS = 39
EMBEDDING_DIM = 16
NUM_LAYERS = 3
BATCH_SIZE = 2048
NUM_BATCHES = 24  # different ones, used again and again
LEARNING_RATE = 1e-3
STEPS = 8  # a turn's number of steps is a multiple of it
ZIPF_EXPONENT = 1.05


def arguments():
    """Size and ids of the workload, from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000, help="of the table")
    parser.add_argument("--ids", choices=("zipf", "uniform"), default="zipf")
    parser.add_argument("--fields", type=int, default=NUM_FIELDS)
    parser.add_argument("--width", type=int, default=EMBEDDING_DIM)
    parser.add_argument("--layers", type=int, default=NUM_LAYERS)
    parser.add_argument("--batch", type=int, default=BATCH_SIZE)
    parser.add_argument("--options", default="{}", help="JSON, of that contender")
    return parser.parse_args()


def batches(args, number=NUM_BATCHES):
    """Values of each field, `[number, batch, fields]` int32, and labels 0 or 1.

    A field has rows // fields values. Their frequencies fall as 1 / rank^1.05, which
    is about what the large fields of public click logs have, or are all the same.
    Ranks are spread over the table, as a vocabulary's order need not be by frequency.
    """
    random = np.random.default_rng(0)
    values = args.rows // args.fields
    shape = (number, args.batch, args.fields)
    if args.ids == "zipf":
        shares = np.arange(1, values + 1) ** -ZIPF_EXPONENT
        upto = np.cumsum(shares / shares.sum())
        ids = np.searchsorted(upto, random.random(shape))
        ids = random.permutation(values)[ids.clip(max=values - 1)]
    else:
        ids = random.integers(values, size=shape)
    labels = random.random(shape[:2]) < 0.25
    return ids.astype(np.int32), labels.astype(np.float32)


def take_turns(train):
    """Answers each line "n" with a line of JSON, once `train(n)` is done."""
    train(STEPS)  # traces, compiles, fills caches
    print("ready", flush=True)
    for line in sys.stdin:
        start, processor = time.perf_counter(), time.process_time()
        train(int(line))
        answer = {
            "seconds": time.perf_counter() - start,
            "processor_seconds": time.process_time() - processor,
            "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
        print(json.dumps(answer), flush=True)
