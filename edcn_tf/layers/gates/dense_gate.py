"""A fully connected layer in a gate's place, to compare gates with."""

from typing import Any

import keras

from edcn_tf.layers.gates.gate import Gate


@keras.saving.register_keras_serializable(package="edcn_tf")
class DenseGate(Gate):
    """Mixes all components by one matrix, and gives them back as fields.

        y = W e + b                                 W in R^{d x d}, e and y in R^d

    No gate in the word's sense: what comes out of a field's place is made of all
    fields, so there are no weights of fields to look at.

    Args:
        kernel_initializer: Keras initializer of W.
        field_widths: Widths of fields of unequal width (`Gate`).

    Input shape:
        `[B, F, D]`, or `[B, d]` with `field_widths`.

    Output shape:
        The same.

    Example:
        >>> DenseGate()(np.ones((2, 3, 4))).shape
        TensorShape([2, 3, 4])

    Reference:
        Chen et al. 2021 (EDCN), figure 7, where "FC" stands in the gate's place and
        does worst. The paper does not print its formula; this is the plainest reading,
        without an activation.
    """

    def __init__(
        self,
        *,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build_weights(self):
        width = sum(self.widths)
        self.dense = keras.layers.Dense(
            width,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name="dense",
        )
        self.dense.build((None, width))

    def call(self, inputs):
        return self.shaped_as(inputs, self.dense(self.flat(inputs)))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
