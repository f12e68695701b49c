"""Layers of the explicit tower: interactions whose order is known."""

from edcn_tf.layers.explicit.compressed_interaction import CompressedInteraction
from edcn_tf.layers.explicit.cross import Cross
from edcn_tf.layers.explicit.explicit_layer import ExplicitLayer
from edcn_tf.layers.explicit.factorization_machine import FactorizationMachine
from edcn_tf.layers.explicit.field_attention import FieldAttention
from edcn_tf.layers.explicit.inner_products import InnerProducts
from edcn_tf.layers.explicit.matrix_cross import MatrixCross
from edcn_tf.layers.explicit.mixture_cross import MixtureCross

__all__ = [
    "CompressedInteraction",
    "Cross",
    "ExplicitLayer",
    "FactorizationMachine",
    "FieldAttention",
    "InnerProducts",
    "MatrixCross",
    "MixtureCross",
]
