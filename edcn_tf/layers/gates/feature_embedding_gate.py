"""Weights of each field, computed from that field alone."""

from typing import Any

import keras
import numpy as np
from keras import ops

from edcn_tf.layers.gates.gate import Gate

ACTIVATIONS = ("sigmoid", "tanh", "linear")


@keras.saving.register_keras_serializable(package="edcn_tf")
class FeatureEmbeddingGate(Gate):
    """Weighs each field by what it is itself, by parameters of its own.

        g_f = sigma(w_f . e_f)                      w_f in R^D, one weight for a field
        g_f = sigma(W_f e_f)                        W_f in R^{D x D}, with `vector`
        y_f = g_f * e_f

    where D is the field's own width.

    Args:
        vector: Whether each component has a weight: the paper's "bit-wise" gate; its
            "vector-wise" one, a weight for a whole embedding vector, is the other.
        activation: sigma: `"sigmoid"`, whose weights start near 1/2, or twice that with
            `scale`; or `"tanh"` or `"linear"`, whose weights start as small as the
            embeddings, around 0.
        scale: Whether to double the sigmoid, so that weights start near 1, as in
            `SqueezeExcitationGate`. The paper has no such factor.
        kernel_initializer: Keras initializer of each field's w_f, `[D, 1]`, or W_f.
        field_widths: Widths of fields of unequal width (`Gate`).

    Input shape:
        `[B, F, D]`, or `[B, d]` with `field_widths`.

    Output shape:
        The same.

    Example:
        >>> FeatureEmbeddingGate(vector=True)(np.ones((2, 3, 4))).shape
        TensorShape([2, 3, 4])

    Raises:
        ValueError: For an unknown `activation`.

    Reference:
        Huang et al. 2020 (GateNet), the feature embedding gate with parameters that
        fields do not share.
    """

    def __init__(
        self,
        vector: bool = False,
        *,
        activation: str = "sigmoid",
        scale: bool = True,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"`activation` must be one of {list(ACTIVATIONS)}. "
                f"Received: {activation!r}"
            )
        self.vector = vector
        self.activation = activation
        self.scale = scale
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build_weights(self):
        if not self.vector:
            shape = (sum(self.widths),)
        elif self.has_equal_widths:
            shape = (len(self.widths), self.widths[0], self.widths[0])
        else:
            # One variable for all matrices: optimizers are slow with many small ones.
            shape = (sum(width**2 for width in self.widths),)
        self.kernel = self.add_weight(
            name="kernel", shape=shape, initializer=self._initial
        )

    def _initial(self, shape, dtype=None):
        # Field by field: `shape` would tell of other numbers of inputs and outputs.
        kernels = [
            self.kernel_initializer.clone()((width, width if self.vector else 1), dtype)
            for width in self.widths
        ]
        flat = [ops.reshape(kernel, (-1,)) for kernel in kernels]
        return ops.reshape(ops.concatenate(flat), shape)

    def weights_of(self, flat):
        if self.vector:
            return self._activated(self._products(flat))  # [B, d]
        scores = self.sums_of_fields(ops.multiply(flat, self.kernel))  # [B, F]
        return self.of_components(self._activated(scores))  # [B, d]

    def _activated(self, scores):
        weights = keras.activations.get(self.activation)(scores)
        return 2 * weights if self.scale and self.activation == "sigmoid" else weights

    def _products(self, flat):
        """Each field times its matrix, `[B, d]`."""
        if self.has_equal_widths:
            fields = ops.reshape(flat, (-1, len(self.widths), self.widths[0]))
            return self.flat(ops.einsum("bfd,fde->bfe", fields, self.kernel))
        fields = ops.split(flat, np.cumsum(self.widths)[:-1], axis=1)
        kernels = ops.split(self.kernel, np.cumsum(np.square(self.widths))[:-1])
        return ops.concatenate(
            [
                ops.matmul(field, ops.reshape(kernel, (width, width)))
                for field, kernel, width in zip(fields, kernels, self.widths)
            ],
            axis=1,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vector": self.vector,
            "activation": self.activation,
            "scale": self.scale,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
