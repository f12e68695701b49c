"""The models of the field that have a name: each is a set of options."""

import dataclasses
from typing import TYPE_CHECKING, Any

from edcn_tf.features.spec import FeatureSpec
from edcn_tf.models.click_model import ClickModel
from edcn_tf.models.edcn import EDCN
from edcn_tf.models.logistic_regression import LogisticRegression
from edcn_tf.models.options import Options
from edcn_tf.models.parallel_ctr import ParallelCTR

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclasses.dataclass(frozen=True)
class Member:
    """A model with a name.

    Args:
        title: What the field calls it.
        source: The paper that it comes from.
        options: Arguments of its class that are not at their defaults.
        model: Its class.
    """

    title: str
    source: str
    options: Options
    model: type[ClickModel] = ParallelCTR

    @property
    def needs_history(self) -> bool:
        """Whether it is for data with a field of kind `sequence` alone."""
        return self.options.get("history", "pooling") != "pooling"


PLAIN: Options = {"bridge": "none", "gate": "none"}
WIDE: Options = {**PLAIN, "linear": True}
NO_DEEP: Options = {"deep_units": []}
# A deep network on a history: sizes of DIN's code, for all of them.
STACKED: Options = {**PLAIN, "explicit": "none", "deep_units": [200, 80]}
FAMILY = {
    "logistic_regression": Member(
        "logistic regression", "", {}, model=LogisticRegression
    ),
    "fm": Member("FM", "Rendle 2010", {**WIDE, **NO_DEEP, "explicit": "fm"}),
    "fnn": Member("FNN", "Zhang et al. 2016", {**PLAIN, "explicit": "none"}),
    "wide_deep": Member(
        "Wide & Deep", "Cheng et al. 2016", {**WIDE, "explicit": "none"}
    ),
    "pnn": Member(
        "PNN",
        "Qu et al. 2016",
        {**PLAIN, "explicit": "inner_products", "structure": "stacked"},
    ),
    "nfm": Member(
        "NFM",
        "He and Chua 2017",
        {**WIDE, "explicit": "fm", "structure": "stacked"},
    ),
    "deepfm": Member("DeepFM", "Guo et al. 2017", {**WIDE, "explicit": "fm"}),
    "xdeepfm": Member("xDeepFM", "Lian et al. 2018", {**WIDE, "explicit": "cin"}),
    "autoint": Member(
        "AutoInt",
        "Song et al. 2019",
        {**PLAIN, **NO_DEEP, "explicit": "self_attention"},
    ),
    "autoint_plus": Member(
        "AutoInt+", "Song et al. 2019", {**PLAIN, "explicit": "self_attention"}
    ),
    "dcn": Member("DCN", "Wang et al. 2017", PLAIN),
    "dcn_v2": Member(
        "DCN-V2", "Wang et al. 2021", {**PLAIN, "explicit": "cross_matrix"}
    ),
    "dcn_v2_stacked": Member(
        "DCN-V2, stacked",
        "Wang et al. 2021",
        {**PLAIN, "explicit": "cross_matrix", "structure": "stacked"},
    ),
    "dcn_v2_low_rank": Member(
        "DCN-V2, low rank", "Wang et al. 2021", {**PLAIN, "explicit": "cross_low_rank"}
    ),
    "dcn_mix": Member(
        "DCN-Mix", "Wang et al. 2021", {**PLAIN, "explicit": "cross_mixture"}
    ),
    "din": Member(
        "DIN",
        "Zhou et al. 2018",
        {**STACKED, "history": "din", "deep_activation": "dice"},
    ),
    "dien": Member(
        "DIEN",
        "Zhou et al. 2019",
        {**STACKED, "history": "dien", "deep_activation": "dice"},
    ),
    "bst": Member("BST", "Chen et al. 2019", {**STACKED, "history": "transformer"}),
    "edcn": Member("EDCN", "Chen et al. 2021", {}, model=EDCN),
}


def member(name: str) -> Member:
    """The `Member` of a name; a `ValueError` that lists all if there is none."""
    if name not in FAMILY:
        raise ValueError(f"`model` must be one of {list(FAMILY)}. Received: {name!r}")
    return FAMILY[name]


def make_model(
    spec: FeatureSpec | dict[str, Any], name: str, **options: "Unpack[Options]"
) -> ClickModel:
    """A model of `FAMILY`, not yet compiled.

    Args:
        spec: `FeatureSpec`.
        name: A key of `FAMILY`, such as `"deepfm"`.
        **options: Arguments of its class (`ParallelCTR`) that win over the member's.

    Raises:
        ValueError: For an unknown name, or options that do not fit it.

    Example:
        >>> model = make_model(spec, "xdeepfm", bridge="hadamard", gate="softmax")
    """
    chosen = member(name)
    return chosen.model(spec, **{**chosen.options, **options})
