"""The data sets of TensorFlow Datasets, by their public name; importing registers them.

They live in `edcn_tf.logs.datasets`.
"""

from edcn_tf.logs.datasets import *  # noqa: F403
