"""edcn-tf: click logs to a click-through-rate model that TF Serving serves."""

from edcn_tf import export
from edcn_tf.config import TrainingConfig
from edcn_tf.errors import InputError
from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.calibration import Calibration
from edcn_tf.evaluation.calibration_fitting import calibrate_run
from edcn_tf.evaluation.scoring import evaluate_run
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.field import Field
from edcn_tf.layers import Bridge, Cross, Deep, FieldEmbedding, FieldGate
from edcn_tf.models import (
    EDCN,
    FAMILY,
    PRESETS,
    LogisticRegression,
    ParallelCTR,
    make_model,
)
from edcn_tf.models.flops import count_flops
from edcn_tf.preparation.local import prepare
from edcn_tf.records.reading import read_records
from edcn_tf.schema import Schema
from edcn_tf.training import workers
from edcn_tf.training.averaged_weights import AveragedWeights
from edcn_tf.training.optimizers import SparseAdam
from edcn_tf.training.pretrained import load_pretrained
from edcn_tf.training.train import train
from edcn_tf.version import __version__

__all__ = [
    "EDCN",
    "FAMILY",
    "PRESETS",
    "AveragedWeights",
    "Bridge",
    "Calibration",
    "Cross",
    "Deep",
    "Encoder",
    "FeatureSpec",
    "Field",
    "FieldEmbedding",
    "FieldGate",
    "InputError",
    "LogisticRegression",
    "ParallelCTR",
    "Schema",
    "SparseAdam",
    "TrainingConfig",
    "__version__",
    "calibrate_run",
    "count_flops",
    "evaluate_run",
    "export",
    "load_pretrained",
    "make_model",
    "metrics",
    "prepare",
    "read_records",
    "train",
    "workers",
]
