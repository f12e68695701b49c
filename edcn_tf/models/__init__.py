"""Models from ids to the probability of a click."""

from edcn_tf.models.click_model import ClickModel
from edcn_tf.models.edcn import EDCN, PRESETS
from edcn_tf.models.family import FAMILY, make_model
from edcn_tf.models.logistic_regression import LogisticRegression
from edcn_tf.models.parallel_ctr import ParallelCTR

__all__ = [
    "EDCN",
    "FAMILY",
    "PRESETS",
    "ClickModel",
    "LogisticRegression",
    "ParallelCTR",
    "make_model",
]
