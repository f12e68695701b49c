"""EDCN, the model that this library is named after."""

from typing import TYPE_CHECKING, Any

import keras

from edcn_tf.features.spec import FeatureSpec
from edcn_tf.models.options import Options
from edcn_tf.models.parallel_ctr import ParallelCTR

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


@keras.saving.register_keras_serializable(package="edcn_tf")
class EDCN(ParallelCTR):
    """Enhanced Deep & Cross Network: two towers, joined after every layer.

        E = embedding(ids)                                        [B, F, D]
        for each layer l:
            c, d = cross gate_l(E_l), deep gate_l(E_l)            E_0 = E
            x_l = cross_l(x_0, c),  h_l = deep_l(d)               x_0 = c of layer 0
            f_l = bridge_l(x_l, h_l)
            E_{l+1} = f_l as [B, F, D]
        p = sigmoid(w . [x_L, h_L, f_L] + b)

    It is `ParallelCTR` at its defaults, and takes its arguments. Where the paper, its
    authors' code and other implementations disagree, an argument decides, and
    `PRESETS` name their choices.

    Example:
        >>> model = EDCN(spec, embedding_dim=16, num_layers=3)
        >>> model.compile(edcn_tf.SparseAdam(1e-3), "binary_crossentropy")

    Reference:
        Chen et al. 2021, "Enhancing Explicit and Implicit Feature Interactions via
        Information Sharing for Parallel Deep CTR Models", equations 6 to 9.
    """

    @classmethod
    def from_preset(
        cls,
        spec: FeatureSpec | dict[str, Any],
        preset: str,
        **options: "Unpack[Options]",
    ) -> "Self":
        """An EDCN with the choices of one of `PRESETS`, changed by `options`."""
        if preset not in PRESETS:
            raise ValueError(
                f"`preset` must be one of {list(PRESETS)}. Received: {preset!r}"
            )
        changed: Options = {**PRESETS[preset], **options}
        return cls(spec, **changed)


# PyTorch's BatchNorm, and MindSpore's.
OTHER_BATCH_NORM: Options = {"batch_norm_momentum": 0.9, "batch_norm_epsilon": 1e-5}
# Embeddings that start near 0, as FuxiCTR's do.
NEAR_ZERO: dict[str, Any] = {"class_name": "RandomNormal", "config": {"stddev": 1e-4}}
# The choices of those who have published EDCN; facts and figures from each source.
PRESETS: dict[str, Options] = {
    "default": {},
    # Chen et al. 2021, section 5: D 40, three layers, BatchNorm in the deep layers.
    "paper": {
        "embedding_dim": 40,
        "num_layers": 3,
        "bridge_scale": False,
        "gate_scale": False,
        "deep_batch_norm": True,
        "dropout": 0.1,
        "unseen_rate": 0.0,
        "l2": 0.0,
    },
    # The authors' MindSpore code: D 80, one-channel BatchNorm after the gates, one for
    # all layers of a tower, ReLU and dropout before the matrix.
    "mindspore": {
        "embedding_dim": 80,
        "num_layers": 3,
        "bridge_scale": False,
        "gate_scale": False,
        "gate_batch_norm": "shared_scalar",
        **OTHER_BATCH_NORM,
        "activation_first": True,
        "dropout": 0.1,
        "unseen_rate": 0.0,
        "l2": 0.0,
    },
    # FuxiCTR 1.2.2 as benchmarked by BARS on Criteo_x1: D 10, tau 20, BatchNorm after
    # each gate. Its cross layers add their input; those of later versions do not.
    "bars": {
        "embedding_dim": 10,
        "num_layers": 3,
        "temperature": 20.0,
        "bridge_scale": False,
        "gate_scale": False,
        "gate_batch_norm": "feature",
        **OTHER_BATCH_NORM,
        "batch_norm_gamma": "uniform",  # it ran PyTorch 1.0.1
        "embeddings_initializer": NEAR_ZERO,
        "dropout": 0.0,
        "unseen_rate": 0.0,
        "l2": 0.0,
    },
}
