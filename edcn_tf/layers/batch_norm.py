"""BatchNorm as every layer here has it."""

from typing import Any

import keras
import tensorflow as tf


def batch_norm(
    dtype: Any, name: str = "normalization"
) -> keras.layers.BatchNormalization:
    """A BatchNorm over the whole batch, also where replicas share it."""
    return keras.layers.BatchNormalization(
        synchronized=tf.distribute.has_strategy(), dtype=dtype, name=name
    )
