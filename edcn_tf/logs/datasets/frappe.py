"""Frappe as the BARS benchmark splits it, from the files that it gave out."""

import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from edcn_tf.choices import SPLITS
from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.logs.formats import TEXT
from edcn_tf.logs.normalizing import normalized
from edcn_tf.logs.opening import input_errors, opened
from edcn_tf.logs.text import read_text
from edcn_tf.schema import Schema

SCHEMA = Schema(
    label="label",
    fields=(
        Field(name="user"),
        Field(name="item", candidate=True),
        *(
            Field(name=name)
            for name in (
                *("daytime", "weekday", "isweekend", "homework"),
                *("cost", "weather", "country", "city"),
            )
        ),
    ),
)

_DESCRIPTION = """
One row is an app that somebody used (`label` 1) or, two for each of these, one that
this user never used, drawn by chance, in the same situation (0): 288,609 rows in the
splits `train`, `valid` and `test` of the BARS benchmark, in the order of its files.
`user` and `item` say who used which app; the other columns are the situation: time of
day, weekday, whether that is a weekend, at home or work, free or paid, weather,
country and city. All values are numbers that BARS gave them, as text.
"""

_CITATION = """
@article{baltrunas2015frappe,
  author = {Baltrunas, Linas and Church, Karen and Karatzoglou, Alexandros and
    Oliver, Nuria},
  title = {Frappe: Understanding the Usage and Perception of Mobile App
    Recommendations In-The-Wild},
  journal = {arXiv:1505.03014},
  year = {2015},
}
@inproceedings{zhu2022bars,
  author = {Zhu, Jieming and Dai, Quanyu and Su, Liangcai and Ma, Rong and Liu,
    Jinyang and Cai, Guohao and Xiao, Xi and Zhang, Rui},
  title = {{BARS}: Towards Open Benchmarking for Recommender Systems},
  booktitle = {SIGIR},
  year = {2022},
}
"""

FOLDER = "frappe_x1"  # in the directory of files that the user has downloaded
# Of the files as BARS gave them out.
MD5 = {
    "train": "ba7306e6c4fc19dd2cd84f2f0596d158",
    "valid": "88d51bf2173505436d3a8f78f2a59da8",
    "test": "3470f6d32713dc5f7715f198ca7c612a",
}


class FrappeX1(tfds.core.GeneratorBasedBuilder):
    """Frappe_x1 of BARS: three splits, `train`, `valid` and `test`.

    The files of `valid` and `test` must be BARS' own, or their figures would not be
    those of its table; of another `train` a printed line tells.

    Example:

    >>> import edcn_tf.datasets
    >>> ds = tfds.load("frappe_x1", split="train")

    Reference:
        [Baltrunas et al., 2015](https://arxiv.org/abs/1505.03014);
        [BARS](https://openbenchmark.github.io/BARS)
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download Frappe_x1 of the BARS benchmark and put its train.csv, valid.csv and
    test.csv (or each as .csv.gz) into a folder frappe_x1 here.
    """

    def _info(self):
        text = tfds.features.Text
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    SCHEMA.label: tfds.features.Scalar(np.int64),
                    **{field.name: text() for field in SCHEMA.fields},
                }
            ),
            disable_shuffling=True,
            homepage="https://openbenchmark.github.io/BARS",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager):
        paths = {split: file_of(dl_manager.manual_dir, split) for split in SPLITS}
        for split, path in paths.items():
            if path is None:
                what_to_do = " ".join(self.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
                missing = Path(dl_manager.manual_dir, FOLDER, f"{split}.csv")
                raise InputError(f"{missing}: is not there. {what_to_do}")
            _check(split, path)
        return {split: self._generate_examples(path) for split, path in paths.items()}

    def _generate_examples(self, path):
        key = 0
        for _, batch in _batches(path):
            columns = [
                (column.fill_null("") if column.null_count else column).to_pylist()
                for column in batch.columns
            ]
            for row in zip(*columns):
                yield key, dict(zip(batch.schema.names, row))
                key += 1


def _batches(path):
    with input_errors(path, "csv"):
        batches = read_text(path, TEXT["csv"], SCHEMA.columns, lambda _: None)
        yield from normalized(batches, SCHEMA, SCHEMA.columns, path)


def is_there(data_dir=None):
    """Whether the data set, or each of its files, is in a directory of data sets."""
    builder = FrappeX1(data_dir=data_dir)
    manual = Path(builder.data_dir_root, "downloads", "manual")
    return builder.is_prepared() or all(file_of(manual, split) for split in SPLITS)


def file_of(directory, split):
    """The file of a split in the directory of such files; None if there is none."""
    names = (f"{split}.csv", f"{split}.csv.gz")
    paths = [Path(directory, FOLDER, name) for name in names]
    return next((str(path) for path in paths if path.exists()), None)


def _check(split, path):
    found = hashlib.md5(usedforsecurity=False)
    with input_errors(path, "csv"), opened(path) as (stream, _):
        while block := stream.read(1 << 20):
            found.update(block)
    if found.hexdigest() == MD5[split]:
        return
    told = (
        f"{path}: is not the file that BARS gave out, which has the md5 {MD5[split]}. "
        f"Received: {found.hexdigest()}"
    )
    if split != "train":
        raise InputError(told)
    print(told, flush=True)
