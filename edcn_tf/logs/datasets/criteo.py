"""Criteo's display advertising challenge of 2014, from the file that it gave out."""

from edcn_tf.logs.datasets.raw_log import RawLogBuilder

_DESCRIPTION = """
One row is one display ad that Criteo showed, over seven days, in their order; some of
the ads that were not clicked have been left out. `label` says whether it was clicked,
`I1` to `I13` are counts and other whole numbers, `C1` to `C26` are values hashed to
eight hexadecimal digits; what they mean was not told. NaN and the empty string are
missing values.
"""

_CITATION = """
@misc{criteo2014,
  author = {{Criteo Labs}},
  title = {Display Advertising Challenge},
  publisher = {Kaggle},
  year = {2014},
  url = {https://www.kaggle.com/c/criteo-display-ad-challenge},
}
"""


class CriteoKaggle(RawLogBuilder):
    """Criteo's challenge on Kaggle: one split, `train` (its test rows have no label).

    Example:

    >>> import edcn_tf.datasets
    >>> ds = tfds.load("criteo_kaggle", split="train")

    Reference:
        [Criteo Labs, 2014](https://www.kaggle.com/c/criteo-display-ad-challenge)
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Accept the rules of kaggle.com/c/criteo-display-ad-challenge, download the data
    and put its train.txt here.
    """
    FORMAT = "criteo"
    FILES = ("train.txt", "train.txt.gz")

    def _info(self):
        return self.info_of(
            description=_DESCRIPTION,
            homepage="https://www.kaggle.com/c/criteo-display-ad-challenge",
            citation=_CITATION,
        )
