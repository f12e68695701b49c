"""What all gates share: fields in, the same fields out, weighed."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class Gate(keras.layers.Layer):
    """Multiplies the components of fields by weights that a subclass gives.

    A subclass makes its weights in `build_weights`, where `self.widths` are the
    fields' widths, and gives `weights_of`. One that does more than multiply, or takes
    `context`, has a `call` of its own.

    Args:
        field_widths: Width of each field, for inputs `[B, d]` of fields of unequal
            width side by side; `None` for inputs `[B, F, D]`.

    Input shape:
        `[B, F, D]`, or `[B, d]` with d the sum of `field_widths`.

    Output shape:
        The same.

    Raises:
        ValueError: For a width below 1, or inputs that are not of one of these shapes.
    """

    # Whether `call` takes `context`, `[B, k]`, that the weights are computed from.
    takes_context = False
    # Whether each row has weights of its own; `weights_of_fields` gives them if not.
    depends_on_input = True

    def __init__(
        self, *, field_widths: Sequence[int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if field_widths is not None:
            field_widths = list(field_widths)
            if not field_widths or min(field_widths) < 1:
                raise ValueError(
                    "`field_widths` must hold the width of each field, at least 1. "
                    f"Received: {field_widths}"
                )
        self.field_widths = field_widths

    def build(self, input_shape):
        self.widths = widths_of_fields(input_shape, self.field_widths)
        self.build_weights()
        self.built = True

    def build_weights(self):
        """Makes the layer's weights; `self.widths` has the width of each field."""
        raise NotImplementedError

    def weights_of(self, flat):
        """Weights of the components of `[B, d]`: `[d]` or `[B, d]`."""
        raise NotImplementedError

    def call(self, inputs):
        flat = self.flat(inputs)
        return self.shaped_as(inputs, flat * self.weights_of(flat))

    def flat(self, inputs):
        """The fields as `[B, d]`, whose product and gradient are one pass each."""
        return ops.reshape(inputs, (-1, sum(self.widths)))

    def shaped_as(self, inputs, flat):
        """`[B, d]` as fields again, of the shape that the inputs had."""
        return ops.reshape(flat, (-1, *inputs.shape[1:]))

    @property
    def has_equal_widths(self):
        return len(set(self.widths)) == 1

    def of_components(self, weights):
        """Weights of fields, `[..., F]`, as weights of their components, `[..., d]`."""
        if self.has_equal_widths:
            # Not by ops.repeat, which computes shapes while it runs.
            ones = np.ones(self.widths[0], "float32")
            repeated = weights[..., None] * ops.cast(ones, weights.dtype)
            shape = (sum(self.widths),)
            return ops.reshape(
                repeated, shape if len(weights.shape) == 1 else (-1, *shape)
            )
        # A product, since gathering [B, F] by component has a slow gradient.
        return ops.matmul(weights, ops.cast(self._of_field(), weights.dtype))

    def sums_of_fields(self, flat):
        """The sum of each field's components: `[B, d]` -> `[B, F]`."""
        if self.has_equal_widths:
            return ops.sum(ops.reshape(flat, (-1, len(self.widths), self.widths[0])), 2)
        return ops.matmul(flat, ops.cast(self._of_field().T, flat.dtype))

    def means_of_fields(self, flat):
        """The mean component of each field: `[B, d]` -> `[B, F]`."""
        widths = ops.convert_to_tensor(self.widths, flat.dtype)
        return self.sums_of_fields(flat) / widths

    def _of_field(self):
        """`[F, d]`: 1 where a component is of a field."""
        field = np.repeat(np.arange(len(self.widths)), self.widths)
        return (field == np.arange(len(self.widths))[:, None]).astype("float32")

    def compute_output_shape(self, input_shape, *_):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "field_widths": self.field_widths}


def widths_of_fields(shape, field_widths=None):
    """The width of each of the fields that a tensor holds, a list.

    Args:
        shape: `[B, F, D]`, or `[B, d]` with `field_widths`.
        field_widths: Width of each field, or `None` where all have the same.

    Raises:
        ValueError: If they do not fit.
    """
    shape = tuple(shape)
    fields = [shape[2]] * shape[1] if len(shape) == 3 else None
    if field_widths is None:
        if fields is None:
            raise ValueError(
                "Expected fields of shape [B, F, D]; fields of unequal width come as "
                f"[B, d], with `field_widths`. Received: {shape}"
            )
        return fields
    widths = list(field_widths)
    if fields != widths and shape[1:] != (sum(widths),):
        raise ValueError(
            f"Expected fields of widths {widths}: inputs of shape [B, {sum(widths)}]. "
            f"Received: {shape}"
        )
    return widths
