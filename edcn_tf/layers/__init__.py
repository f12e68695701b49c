"""Keras layers that models are made of; each can be used alone in any Keras model."""

from edcn_tf.layers.bridge import Bridge
from edcn_tf.layers.deep import Deep
from edcn_tf.layers.explicit import (
    CompressedInteraction,
    Cross,
    ExplicitLayer,
    FactorizationMachine,
    FieldAttention,
    InnerProducts,
    MatrixCross,
    MixtureCross,
)
from edcn_tf.layers.field_embedding import FieldEmbedding
from edcn_tf.layers.gates import (
    DenseGate,
    FeatureEmbeddingGate,
    FieldGate,
    Gate,
    LHUCGate,
    SqueezeExcitationGate,
)
from edcn_tf.layers.history import (
    Dice,
    HistoryLayer,
    HistoryTransformer,
    InterestEvolution,
    LocalActivation,
)
from edcn_tf.layers.log_odds import LogOdds

__all__ = [
    "Bridge",
    "CompressedInteraction",
    "Cross",
    "Deep",
    "DenseGate",
    "Dice",
    "ExplicitLayer",
    "FactorizationMachine",
    "FeatureEmbeddingGate",
    "FieldAttention",
    "FieldEmbedding",
    "FieldGate",
    "Gate",
    "HistoryLayer",
    "HistoryTransformer",
    "InnerProducts",
    "InterestEvolution",
    "LHUCGate",
    "LocalActivation",
    "LogOdds",
    "MatrixCross",
    "MixtureCross",
    "SqueezeExcitationGate",
]
