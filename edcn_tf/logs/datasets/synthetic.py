"""A synthetic click log with Criteo's columns, made without a download."""

import dataclasses
from typing import ClassVar

import numpy as np
import pyarrow as pa
import tensorflow_datasets as tfds

from edcn_tf.logs.synthetic.log import SyntheticConfig, SyntheticLog

_DESCRIPTION = """
A click log that nobody clicked, with the 40 columns of Criteo's: a label, the
integers I1 to I13 and the strings C1 to C26, Zipf-distributed. Clicks depend on
single values, on pairs and on triples of them, and on noise, all of it known:
`probability` is that of a click given the row's features, so the AUC and the log
loss that it has are the best that any model can reach. A model must not see it.

Rows are those of `edcn synthesize` with the same options. A missing integer is
NaN, a missing string is empty.
"""


@dataclasses.dataclass
class SyntheticBuilderConfig(tfds.core.BuilderConfig):
    """A number of rows and what the log is made of (`SyntheticConfig`)."""

    rows: int = 100_000
    log: SyntheticConfig = dataclasses.field(default_factory=SyntheticConfig)


def _sizes():
    for name, rows in [("100k", 100_000), ("1m", 1_000_000), ("10m", 10_000_000)]:
        yield SyntheticBuilderConfig(
            name=name, rows=rows, description=f"The first {rows:,} rows."
        )


class SyntheticCriteo(tfds.core.GeneratorBasedBuilder):
    """A synthetic log in Criteo's format: one split, `train`.

    Configurations differ by their size: `100k` (the default), `1m`, `10m`. A larger
    log begins with the rows of a smaller one.

    Example:

    >>> import edcn_tf.datasets
    >>> ds = tfds.load("synthetic_criteo/1m", split="train")
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = list(_sizes())

    def _info(self):
        scalar, text = tfds.features.Scalar, tfds.features.Text
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "label": scalar(np.int64, doc="1 for a click"),
                    **{f"I{i}": scalar(np.float32) for i in range(1, 14)},
                    **{f"C{i}": text(doc="8 hex digits") for i in range(1, 27)},
                    "probability": scalar(np.float32, doc="of a click, the true one"),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        config, key = self.builder_config, 0
        for part in SyntheticLog(config.log).read(config.rows):
            columns = {}
            for name in part.columns.schema.names:
                column = part.columns[name]
                if name.startswith("I"):
                    column = column.cast(pa.float32()).fill_null(np.nan)
                elif name.startswith("C"):
                    column = column.fill_null("")
                columns[name] = column.to_pylist()
            columns["probability"] = part.probabilities.tolist()
            for row in zip(*columns.values(), strict=True):
                yield key, dict(zip(columns, row, strict=True))
                key += 1
