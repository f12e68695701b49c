"""The cross layer of DCN-V2."""

from typing import Any

import keras
from keras import ops

from edcn_tf.checks import check_least
from edcn_tf.layers.candidate_rows import matmul
from edcn_tf.layers.explicit.explicit_layer import ExplicitLayer, check_widths


@keras.saving.register_keras_serializable(package="edcn_tf")
class MatrixCross(ExplicitLayer):
    """One explicit interaction with the tower's first input, by a matrix.

        x_{l+1} = x_0 * (W x_l + b) + x_l                    W in R^{d x d}, b in R^d
        x_{l+1} = x_0 * (U (V^T x_l) + b) + x_l              U, V in R^{d x r}

    the second of them with `rank` r, at 2 d r rather than d^2 multiplications a row.

    Args:
        rank: r, or `None` for the full matrix. Saves something below d / 2.
        kernel_initializer: Keras initializer of W, or of U and V.
        bias_initializer: Keras initializer of b.

    Call arguments:
        x0: `[B, d]`, the input of the tower's first layer, not of this one.
        x: `[B, d]`, this layer's input.

    Output shape:
        `[B, d]`.

    Example:
        >>> MatrixCross(rank=2)(np.ones((2, 8)), np.ones((2, 8))).shape
        TensorShape([2, 8])

    Raises:
        ValueError: If `rank` is less than 1, or x0 and x are not `[B, d]` of the same
            width.

    Reference:
        Wang et al. 2021 (DCN-V2), equations 1 and 2.
    """

    takes_x0 = True
    keeps_fields = True

    def __init__(
        self,
        rank: int | None = None,
        *,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least("rank", rank, 1, or_none=True)
        self.rank = rank
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, x0_shape, x_shape):
        check_widths(x0_shape, x_shape)
        width = x_shape[1]
        if self.rank is None:
            self.kernel = self._kernel("kernel", width, width)  # W^T
        else:
            self.down_kernel = self._kernel("down_kernel", width, self.rank)  # V
            self.up_kernel = self._kernel("up_kernel", self.rank, width)  # U^T
        self.bias = self.add_weight(
            name="bias", shape=(width,), initializer=self.bias_initializer
        )
        self.built = True

    def _kernel(self, name, inputs, outputs):
        return self.add_weight(
            name=name,
            shape=(inputs, outputs),
            initializer=self.kernel_initializer.clone(),
        )

    def call(self, x0, x):
        if self.rank is None:
            product = matmul(x, self.kernel)  # [B, d]
        else:
            codes = matmul(x, self.down_kernel)  # [B, r]
            product = ops.matmul(codes, self.up_kernel)  # [B, d]
        return x0 * ops.add(product, self.bias) + x

    def compute_output_shape(self, x0_shape, x_shape):
        return x_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rank": self.rank,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
