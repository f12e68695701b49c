"""Gates: layers that weigh fields before a tower, `[B, F, D]` -> `[B, F, D]`."""

from edcn_tf.layers.gates.dense_gate import DenseGate
from edcn_tf.layers.gates.feature_embedding_gate import FeatureEmbeddingGate
from edcn_tf.layers.gates.field_gate import FieldGate
from edcn_tf.layers.gates.gate import Gate
from edcn_tf.layers.gates.lhuc_gate import LHUCGate
from edcn_tf.layers.gates.squeeze_excitation_gate import SqueezeExcitationGate

__all__ = [
    "DenseGate",
    "FeatureEmbeddingGate",
    "FieldGate",
    "Gate",
    "LHUCGate",
    "SqueezeExcitationGate",
]
