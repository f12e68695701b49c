"""DIEN: interests that come out of a history, and how they go on to the candidate."""

from typing import Any

import keras
from keras import ops

from edcn_tf.checks import check_least
from edcn_tf.layers.history.history_layer import HistoryLayer, check_shapes
from edcn_tf.layers.softmax import softmax


@keras.saving.register_keras_serializable(package="edcn_tf")
class InterestEvolution(HistoryLayer):
    """A GRU finds interests, and a second one follows those that lead to the candidate.

        h_1..h_T = GRU(e_1..e_T)                           interests
        a_t = softmax over t of h_t W c                    attention to the candidate
        v = the last state of AUGRU((h_1, a_1)..(h_T, a_T))

    In training each interest is also asked for the item that comes next: the loss gets

        - auxiliary_weight * mean over t of
          log sigmoid(h_t . e_{t+1}) + log(1 - sigmoid(h_t . n_{t+1}))

    where n is another row's item of the same batch and position, so that negatives cost
    no look-up; a row for which there is none has no such term.

    Args:
        auxiliary_weight: Strength of that loss; 0 for none.

    Call arguments, output shape:
        As of `HistoryLayer`.

    Example:
        >>> layer = InterestEvolution()
        >>> layer(np.ones((2, 5, 4)), np.ones((2, 4)), np.ones((2, 5), bool)).shape
        TensorShape([2, 4])

    Raises:
        ValueError: For a negative weight or shapes that do not fit.

    Reference:
        Zhou et al. 2019 (DIEN), equations 2 to 8 of the interest extractor, attention
        and AUGRU of section "Interest Evolving Layer". The paper draws negatives from
        all items; here they are those of the batch.
    """

    def __init__(self, auxiliary_weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_least("auxiliary_weight", auxiliary_weight, 0)
        self.auxiliary_weight = auxiliary_weight

    def build(self, history_shape, candidate_shape, mask_shape=None):
        check_shapes(history_shape, candidate_shape)
        width = history_shape[2]
        self.extractor = keras.layers.GRU(
            width, return_sequences=True, dtype=self.dtype_policy, name="extractor"
        )
        self.extractor.build(history_shape)
        self.attention_kernel = self.add_weight(
            name="attention_kernel", shape=(width, width), initializer="glorot_uniform"
        )
        self.evolution = keras.layers.RNN(
            AttentionalGRUCell(width, dtype=self.dtype_policy, name="cell"),
            dtype=self.dtype_policy,
            name="evolution",
        )
        self.evolution.build((*history_shape[:2], width + 1))
        self.built = True

    def call(self, history, candidate, mask, training=False):
        interests = self.extractor(history, mask=mask)  # [B, T, D]
        if training and self.auxiliary_weight and history.shape[1] > 1:
            loss = self._auxiliary_loss(interests, history, mask)
            self.add_loss(self.auxiliary_weight * loss)
        weights = self._weights(interests, candidate, mask)
        inputs = ops.concatenate([interests, weights[:, :, None]], axis=2)
        return self.evolution(inputs, mask=mask)

    def attention(self, history, candidate, mask):
        return self._weights(self.extractor(history, mask=mask), candidate, mask)

    def _weights(self, interests, candidate, mask):
        scores = ops.einsum("btd,bd->bt", interests, candidate @ self._kernel())
        scores = ops.where(mask, ops.cast(scores, "float32"), -1e9)
        weights = softmax(scores) * ops.cast(mask, "float32")
        return ops.cast(weights, interests.dtype)

    def _kernel(self):
        return ops.transpose(ops.cast(self.attention_kernel, self.compute_dtype))

    def _auxiliary_loss(self, interests, history, mask):
        now, following = interests[:, :-1], history[:, 1:]
        clicked = ops.sum(now * following, axis=-1)
        other = ops.sum(now * ops.roll(following, 1, axis=0), axis=-1)
        used = ops.cast(mask[:, 1:], "float32")
        negative = used * ops.roll(used, 1, axis=0)
        clicked, other = (ops.cast(each, "float32") for each in (clicked, other))
        losses = used * ops.softplus(-clicked) + negative * ops.softplus(other)
        return ops.sum(losses) / ops.maximum(ops.sum(used), 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "auxiliary_weight": self.auxiliary_weight}


@keras.saving.register_keras_serializable(package="edcn_tf")
class AttentionalGRUCell(keras.layers.Layer):
    """AUGRU: a GRU whose update gate is scaled by attention.

        u = a * sigmoid(W_u i + U_u h + b_u)
        r = sigmoid(W_r i + U_r h + b_r)
        h~ = tanh(W_h i + r * (U_h h) + b_h)
        h' = (1 - u) * h + u * h~

    Args:
        units: Width of the state.

    Call arguments:
        inputs: `[B, d + 1]`: i and, last, the attention a.
        states: A list of h, `[B, units]`.

    Reference:
        Zhou et al. 2019 (DIEN), equations 2 to 5 and the attentional update gate.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape):
        shapes = {
            "kernel": (input_shape[-1] - 1, 3 * self.units),
            "recurrent_kernel": (self.units, 3 * self.units),
        }
        self.kernel, self.recurrent_kernel = (
            self.add_weight(name=name, shape=shape, initializer=initializer)
            for (name, shape), initializer in zip(
                shapes.items(), ("glorot_uniform", "orthogonal")
            )
        )
        self.bias = self.add_weight(
            name="bias", shape=(3 * self.units,), initializer="zeros"
        )
        self.built = True

    def call(self, inputs, states, training=False):
        [h] = states
        attention = inputs[:, -1:]
        of_input = ops.matmul(inputs[:, :-1], self.kernel) + self.bias
        of_state = ops.matmul(h, self.recurrent_kernel)
        u_input, r_input, h_input = ops.split(of_input, 3, axis=1)
        u_state, r_state, h_state = ops.split(of_state, 3, axis=1)
        u = attention * ops.sigmoid(u_input + u_state)
        r = ops.sigmoid(r_input + r_state)
        new = (1 - u) * h + u * ops.tanh(h_input + r * h_state)
        return new, [new]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
