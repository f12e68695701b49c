"""What all layers over a history share."""

import keras


class HistoryLayer(keras.layers.Layer):
    """Turns a history and the candidate that it is judged for into one vector.

    A subclass gives `call(history, candidate, mask, training)` and may give
    `attention`.

    Call arguments:
        history: `[B, T, D]`, oldest first, unused positions after the newest.
        candidate: `[B, D]`.
        mask: `[B, T]` bool: which positions are used.

    Output shape:
        `[B, D]`.
    """

    def attention(self, history, candidate, mask):
        """How much each position counts, `[B, T]`, 0 where there is none; or `None`."""
        return None

    def compute_output_shape(self, history_shape, candidate_shape, mask_shape=None):
        return candidate_shape


def check_shapes(history_shape, candidate_shape):
    """Raises a `ValueError` unless they are `[B, T, D]` and `[B, D]`."""
    if len(history_shape) != 3 or len(candidate_shape) != 2:
        raise ValueError(
            "Expected a history [B, T, D] and a candidate [B, D]. "
            f"Received: {history_shape} and {candidate_shape}"
        )
    if history_shape[2] != candidate_shape[1]:
        raise ValueError(
            "The history's items and the candidate must have one width. "
            f"Received: {history_shape} and {candidate_shape}"
        )
