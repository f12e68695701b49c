"""The cross layer of the Deep & Cross Network."""

from typing import Any

import keras

from edcn_tf.layers.candidate_rows import add, matmul
from edcn_tf.layers.explicit.explicit_layer import ExplicitLayer, check_widths


@keras.saving.register_keras_serializable(package="edcn_tf")
class Cross(ExplicitLayer):
    """One explicit interaction with the tower's first input.

        x_{l+1} = x_0 * (x_l . w) + b + x_l                  w, b in R^d
        x_{l+1} = x_0 * (x_l . w) + b                        without `residual`

    Args:
        residual: Whether to add x_l, as the papers do; FuxiCTR's EDCN does not.
        kernel_initializer: Keras initializer of w.
        bias_initializer: Keras initializer of b.

    Call arguments:
        x0: `[B, d]`, the input of the tower's first cross layer, not of this one: in
            EDCN the gated embedding of layer 0.
        x: `[B, d]`, this layer's input.

    Output shape:
        `[B, d]`.

    Example:
        >>> Cross()(np.ones((2, 8)), np.ones((2, 8))).shape
        TensorShape([2, 8])

    Raises:
        ValueError: If x0 and x are not `[B, d]` of the same width.

    Reference:
        Wang et al. 2017 (DCN), equation 3; Chen et al. 2021 (EDCN), section 3.
    """

    takes_x0 = True
    keeps_fields = True

    def __init__(
        self,
        *,
        residual: bool = True,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.residual = residual
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, x0_shape, x_shape):
        check_widths(x0_shape, x_shape)
        width = x_shape[-1]
        self.kernel = self.add_weight(
            name="kernel", shape=(width, 1), initializer=self.kernel_initializer
        )
        self.bias = self.add_weight(
            name="bias", shape=(width,), initializer=self.bias_initializer
        )
        self.built = True

    def call(self, x0, x):
        product = x0 * matmul(x, self.kernel)  # [B, d]
        # ops.add knows a bias, whose gradient is twice as fast as that of a broadcast.
        if self.residual:
            return product + add(x, self.bias)
        return add(product, self.bias)

    def compute_output_shape(self, x0_shape, x_shape):
        return x_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "residual": self.residual,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
