"""One layer of xDeepFM's compressed interaction network (CIN)."""

from typing import Any

import keras
from keras import ops

from edcn_tf.checks import check_least
from edcn_tf.layers.explicit.explicit_layer import ExplicitLayer, check_fields


@keras.saving.register_keras_serializable(package="edcn_tf")
class CompressedInteraction(ExplicitLayer):
    """Weighted sums of the products of feature maps and fields, in each component.

        X^k_h = sum_{i,j} W^{k,h}_{ij} (X^{k-1}_i * X^0_j)   i = 1..H, j = 1..F

    for h = 1..H_k, where W^{k,h} in R^{H x F}. No activation and no bias, as in the
    paper. What the model reads out are the sums over D of every layer's maps.

    Args:
        feature_maps: H_k, the maps that this layer makes; `None` for F.
        kernel_initializer: Keras initializer of all W^{k,h} as one matrix, from the
            H * F products to the H_k maps.

    Call arguments:
        x0: `[B, F, D]`, the input of the tower's first layer, not of this one.
        x: `[B, H, D]`, this layer's input: x0 or the maps of the layer below.

    Output shape:
        `[B, feature_maps, D]`.

    Example:
        >>> CompressedInteraction(5)(np.ones((2, 3, 4)), np.ones((2, 3, 4))).shape
        TensorShape([2, 5, 4])

    Raises:
        ValueError: If `feature_maps` is less than 1, or x0 and x are not `[B, F, D]`
            and `[B, H, D]` with the same D.

    Reference:
        Lian et al. 2018 (xDeepFM), equations 6 and 8.
    """

    takes_x0 = True
    takes_fields = True

    def __init__(
        self,
        feature_maps: int | None = None,
        *,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least("feature_maps", feature_maps, 1, or_none=True)
        self.feature_maps = feature_maps
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, x0_shape, x_shape):
        check_fields(x0_shape)
        check_fields(x_shape)
        if x0_shape[2] != x_shape[2]:
            raise ValueError(
                "x0 and x must have the same embedding width D. "
                f"Received: {x0_shape} and {x_shape}"
            )
        # W^h_ij stands at [i * F + j, h].
        self.kernel = self.add_weight(
            name="kernel",
            shape=(x_shape[1] * x0_shape[1], self.feature_maps or x0_shape[1]),
            initializer=self.kernel_initializer,
        )
        self.built = True

    def call(self, x0, x):
        # With the components before the maps, all of a layer is one large product, and
        # nothing is larger than the B * D * H * F products themselves.
        x0 = ops.expand_dims(ops.transpose(x0, (0, 2, 1)), 2)  # [B, D, 1, F]
        x = ops.expand_dims(ops.transpose(x, (0, 2, 1)), 3)  # [B, D, H, 1]
        products = ops.reshape(x * x0, (-1, self.kernel.shape[0]))  # [B * D, H * F]
        maps = ops.matmul(products, self.kernel)  # [B * D, H_k]
        maps = ops.reshape(maps, (-1, x.shape[1], self.kernel.shape[1]))
        return ops.transpose(maps, (0, 2, 1))  # [B, H_k, D]

    @staticmethod
    def read_out(outputs):
        return ops.concatenate([ops.sum(maps, axis=2) for maps in outputs], axis=1)

    def compute_output_shape(self, x0_shape, x_shape):
        return (x_shape[0], self.feature_maps or x0_shape[1], x_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "feature_maps": self.feature_maps,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
