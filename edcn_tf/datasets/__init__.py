"""Data sets for TensorFlow Datasets; importing this package registers them."""

from edcn_tf.datasets.movielens import MovielensLatestSmall

__all__ = ["MovielensLatestSmall"]
