"""Open Bandit's small logs, from the files that the package obp brings."""

import importlib.util
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.logs.formats import TEXT
from edcn_tf.logs.normalizing import normalized
from edcn_tf.logs.opening import input_errors
from edcn_tf.logs.text import header, read_text
from edcn_tf.schema import Schema

POLICIES = ("random", "bts")
CAMPAIGNS = ("all", "men", "women")
USER_FEATURES = tuple(f"user_feature_{number}" for number in range(4))

SCHEMA = Schema(
    label="click",
    timestamp="timestamp",
    fields=(
        Field(name="item", candidate=True),
        Field(name="affinity", kind="numeric", candidate=True),
        Field(name="position"),
        Field(name="campaign"),
        Field(name="policy"),
        *(Field(name=name) for name in USER_FEATURES),
    ),
)

_DESCRIPTION = """
One row is one piece of clothing that ZOZOTOWN showed somebody, in one of three places
(`position`) of one of three campaigns, over seven days of November 2019: of each
campaign and policy the same number of impressions (10,000 in obp 0.4.1), one log after
the other, the rows of each in the order of its file. `click` says whether it was
clicked, which few were (287 of those 60,000).

A policy chose what was shown: "random" any item of the campaign alike, "bts" by
Bernoulli Thompson sampling. `propensity_score` is how probable its choice was, at that
position. It is there to weigh rows by, not for a model to see: it tells what the policy
had learnt of clicks.

`item_id` counts the items of a campaign, so "0" of "men" is not "0" of "all"; `item` is
both, "men/0". `affinities` are the clicks of this user on each item of the campaign
before, by `item_id`, and `affinity` those on the item that is shown. The features of
users are hashed. Items' own are left out, since each log has other hashes for the same.
"""

_CITATION = """
@article{saito2020open,
  author = {Saito, Yuta and Aihara, Shunsuke and Matsutani, Megumi and Narita, Yusuke},
  title = {Open Bandit Dataset and Pipeline: Towards Realistic and Reproducible
    Off-Policy Evaluation},
  journal = {arXiv:2008.07146},
  year = {2020},
}
"""

FOLDER = "open_bandit"  # in the directory of files that the user has downloaded
PACKAGE = "obp"
_AFFINITY = "user-item_affinity_"  # and the item's number


class OpenBandit(tfds.core.GeneratorBasedBuilder):
    """The small version of the Open Bandit Dataset: one split, `train`.

    Its six files (two policies, three campaigns) are those of `open_bandit` in the
    directory of downloaded files, or else those of the installed package obp.

    Example:

    >>> import edcn_tf.datasets
    >>> ds = tfds.load("open_bandit", split="train")

    Reference:
        [Saito et al., 2020](https://arxiv.org/abs/2008.07146)
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Install the package obp (pip install --no-deps obp==0.4.1), or put its folder
    obp/dataset/obd here as open_bandit.
    """

    def _info(self):
        scalar, text = tfds.features.Scalar, tfds.features.Text
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "click": scalar(np.int64),
                    "timestamp": scalar(np.int64, doc="microseconds since 1970, UTC"),
                    "policy": text(doc="of POLICIES, which chose the item"),
                    "campaign": text(doc="of CAMPAIGNS"),
                    "item": text(doc='campaign and item_id, as in "men/0"'),
                    "item_id": text(doc="of the campaign's items"),
                    "position": text(doc='"1" (left) to "3" (right)'),
                    "affinity": scalar(np.float32, doc="earlier clicks on the item"),
                    "affinities": tfds.features.Sequence(np.float32),
                    "propensity_score": scalar(np.float32, doc="0 to 1, no input"),
                    **{name: text(doc="hashed") for name in USER_FEATURES},
                }
            ),
            disable_shuffling=True,
            homepage="https://github.com/st-tech/zr-obp",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager):
        try:
            folder = folder_in(dl_manager.manual_dir)
        except AssertionError:  # TFDS's, where that is not there, or empty
            folder = _folder_of_package()
            if folder is None:
                raise
        for path in _files(folder).values():
            if not path.exists():
                what_to_do = " ".join(self.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
                raise InputError(f"{path}: is not there. {what_to_do}")
        return {"train": self._generate_examples(folder)}

    def _generate_examples(self, folder):
        key = 0
        for (policy, campaign), path in _files(folder).items():
            for row in _rows(str(path), campaign):
                yield key, {"policy": policy, "campaign": campaign, **row}
                key += 1


def is_there(data_dir=None):
    """Whether the data set, or each of its files, can be read."""
    builder = OpenBandit(data_dir=data_dir)
    manual = Path(builder.data_dir_root, "downloads", "manual")
    files = _files(folder_in(manual)).values()
    return builder.is_prepared() or all(path.exists() for path in files)


def folder_in(directory):
    """The folder of the files: in the directory of such, or else the package's."""
    own = Path(directory, FOLDER)
    return own if own.exists() else _folder_of_package() or own


def _folder_of_package():
    """None if it is not installed. It is not imported, as it needs much else."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "dataset" / "obd"


def _files(folder):
    """Policy and campaign -> the log's path."""
    return {
        (policy, campaign): folder / policy / campaign / f"{campaign}.csv"
        for policy in POLICIES
        for campaign in CAMPAIGNS
    }


def _rows(path, campaign):
    """Yields the columns of each row of a log."""
    with input_errors(path, "csv"):
        yield from _read(path, campaign)


def _read(path, campaign):
    names = header(path, TEXT["csv"])
    items = max(1, sum(name.startswith(_AFFINITY) for name in names))
    affinities = [
        Field(name=f"affinity_{item}", column=f"{_AFFINITY}{item}", kind="numeric")
        for item in range(items)
    ]
    texts = ("position", *USER_FEATURES)
    schema = Schema(
        label="click",
        timestamp="timestamp",
        fields=(
            Field(name="item_id", dtype="int64"),
            *(Field(name=name) for name in texts),
            Field(name="propensity_score", kind="numeric"),
            *affinities,
        ),
    )
    columns = [schema.column(name) for name in schema.columns]
    batches = read_text(path, TEXT["csv"], columns, lambda _: None)
    for first, batch in normalized(batches, schema, schema.columns, path):
        shown = _shown(batch, items, path, first)
        scores = np.stack(
            [batch[field.name].to_numpy(zero_copy_only=False) for field in affinities],
            axis=1,
        )
        # Of numbers of this size floats of 64 bits are exact to the microsecond.
        moments = np.round(batch["timestamp"].to_numpy() * 1e6).astype(np.int64)
        columns = {
            "click": batch["click"].to_pylist(),
            "timestamp": moments.tolist(),
            "item": [f"{campaign}/{item}" for item in shown],
            "item_id": [str(item) for item in shown],
            "affinity": scores[np.arange(len(shown)), shown],
            "affinities": list(scores),
            "propensity_score": batch["propensity_score"].fill_null(np.nan).to_pylist(),
            **{name: batch[name].fill_null("").to_pylist() for name in texts},
        }
        for row in zip(*columns.values(), strict=True):
            yield dict(zip(columns, row, strict=True))


def _shown(batch, items, path, first):
    """Numbers of the items that were shown, of which each has its affinity."""
    shown = batch["item_id"].to_pylist()
    for row, item in enumerate(shown, first + 1):
        if item is None or not 0 <= item < items:
            raise InputError(
                f"{path}: row {row}, column 'item_id': expected an item from 0 to "
                f"{items - 1}, which have a column {_AFFINITY}*. Received: {item!r}"
            )
    return np.array(shown)
