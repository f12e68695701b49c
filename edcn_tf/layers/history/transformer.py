"""BST: self-attention over a history and the candidate."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from edcn_tf.checks import check_least
from edcn_tf.layers.history.history_layer import HistoryLayer, check_shapes


@keras.saving.register_keras_serializable(package="edcn_tf")
class HistoryTransformer(HistoryLayer):
    """What a transformer makes of the candidate at the end of a history.

        X = [e_1, ..., e_T, c] + P            P: embeddings of the distance from c
        for each block:
            S = LayerNorm(X + dropout(attention of all heads(X)))
            X = LayerNorm(S + dropout(W_2 LeakyReLU(W_1 S)))
        v = X at the candidate's place

    The last block computes that place alone: what it gives the others is not seen.

    Args:
        num_heads: Attention heads, of D / num_heads components each.
        num_blocks: Blocks.
        dropout: Share of what each half of a block adds that training sets to 0.

    Call arguments, output shape:
        As of `HistoryLayer`.

    Example:
        >>> layer = HistoryTransformer(num_heads=2)
        >>> layer(np.ones((2, 5, 4)), np.ones((2, 4)), np.ones((2, 5), bool)).shape
        TensorShape([2, 4])

    Raises:
        ValueError: For no head or block, a dropout outside of [0, 1), a width that the
            heads do not divide or leave one component each, or shapes that do not fit.

    Reference:
        Chen et al. 2019 (BST), section 2.2, equations 2 to 5. The paper hands on the
        outputs at all places; here it is the candidate's, which is as wide as a field.
        Buckets of the time since, in place of P, are a sequence along the history.
    """

    def __init__(
        self,
        num_heads: int = 2,
        num_blocks: int = 1,
        dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least("num_heads", num_heads, 1)
        check_least("num_blocks", num_blocks, 1)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1). Received: {dropout}")
        self.num_heads = num_heads
        self.num_blocks = num_blocks
        self.dropout = dropout

    def build(self, history_shape, candidate_shape, mask_shape=None):
        check_shapes(history_shape, candidate_shape)
        length, width = history_shape[1:]
        if width % self.num_heads:
            raise ValueError(
                f"{self.num_heads} heads cannot share a width of {width} equally: set "
                "their number to a divisor of it"
            )
        if width == self.num_heads:
            # Keras 3.15's ops.add takes a bias [heads, 1] for one of axis 1, if that is
            # as long.
            raise ValueError(
                f"{self.num_heads} heads leave one component to each: set half as many"
            )
        self.positions = self.add_weight(
            name="positions",
            shape=(length + 1, width),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )
        self.blocks = [
            TransformerBlock(
                self.num_heads,
                self.dropout,
                dtype=self.dtype_policy,
                name=f"block_{i}",
            )
            for i in range(self.num_blocks)
        ]
        for block in self.blocks:
            block.build((None, length + 1, width))
        self.built = True

    def call(self, history, candidate, mask, training=False):
        x, mask = self._positioned(history, candidate, mask)
        for block in self.blocks[:-1]:
            x = block(x, x, mask, training=training)
        x = self.blocks[-1](x[:, -1:], x, mask, training=training)
        return x[:, 0]

    def attention(self, history, candidate, mask):
        x, mask = self._positioned(history, candidate, mask)
        for block in self.blocks[:-1]:
            x = block(x, x, mask)
        scores = self.blocks[-1].scores(x[:, -1:], x, mask)  # [B, heads, 1, T + 1]
        return ops.mean(scores, axis=1)[:, 0, :-1]

    def _positioned(self, history, candidate, mask):
        """X and which of its places are used, the candidate's last."""
        # Whole numbers as float32: TensorFlow has no kernels of int32 for GPUs.
        numbers = ops.cast(mask, "float32")
        # The candidate is at 0, the newest at 1.
        distance = ops.sum(numbers, axis=1, keepdims=True) - ops.cumsum(numbers, 1) + 1
        distance = ops.cast(distance * numbers, "int64")
        positions = ops.cast(self.positions, history.dtype)
        history = history + tf.gather(positions, distance)
        candidate = (candidate + positions[0])[:, None]
        mask = ops.concatenate([mask, ops.ones_like(mask[:, :1])], axis=1)
        return ops.concatenate([history, candidate], axis=1), mask

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_blocks": self.num_blocks,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable(package="edcn_tf")
class TransformerBlock(keras.layers.Layer):
    """Attention and a network of each place, both added to what they get.

    Args:
        num_heads, dropout: As of `HistoryTransformer`.

    Call arguments:
        queries: `[B, Q, D]`: the places that are computed.
        places: `[B, T, D]`: those that they attend to.
        mask: `[B, T]` bool: which of these are used.

    Output shape:
        `[B, Q, D]`.
    """

    def __init__(self, num_heads: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout = dropout

    def build(self, queries_shape, places_shape=None, mask_shape=None):
        width, options = queries_shape[-1], {"dtype": self.dtype_policy}
        shape = (None, None, width)
        self.attention = keras.layers.MultiHeadAttention(
            self.num_heads, width // self.num_heads, name="attention", **options
        )
        self.attention.build(shape, shape)
        self.first = keras.layers.Dense(width, name="first", **options)
        self.second = keras.layers.Dense(width, name="second", **options)
        self.normalizations = [
            keras.layers.LayerNormalization(name=f"normalization_{i}", **options)
            for i in range(2)
        ]
        for layer in [self.first, self.second, *self.normalizations]:
            layer.build(shape)
        self.drop = keras.layers.Dropout(self.dropout, name="dropout", **options)
        self.built = True

    def call(self, queries, places, mask, training=False):
        attended = self.attention(queries, places, attention_mask=mask[:, None])
        s = queries + self.drop(attended, training=training)
        s = self.normalizations[0](s)
        hidden = ops.leaky_relu(self.first(s))
        s = s + self.drop(self.second(hidden), training=training)
        return self.normalizations[1](s)

    def scores(self, queries, places, mask):
        """How much each query attends to each place, `[B, heads, Q, T]`."""
        return self.attention(
            queries, places, attention_mask=mask[:, None], return_attention_scores=True
        )[1]

    def compute_output_shape(self, queries_shape, places_shape=None, mask_shape=None):
        return queries_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout,
        }
