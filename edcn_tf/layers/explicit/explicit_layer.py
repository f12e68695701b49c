"""What a model has to know of a layer of its explicit tower."""

import keras
from keras import ops


class ExplicitLayer(keras.layers.Layer):
    """One layer of explicit interactions; L of them on each other are a tower.

    A subclass whose attributes differ says so. `call(x0, x)` takes the tower's first
    input and the layer's own, `call(x)` only the latter without `takes_x0`.

    Where a layer's arguments decide an attribute, it is right once the layer is built.
    """

    # Whether `call` takes the tower's first input, x0, before the layer's own.
    takes_x0 = False
    # Whether inputs are `[B, F, D]` rather than flat, `[B, d]`.
    takes_fields = False
    # Whether the output is the input's fields again, so that a gate can follow.
    keeps_fields = False
    # Whether a tower can have one such layer only.
    is_single = False
    # Whether what is read out is a logit itself, not features that get weights.
    gives_logit = False

    @staticmethod
    def read_out(outputs):
        """What the model's output layer sees of a tower: `[B, k]`.

        Args:
            outputs: The output of each of the tower's layers.
        """
        last = outputs[-1]
        if len(last.shape) == 2:
            return last
        return ops.reshape(last, (-1, last.shape[1] * last.shape[2]))


def check_widths(x0_shape, x_shape):
    """Raises a ValueError unless both shapes are `[B, d]` with the same d."""
    if len(x0_shape) != 2 or len(x_shape) != 2 or x0_shape[1] != x_shape[1]:
        raise ValueError(
            "x0 and x must be [B, d] and have the same width. "
            f"Received: {x0_shape} and {x_shape}"
        )


def check_fields(shape):
    """Raises a ValueError unless the shape is `[B, F, D]` with F and D known."""
    if len(shape) != 3 or None in shape[1:]:
        raise ValueError(
            f"Expected fields of shape [B, F, D], F and D known. Received: {shape}"
        )
