"""DIN: what of a history has to do with the candidate."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from edcn_tf.layers.history.dice import Dice
from edcn_tf.layers.history.history_layer import HistoryLayer, check_shapes

ACTIVATIONS = ("dice", "sigmoid", "relu")


@keras.saving.register_keras_serializable(package="edcn_tf")
class LocalActivation(HistoryLayer):
    """Sums the items of a history, each by how far the candidate activates it.

        v = sum over positions t of a(e_t, c) e_t
        a(e, c) = w . z + b,  z a network of `units` over [e, c, e - c, e * c]

    The weights a are not a softmax: their sum tells how strong the interest is.

    Args:
        units: Widths of the network's hidden layers.
        activation: `"dice"`, `"sigmoid"` or `"relu"`.

    Call arguments, output shape:
        As of `HistoryLayer`.

    Example:
        >>> layer = LocalActivation(units=(8,))
        >>> layer(np.ones((2, 5, 4)), np.ones((2, 4)), np.ones((2, 5), bool)).shape
        TensorShape([2, 4])

    Raises:
        ValueError: For no unit, another activation, or shapes that do not fit.

    Reference:
        Zhou et al. 2018 (DIN), equation 3 and figure 2. The four parts side by side and
        the widths 80 and 40 are those of the authors' code; the paper's figure has the
        outer product in place of difference and product. Mini-batch aware
        regularization (equations 4 to 6) is `l2` of `FieldEmbedding`.
    """

    def __init__(
        self, units: Sequence[int] = (80, 40), activation: str = "dice", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not units or min(units) < 1:
            raise ValueError(f"`units` must be numbers above 0. Received: {units}")
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"`activation` must be one of {list(ACTIVATIONS)}. "
                f"Received: {activation!r}"
            )
        self.units = tuple(units)
        self.activation = activation

    def build(self, history_shape, candidate_shape, mask_shape=None):
        check_shapes(history_shape, candidate_shape)
        width, self.hidden, self.activations = 4 * history_shape[2], [], []
        for i, units in enumerate(self.units):
            dense = self._dense(units, width, f"hidden_{i}")
            self.hidden.append(dense)
            if self.activation == "dice":
                dice = Dice(dtype=self.dtype_policy, name=f"dice_{i}")
                dice.build((None, None, units))
                self.activations.append(dice)
            width = units
        self.output_layer = self._dense(1, width, "activation")
        self.built = True

    def _dense(self, units, width, name):
        dense = keras.layers.Dense(units, dtype=self.dtype_policy, name=name)
        dense.build((None, width))
        return dense

    def call(self, history, candidate, mask, training=False):
        weights = self._weights(history, candidate, mask, training)
        return ops.einsum("bt,btd->bd", weights, history)

    def attention(self, history, candidate, mask):
        return self._weights(history, candidate, mask, False)

    def _weights(self, history, candidate, mask, training):
        candidate = ops.broadcast_to(candidate[:, None], ops.shape(history))
        parts = [history, candidate, history - candidate, history * candidate]
        z = ops.concatenate(parts, axis=-1)
        for i, dense in enumerate(self.hidden):
            z = dense(z)
            if self.activation == "dice":
                z = self.activations[i](z, mask=mask, training=training)
            else:
                z = getattr(ops, self.activation)(z)
        weights = self.output_layer(z)[:, :, 0]
        return weights * ops.cast(mask, weights.dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": list(self.units),
            "activation": self.activation,
        }
