"""From ids to the probability that is served: each request alone, or some together."""

import uuid

import tensorflow as tf

# Scores at most so many batches at once; what arrives meanwhile makes up the next one.
BATCH_THREADS = 4
# That wait, and how many batches at least; a request for which there is no room, its
# own rows among them, is refused as UNAVAILABLE.
MOST_WAITING_ROWS, MOST_WAITING = 1_000_000, 1000
LARGEST_REQUEST = 2**31 - 1  # rows; one of more than a batch is scored in several
# Numbers of rows that are run and warmed up: each is another shape to plan for.
BATCH_SIZES = (1, 8, 32, 128, 512)


class Scoring:
    """The probability that is served, of ids.

    Args:
        model: Ids to probability.
        calibration: The `Calibration` that makes of it the one that is served.
        max_batch_size: Rows that `together` scores as one, at most; None if each
            request is scored alone.
    """

    def __init__(self, model, calibration, max_batch_size=None):
        self.model, self.calibration = model, calibration
        self.max_batch_size = max_batch_size

    def __call__(self, ids):
        """`[B, S]` -> `[B, 1]`, alone."""
        return self.calibration(self.model(ids, training=False))

    def together(self, ids):
        """`[B, S]` -> `[B, 1]`, as one batch with the requests that wait beside it.

        Nobody waits for others to come: a batch starts as soon as a thread is free,
        with all rows that have arrived. TensorFlow runs it until the deadline of its
        last request: where that has passed, the others fail with INTERNAL.
        """
        if self.max_batch_size is None:
            return self(ids)
        batched = tf.nondifferentiable_batch_function(
            num_batch_threads=BATCH_THREADS,
            # With splitting, the limit of a request, not of a batch.
            max_batch_size=LARGEST_REQUEST,
            batch_timeout_micros=0,
            allowed_batch_sizes=batch_sizes(self.max_batch_size),
            max_enqueued_batches=max(
                MOST_WAITING, MOST_WAITING_ROWS // self.max_batch_size
            ),
            autograph=False,
        )(self)
        # Where two have scopes of one name, as of two signatures, or of two versions in
        # a process, TensorFlow puts their rows into one queue, and one scores those of
        # the other. So each has a name that there is once.
        with tf.name_scope(f"batch_{uuid.uuid4().hex}"):
            scored = batched(ids)
        return tf.reshape(scored, [-1, 1])  # without rows it is of no shape


def batch_sizes(largest=BATCH_SIZES[-1]):
    """Numbers of rows that batches of so many at most are filled up to, rising."""
    return [*(size for size in BATCH_SIZES if size < largest), largest]
