"""The interacting layer of AutoInt: self-attention among fields."""

from typing import Any

import keras
from keras import ops

from edcn_tf.checks import check_least
from edcn_tf.layers.explicit.explicit_layer import ExplicitLayer, check_fields
from edcn_tf.layers.softmax import softmax


@keras.saving.register_keras_serializable(package="edcn_tf")
class FieldAttention(ExplicitLayer):
    """Every field becomes a combination of those that it attends to.

        alpha^h_{m,k} = softmax_k(<W^h_q e_m, W^h_k e_k>)    W^h in R^{d' x D}
        y^h_m = sum_k alpha^h_{m,k} W^h_v e_k                h = 1..N
        y_m = ReLU([y^1_m, ..., y^N_m] + W_res e_m)          W_res in R^{N d' x D}

    Scores are not divided by the square root of d', as in the paper.

    `keeps_fields` is a built layer's own: whether N d' = D, so that the output has the
    input's shape.

    Args:
        num_heads: N.
        head_width: d'; `None` for D / N, which keeps the fields' width.
        residual: Whether to add W_res e_m.
        kernel_initializer: Keras initializer of W_q, W_k, W_v (each of all heads) and
            W_res.

    Call arguments:
        x: `[B, F, D]`.

    Output shape:
        `[B, F, num_heads * head_width]`.

    Example:
        >>> FieldAttention(num_heads=2)(np.ones((2, 3, 4))).shape
        TensorShape([2, 3, 4])

    Raises:
        ValueError: If `num_heads` or `head_width` is less than 1, x is not
            `[B, F, D]`, or `head_width` is needed because D does not divide.

    Reference:
        Song et al. 2019 (AutoInt), equations 5 to 8.
    """

    takes_fields = True

    def __init__(
        self,
        num_heads: int = 2,
        head_width: int | None = None,
        *,
        residual: bool = True,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least("num_heads", num_heads, 1)
        check_least("head_width", head_width, 1, or_none=True)
        self.num_heads = num_heads
        self.head_width = head_width
        self.residual = residual
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, x_shape):
        check_fields(x_shape)
        width = self._output_width(x_shape)
        self.keeps_fields = width == x_shape[2]
        self.query_kernel = self._kernel("query_kernel", x_shape[2], width)
        self.key_kernel = self._kernel("key_kernel", x_shape[2], width)
        self.value_kernel = self._kernel("value_kernel", x_shape[2], width)
        if self.residual:
            self.residual_kernel = self._kernel("residual_kernel", x_shape[2], width)
        self.built = True

    def _kernel(self, name, inputs, outputs):
        # [W^1, ..., W^N]^T, the heads side by side.
        return self.add_weight(
            name=name,
            shape=(inputs, outputs),
            initializer=self.kernel_initializer.clone(),
        )

    def _output_width(self, x_shape):
        if self.head_width is not None:
            return self.num_heads * self.head_width
        if x_shape[2] % self.num_heads:
            raise ValueError(
                f"{self.num_heads} heads cannot share a width of {x_shape[2]} equally; "
                "set `head_width`, or `num_heads` to a divisor of it. "
                f"Received: {x_shape}"
            )
        return x_shape[2]

    def call(self, x):
        fields, width = x.shape[1], self.query_kernel.shape[1]
        flat = ops.reshape(x, (-1, x.shape[2]))  # [B * F, D]
        heads = (-1, fields, self.num_heads, width // self.num_heads)  # [B, F, N, d']
        query = ops.reshape(ops.matmul(flat, self.query_kernel), heads)
        key = ops.reshape(ops.matmul(flat, self.key_kernel), heads)
        value = ops.reshape(ops.matmul(flat, self.value_kernel), heads)
        scores = ops.einsum("bmnd,bknd->bnmk", query, key)  # [B, N, F, F]
        outputs = ops.einsum("bnmk,bknd->bmnd", softmax(scores), value)
        outputs = ops.reshape(outputs, (-1, width))
        if self.residual:
            outputs += ops.matmul(flat, self.residual_kernel)
        return ops.reshape(ops.relu(outputs), (-1, fields, width))

    def compute_output_shape(self, x_shape):
        return (*x_shape[:2], self._output_width(x_shape))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_width": self.head_width,
            "residual": self.residual,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
