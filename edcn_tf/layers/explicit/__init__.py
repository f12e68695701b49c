"""Layers of the explicit tower: interactions whose order is known."""

from edcn_tf.layers.explicit.cross import Cross
from edcn_tf.layers.explicit.explicit_layer import ExplicitLayer

__all__ = [
    "Cross",
    "ExplicitLayer",
]
