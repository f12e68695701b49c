"""Data sets for TensorFlow Datasets; importing this package registers them."""

from edcn_tf.logs.datasets.avazu import Avazu
from edcn_tf.logs.datasets.criteo import CriteoKaggle
from edcn_tf.logs.datasets.flights import Flights
from edcn_tf.logs.datasets.frappe import FrappeX1
from edcn_tf.logs.datasets.movielens import MovielensLatestSmall
from edcn_tf.logs.datasets.open_bandit import OpenBandit
from edcn_tf.logs.datasets.synthetic import SyntheticCriteo

__all__ = [
    "Avazu",
    "CriteoKaggle",
    "Flights",
    "FrappeX1",
    "MovielensLatestSmall",
    "OpenBandit",
    "SyntheticCriteo",
]
