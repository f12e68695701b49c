"""DIN's activation function."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="edcn_tf")
class Dice(keras.layers.Layer):
    """A PReLU that turns at the mean of the data and not at 0.

        f(s) = p(s) s + (1 - p(s)) alpha s
        p(s) = sigmoid((s - E[s]) / sqrt(Var[s] + eps))

    with one alpha a channel. In training E and Var are those of the batch, of the
    positions that are used, on all replicas together; at inference their moving
    averages.

    Args:
        epsilon: eps.
        momentum: Share of the moving averages that a batch leaves as it was.

    Call arguments:
        s: `[..., d]`.
        mask: Which positions are used, bool of the shape of s without the last axis;
            all if `None`.

    Output shape:
        As s.

    Example:
        >>> Dice()(np.zeros((2, 3))).shape
        TensorShape([2, 3])

    Reference:
        Zhou et al. 2018 (DIN), section 5.2, whose eps is 1e-8; alpha starts at 0, as in
        the authors' code.
    """

    def __init__(
        self, epsilon: float = 1e-8, momentum: float = 0.99, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.momentum = momentum
        self.supports_masking = True

    def build(self, input_shape):
        shape = (input_shape[-1],)
        self.alpha = self.add_weight(name="alpha", shape=shape, initializer="zeros")
        self.moving_mean, self.moving_variance = (
            self.add_weight(
                name=f"moving_{name}",
                shape=shape,
                initializer=initializer,
                trainable=False,
                autocast=False,
                aggregation="mean",
            )
            for name, initializer in [("mean", "zeros"), ("variance", "ones")]
        )
        self.built = True

    def call(self, s, mask=None, training=False):
        # Statistics in float32 whatever the policy, as BatchNorm's.
        x = ops.cast(s, "float32")
        mean, variance = self.moving_mean.value, self.moving_variance.value
        if training:
            mean, variance = self._moments(x, mask)
            for kept, now in [
                (self.moving_mean, mean),
                (self.moving_variance, variance),
            ]:
                kept.assign(self.momentum * kept + (1 - self.momentum) * now)
        p = ops.sigmoid((x - mean) / ops.sqrt(variance + self.epsilon))
        p = ops.cast(p, s.dtype)
        return s * (p + (1 - p) * ops.cast(self.alpha, s.dtype))

    def _moments(self, x, mask):
        """Keras' BatchNorm with a mask would take each replica's own."""
        axes = list(range(len(x.shape) - 1))
        used = ops.ones_like(x[..., :1])
        if mask is not None:
            used = ops.cast(mask[..., None], x.dtype)
        number = _of_all_replicas(ops.sum(used, axes))
        number = ops.maximum(number, 1)
        mean = _of_all_replicas(ops.sum(used * x, axes)) / number
        squares = ops.square(x - mean) * used
        return mean, _of_all_replicas(ops.sum(squares, axes)) / number

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "momentum": self.momentum,
        }


def _of_all_replicas(sums):
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return sums
    return context.all_reduce("SUM", sums)
