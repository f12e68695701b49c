"""What layers and models take and give."""

import keras
import tensorflow as tf

# Of numbers, or while a model is built of a shape and a type alone.
Tensor = tf.Tensor | keras.KerasTensor
