"""BatchNorm as every layer here has it."""

from typing import Any, Literal

import keras
import tensorflow as tf

# Keras' own. PyTorch's are 0.9 (which it calls a momentum of 0.1) and 1e-5.
MOMENTUM = 0.99
EPSILON = 1e-3
Gamma = Literal["ones", "uniform"]
GAMMAS: tuple[Gamma, ...] = ("ones", "uniform")


def check_batch_norm(momentum: float, epsilon: float, gamma: Gamma) -> None:
    """Raises a `ValueError` for what a BatchNorm cannot be made of."""
    if not 0 <= momentum < 1:
        raise ValueError(
            f"`batch_norm_momentum` must be in [0, 1). Received: {momentum}"
        )
    if epsilon <= 0:
        raise ValueError(f"`batch_norm_epsilon` must be > 0. Received: {epsilon}")
    if gamma not in GAMMAS:
        raise ValueError(
            f"`batch_norm_gamma` must be one of {list(GAMMAS)}. Received: {gamma!r}"
        )


def batch_norm(
    dtype: Any,
    momentum: float = MOMENTUM,
    epsilon: float = EPSILON,
    gamma: Gamma = "ones",
    name: str = "normalization",
) -> keras.layers.BatchNormalization:
    """A BatchNorm over the whole batch, also where replicas share it.

        y = gamma (x - E[x]) / sqrt(Var[x] + epsilon) + beta
        moving = momentum * moving + (1 - momentum) * that of the batch

    In training E and Var are those of the batch, at inference their moving averages.
    gamma starts as 1, or uniform in [0, 1).
    """
    return keras.layers.BatchNormalization(
        momentum=momentum,
        epsilon=epsilon,
        gamma_initializer="ones"
        if gamma == "ones"
        else keras.initializers.RandomUniform(0.0, 1.0),
        synchronized=tf.distribute.has_strategy(),
        dtype=dtype,
        name=name,
    )
