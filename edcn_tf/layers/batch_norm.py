"""BatchNorm as every layer here has it."""

import keras
import tensorflow as tf


def batch_norm(dtype, name="normalization"):
    """A BatchNorm over the whole batch, also where replicas share it."""
    return keras.layers.BatchNormalization(
        synchronized=tf.distribute.has_strategy(), dtype=dtype, name=name
    )
