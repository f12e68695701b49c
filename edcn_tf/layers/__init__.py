"""Keras layers that EDCN is made of; each can be used alone in any Keras model."""

from edcn_tf.layers.bridge import Bridge
from edcn_tf.layers.cross import Cross
from edcn_tf.layers.deep import Deep
from edcn_tf.layers.field_embedding import FieldEmbedding
from edcn_tf.layers.field_gate import FieldGate

__all__ = ["Bridge", "Cross", "Deep", "FieldEmbedding", "FieldGate"]
