"""The product layer of the Product-based Neural Network (PNN)."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from edcn_tf.layers.explicit.explicit_layer import ExplicitLayer, check_fields


@keras.saving.register_keras_serializable(package="edcn_tf")
class InnerProducts(ExplicitLayer):
    """The embeddings themselves and the inner products of their pairs.

        y = [z, p]
        z = [e_1, ..., e_F]
        p = [<e_i, e_j> for i <= j]          i < j without `self_products`

    It has no weights: the paper's, which follow, are those of the next layer.

    Args:
        self_products: Whether <e_i, e_i> are among the products, as in the paper's
            sum; most public implementations leave them out.

    Call arguments:
        x: `[B, F, D]`.

    Output shape:
        `[B, F * D + F * (F + 1) / 2]`, or with `F - 1` for `F + 1`.

    Example:
        >>> InnerProducts()(np.ones((2, 3, 4))).shape
        TensorShape([2, 18])

    Raises:
        ValueError: If x is not `[B, F, D]`.

    Reference:
        Qu et al. 2016 (PNN), section III.A and III.B (IPNN).
    """

    takes_fields = True
    is_single = True

    def __init__(self, self_products: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.self_products = self_products

    def build(self, x_shape):
        check_fields(x_shape)
        self.built = True

    def call(self, x):
        fields, width = x.shape[1:]
        rows, columns = np.triu_indices(fields, 0 if self.self_products else 1)
        gram = ops.matmul(x, ops.transpose(x, (0, 2, 1)))  # [B, F, F]
        gram = ops.reshape(gram, (-1, fields * fields))
        # ops.take would look for negative indices first.
        products = tf.gather(gram, rows * fields + columns, axis=1)
        return ops.concatenate([ops.reshape(x, (-1, fields * width)), products], axis=1)

    def compute_output_shape(self, x_shape):
        _, fields, width = x_shape
        pairs = fields * (fields + (1 if self.self_products else -1)) // 2
        return (x_shape[0], fields * width + pairs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "self_products": self.self_products}
