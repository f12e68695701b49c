"""The layer that ends a model: from what its towers found to the log odds."""

from typing import Any

import keras

from edcn_tf.layers.candidate_rows import matmul


@keras.saving.register_keras_serializable(package="edcn_tf")
class LogOdds(keras.layers.Layer):
    """A linear unit on several tensors side by side, in float32.

        z = w . [part_1, part_2, ...] + sum of the logits + b

    as one product for each part, without the copy that puts them side by side, and in
    float32 whatever the `dtype` given: half precision cannot tell small probabilities
    apart.

    Args:
        kernel_initializer: Keras initializer of w.

    Call arguments:
        parts: Tensors `[B, k_i]`; may be none.
        logits: Tensors `[B, 1]` that are added as they are; may be none.

    Output shape:
        `[B, 1]` float32.

    Example:
        >>> LogOdds()([np.ones((2, 8)), np.ones((2, 4))]).shape
        TensorShape([2, 1])

    Reference:
        Chen et al. 2021 (EDCN), equation 8, before the sigmoid.
    """

    def __init__(
        self,
        *,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})  # inputs are cast to it
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, parts_shape, logits_shape=None):
        width = sum(shape[-1] for shape in parts_shape)
        if width:
            self.kernel = self.add_weight(
                name="kernel", shape=(width, 1), initializer=self.kernel_initializer
            )
        self.bias = self.add_weight(name="bias", shape=(1,), initializer="zeros")
        self.built = True

    def call(self, parts, logits=()):
        total, start = self.bias, 0
        for part in parts:
            end = start + part.shape[-1]
            total += matmul(part, self.kernel[start:end])  # [B, 1]
            start = end
        for logit in logits:
            total += logit
        return total

    def compute_output_shape(self, parts_shape, logits_shape=None):
        return (None, 1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
