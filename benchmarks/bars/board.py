"""BARS' leaderboard of Frappe_x1, and the settings of the models on it.

Figures: docs/CTR/leaderboard/frappe_x1.csv of github.com/reczoo/BARS. Settings: the
README.md in ranking/ctr/MODEL/MODEL_frappe_x1 there, which has the log of a run of
FuxiCTR (EDCN and AutoInt by version 1.2.2, the others by 1.1.0).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from edcn_tf.config import TrainingConfig

# FuxiCTR's way to train, as far as this library has it. It multiplies the learning rate
# by 0.1 after each epoch that is no better, and ends after two of them in a row; here
# training ends with the third of all.
TRAINING = {
    "batch_size": 4096,
    "learning_rate": 1e-3,
    "learning_rate_drop": 0.1,
    "patience": 1,
    "drops": 2,
    "epochs": 100,
    "average_decay": None,
}
# FuxiCTR's embeddings and its BatchNorm, which are PyTorch's.
NETWORK = {
    "embedding_dim": 10,
    "unseen_rate": 0.0,
    "embeddings_initializer": {
        "class_name": "RandomNormal",
        "config": {"stddev": 1e-4},
    },
}
BATCH_NORM = {
    "deep_batch_norm": True,
    "batch_norm_momentum": 0.9,
    "batch_norm_epsilon": 1e-5,
    "batch_norm_gamma": "uniform",
}
# As FuxiCTR has it for all. Where rows move only when a batch has them, as here with
# the others, 100 epochs would not do for these two, which nothing else drives.
DENSE = {"optimizer": "adam"}
DEEP = {"deep_units": [400, 400, 400]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A model of the board.

    Args:
        title: What BARS calls it.
        model: A key of `FAMILY`.
        options: The model's options and keys of `TrainingConfig`, beside `TRAINING` and
            `NETWORK`.
        regularizer: lambda of FuxiCTR's loss, which gets lambda / 2 times the squares
            of the whole table in each step.
        auc, log_loss: On the test split, as the board has them.
        runs: Mean test AUC of BARS' five runs, of which the board has the best; `None`
            where it tells of one run.
        differs: What is not as there, if anything is, for people.
    """

    title: str
    model: str
    options: Mapping[str, Any]
    regularizer: float
    auc: float
    log_loss: float
    runs: float | None = None
    differs: str = ""

    def config(self, rows: int, seed: int) -> TrainingConfig:
        """Its setting on a training split of so many rows.

        `l2` of this library adds (l2 / rows) times the squares of the table to the mean
        loss of an epoch, so FuxiCTR's strength is lambda / 2 * rows.
        """
        l2 = round(self.regularizer / 2 * rows, 4)
        settings = {**TRAINING, "l2": l2, "seed": seed, "model": self.model}
        if self.model != "logistic_regression":
            settings |= NETWORK
        if self.options.get("linear_l2", True) is None:
            settings["linear_l2"] = l2
        own = {key: value for key, value in self.options.items() if value is not None}
        return TrainingConfig.from_dict({**settings, **own})


BOARD = (
    Line(
        title="EDCN",
        model="edcn",
        options={"preset": "bars", "temperature": 5.0, "dropout": 0.3},
        regularizer=0.05,
        auc=0.9850,
        log_loss=0.1547,
    ),
    Line(
        title="DCN-V2",
        model="dcn_v2",
        options={"num_layers": 4, **DEEP, **BATCH_NORM, "dropout": 0.4},
        regularizer=0.05,
        auc=0.9845,
        log_loss=0.1491,
        runs=0.9838,
    ),
    Line(
        title="xDeepFM",
        model="xdeepfm",
        options={
            **{"num_layers": 1, "feature_maps": 64, "linear_l2": None},
            **{**DEEP, **BATCH_NORM, "dropout": 0.2},
        },
        regularizer=0.1,
        auc=0.9845,
        log_loss=0.1466,
        runs=0.9841,
    ),
    Line(
        title="DeepFM",
        model="deepfm",
        options={**DEEP, **BATCH_NORM, "dropout": 0.2, "linear_l2": None},
        regularizer=0.05,
        auc=0.9842,
        log_loss=0.1482,
        runs=0.9839,
    ),
    Line(
        title="PNN",
        model="pnn",
        options={**DEEP, "dropout": 0.3},
        regularizer=0.05,
        auc=0.9841,
        log_loss=0.1540,
        differs="products of a field with itself too, as in its paper",
    ),
    Line(
        title="DCN",
        model="dcn",
        options={"num_layers": 3, **DEEP, **BATCH_NORM, "dropout": 0.2},
        regularizer=0.05,
        auc=0.9839,
        log_loss=0.1527,
        runs=0.9834,
    ),
    Line(
        title="AutoInt",
        model="autoint",
        options={"num_layers": 6, "attention_heads": 2},
        regularizer=0.05,
        auc=0.9831,
        log_loss=0.1637,
        differs="two heads of 5 components, where BARS has four of 32",
    ),
    Line(
        title="FM",
        model="fm",
        options={**DENSE, "linear_l2": None},
        regularizer=5e-6,
        auc=0.9671,
        log_loss=0.2065,
    ),
    Line(
        title="LR",
        model="logistic_regression",
        options=DENSE,
        regularizer=1e-5,
        auc=0.9356,
        log_loss=0.3076,
    ),
)
