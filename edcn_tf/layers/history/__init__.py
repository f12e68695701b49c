"""Layers that turn what a user did, in its order, into one vector."""

from edcn_tf.layers.history.dice import Dice
from edcn_tf.layers.history.history_layer import HistoryLayer
from edcn_tf.layers.history.interest_evolution import InterestEvolution
from edcn_tf.layers.history.local_activation import LocalActivation
from edcn_tf.layers.history.transformer import HistoryTransformer

__all__ = [
    "Dice",
    "HistoryLayer",
    "HistoryTransformer",
    "InterestEvolution",
    "LocalActivation",
]
