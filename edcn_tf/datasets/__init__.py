"""Data sets for TensorFlow Datasets; importing this package registers them."""

from edcn_tf.datasets.movielens import MovielensLatestSmall
from edcn_tf.datasets.synthetic import SyntheticCriteo

__all__ = ["MovielensLatestSmall", "SyntheticCriteo"]
