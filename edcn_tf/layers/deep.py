"""One layer of the deep tower."""

from typing import Any

import keras
from keras import ops

from edcn_tf.checks import check_least
from edcn_tf.layers.batch_norm import EPSILON, MOMENTUM, Gamma, check_batch_norm
from edcn_tf.layers.batch_norm import batch_norm as make_batch_norm
from edcn_tf.layers.history.dice import Dice

ACTIVATIONS = ("relu", "dice")


@keras.saving.register_keras_serializable(package="edcn_tf")
class Deep(keras.layers.Layer):
    """One implicit interaction: a fully connected layer with its regularization.

        h_{l+1} = dropout(ReLU(BN(W h_l + b)))
        h_{l+1} = BN(W dropout(ReLU(h_l)) + b)               with `activation_first`

    where BN is there only with `batch_norm`, and `Dice` may stand for ReLU.

    Args:
        units: Width of the output; that of the input if `None`, which bridges need.
        activation: `"relu"`, or `"dice"` (DIN's).
        activation_first: Apply ReLU and dropout before the matrix, as the authors'
            MindSpore code does, rather than after it as in the paper.
        batch_norm: Whether to normalize after the matrix, as the paper's experiments.
        batch_norm_momentum, batch_norm_epsilon, batch_norm_gamma: That BatchNorm's
            (`edcn_tf.layers.batch_norm`).
        dropout: Share of what ReLU gives that training sets to 0.
        kernel_initializer: Keras initializer of W.

    Call arguments:
        inputs: `[B, d]`.
        input_weights: `[d]`, positive numbers that the inputs are multiplied by first,
            or `None`.

    Output shape:
        `[B, units]`.

    Example:
        >>> Deep(dropout=0.1)(np.ones((2, 8))).shape
        TensorShape([2, 8])

    Reference:
        Chen et al. 2021 (EDCN), section 3.
    """

    def __init__(
        self,
        units: int | None = None,
        *,
        activation: str = "relu",
        activation_first: bool = False,
        batch_norm: bool = False,
        batch_norm_momentum: float = MOMENTUM,
        batch_norm_epsilon: float = EPSILON,
        batch_norm_gamma: Gamma = "ones",
        dropout: float = 0.0,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if units is not None:
            check_least("units", units, 1)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1). Received: {dropout}")
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"`activation` must be one of {list(ACTIVATIONS)}. "
                f"Received: {activation!r}"
            )
        check_batch_norm(batch_norm_momentum, batch_norm_epsilon, batch_norm_gamma)
        self.units = units
        self.activation = activation
        self.activation_first = activation_first
        self.batch_norm = batch_norm
        self.batch_norm_momentum = batch_norm_momentum
        self.batch_norm_epsilon = batch_norm_epsilon
        self.batch_norm_gamma = batch_norm_gamma
        self.dropout = dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        units = self.units or input_shape[-1]
        self.dense = keras.layers.Dense(
            units,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name="dense",
        )
        self.dense.build(input_shape)
        if self.batch_norm:
            self.normalization = make_batch_norm(
                self.dtype_policy,
                self.batch_norm_momentum,
                self.batch_norm_epsilon,
                self.batch_norm_gamma,
            )
            self.normalization.build((None, units))
        if self.activation == "dice":
            self.dice = Dice(dtype=self.dtype_policy, name="dice")
            self.dice.build(input_shape if self.activation_first else (None, units))
        if self.dropout:
            self.dropout_layer = keras.layers.Dropout(
                self.dropout, dtype=self.dtype_policy, name="dropout"
            )
        self.built = True

    def call(self, inputs, input_weights=None, training=False):
        x = self._activated(inputs, training) if self.activation_first else inputs
        if input_weights is None:
            x = self.dense(x)
        else:
            # W (a * x) = (W diag(a)) x, which goes once over the matrix, not the batch.
            kernel = self.dense.kernel * input_weights[:, None]
            x = ops.add(ops.matmul(x, kernel), self.dense.bias)
        return self.after_dense(x, training=training)

    def after_dense(self, x, training=False):
        """What follows the matrix: BatchNorm, and ReLU and dropout unless first."""
        if self.batch_norm:
            x = self.normalization(x, training=training)
        return x if self.activation_first else self._activated(x, training)

    def _activated(self, x, training):
        if self.activation == "dice":
            x = self.dice(x, training=training)
        else:
            x = ops.relu(x)
        return self.dropout_layer(x, training=training) if self.dropout else x

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units or input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "activation_first": self.activation_first,
            "batch_norm": self.batch_norm,
            "batch_norm_momentum": self.batch_norm_momentum,
            "batch_norm_epsilon": self.batch_norm_epsilon,
            "batch_norm_gamma": self.batch_norm_gamma,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
