"""DIN's activation function."""

import keras
from keras import ops

from edcn_tf.layers.batch_norm import batch_norm


@keras.saving.register_keras_serializable(package="edcn_tf")
class Dice(keras.layers.Layer):
    """A PReLU that turns at the mean of the data and not at 0.

        f(s) = p(s) s + (1 - p(s)) alpha s
        p(s) = sigmoid((s - E[s]) / sqrt(Var[s] + eps))

    with one alpha a channel. In training E and Var are those of the batch, of the
    positions that are used; at inference their moving averages.

    Args:
        epsilon: eps.

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

    def __init__(self, epsilon=1e-8, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape):
        self.normalization = batch_norm(
            "float32", center=False, scale=False, epsilon=self.epsilon
        )
        self.normalization.build(input_shape)
        self.alpha = self.add_weight(
            name="alpha", shape=(input_shape[-1],), initializer="zeros"
        )
        self.built = True

    def call(self, s, mask=None, training=False):
        centred = self.normalization(
            ops.cast(s, "float32"), training=training, mask=mask
        )
        p = ops.cast(ops.sigmoid(centred), s.dtype)
        return s * (p + (1 - p) * ops.cast(self.alpha, s.dtype))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
