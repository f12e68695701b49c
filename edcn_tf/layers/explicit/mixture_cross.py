"""DCN-V2's cross layer as a mixture of low-rank experts."""

from typing import Any

import keras
from keras import ops

from edcn_tf.checks import check_least
from edcn_tf.layers.explicit.explicit_layer import ExplicitLayer, check_widths


@keras.saving.register_keras_serializable(package="edcn_tf")
class MixtureCross(ExplicitLayer):
    """One explicit interaction with the tower's first input, by a mixture of experts.

        x_{l+1} = sum_i G_i(x_l) E_i(x_l) + x_l              i = 1..K
        E_i(x) = x_0 * (U_i tanh(C_i tanh(V_i^T x)) + b)     U_i, V_i in R^{d x r}
        G(x) = softmax(W_g x)                                C_i in R^{r x r}

    with W_g in R^{K x d} and b in R^d. The gates sum to 1, so that the sum is

        x_0 * (U_1 (G_1 c_1) + ... + U_K (G_K c_K) + b)      c_i = tanh(C_i tanh(...))

    whose first part is one product of all experts' codes side by side.

    Args:
        rank: r, or `None` for a quarter of d (with four experts, as many
            multiplications in U and V as two full matrices).
        num_experts: K.
        kernel_initializer: Keras initializer of U, C, V and W_g.
        bias_initializer: Keras initializer of b.

    Call arguments:
        x0: `[B, d]`, the input of the tower's first layer, not of this one.
        x: `[B, d]`, this layer's input.

    Output shape:
        `[B, d]`.

    Example:
        >>> MixtureCross(rank=2)(np.ones((2, 8)), np.ones((2, 8))).shape
        TensorShape([2, 8])

    Raises:
        ValueError: If `rank` or `num_experts` is less than 1, or x0 and x are not
            `[B, d]` of the same width.

    Reference:
        Wang et al. 2021 (DCN-V2), equations 3 to 5, whose gate may be any; this one is
        a softmax.
    """

    takes_x0 = True
    keeps_fields = True

    def __init__(
        self,
        rank: int | None = None,
        num_experts: int = 4,
        *,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least("rank", rank, 1, or_none=True)
        check_least("num_experts", num_experts, 1)
        self.rank = rank
        self.num_experts = num_experts
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, x0_shape, x_shape):
        check_widths(x0_shape, x_shape)
        width, experts = x_shape[1], self.num_experts
        rank = self.rank or max(1, width // 4)
        # V_1, ..., V_K side by side, and U_1^T, ..., U_K^T on each other.
        self.down_kernel = self._kernel("down_kernel", (width, experts * rank))
        self.up_kernel = self._kernel("up_kernel", (experts * rank, width))
        if experts > 1:  # the gate of a single one is 1
            self.gate_kernel = self._kernel("gate_kernel", (width, experts))  # W_g^T
        self.code_kernel = self.add_weight(  # C_1^T, ..., C_K^T
            name="code_kernel",
            shape=(experts, rank, rank),
            initializer=self._draw_each,
        )
        self.bias = self.add_weight(
            name="bias", shape=(width,), initializer=self.bias_initializer
        )
        self.built = True

    def _kernel(self, name, shape):
        return self.add_weight(
            name=name, shape=shape, initializer=self.kernel_initializer.clone()
        )

    def _draw_each(self, shape, dtype=None):
        # As one draw their scale would be that of a convolution's kernel.
        return ops.stack(
            [self.kernel_initializer.clone()(shape[1:], dtype) for _ in range(shape[0])]
        )

    def call(self, x0, x):
        experts, rank, _ = self.code_kernel.shape
        codes = ops.tanh(ops.matmul(x, self.down_kernel))  # [B, K * r]
        codes = ops.reshape(codes, (-1, experts, rank))
        codes = ops.tanh(ops.einsum("bkr,krs->bks", codes, self.code_kernel))
        if experts > 1:
            gates = ops.softmax(ops.matmul(x, self.gate_kernel))  # [B, K]
            codes *= ops.expand_dims(gates, 2)
        codes = ops.reshape(codes, (-1, experts * rank))
        return x0 * ops.add(ops.matmul(codes, self.up_kernel), self.bias) + x

    def compute_output_shape(self, x0_shape, x_shape):
        return x_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rank": self.rank,
            "num_experts": self.num_experts,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
