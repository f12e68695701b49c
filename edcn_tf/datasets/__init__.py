"""Data sets for TensorFlow Datasets; importing this package registers them."""

from edcn_tf.datasets.avazu import Avazu
from edcn_tf.datasets.criteo import CriteoKaggle
from edcn_tf.datasets.flights import Flights
from edcn_tf.datasets.movielens import MovielensLatestSmall
from edcn_tf.datasets.synthetic import SyntheticCriteo

__all__ = [
    "Avazu",
    "CriteoKaggle",
    "Flights",
    "MovielensLatestSmall",
    "SyntheticCriteo",
]
