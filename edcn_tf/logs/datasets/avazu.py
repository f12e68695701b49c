"""Avazu's click-through rate challenge of 2014, from the file that it gave out."""

from edcn_tf.logs.datasets.raw_log import RawLogBuilder

_DESCRIPTION = """
One row is one mobile ad that Avazu showed, over ten days of October 2014, in their
order; clicked and other ads have been sampled differently. `click` says whether it was
clicked; the other columns describe the ad, the site or app, the device and the
connection, `C1` and `C14` to `C21` without saying what they are. The log's `hour` is
given as `hour_of_day` ("0" to "23"), `weekday` ("0", Monday, to "6") and `time`
(seconds since 1970).
"""

_CITATION = """
@misc{avazu2014,
  author = {Wang, Steve and Cukierski, Will},
  title = {Click-Through Rate Prediction},
  publisher = {Kaggle},
  year = {2014},
  url = {https://www.kaggle.com/c/avazu-ctr-prediction},
}
"""


class Avazu(RawLogBuilder):
    """Avazu's challenge on Kaggle: one split, `train` (its test rows have no label).

    Example:

    >>> import edcn_tf.datasets
    >>> ds = tfds.load("avazu", split="train")

    Reference:
        [Wang and Cukierski, 2014](https://www.kaggle.com/c/avazu-ctr-prediction)
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Accept the rules of kaggle.com/c/avazu-ctr-prediction, download train.gz and put
    it here, packed or as train.csv.
    """
    FORMAT = "avazu"
    FILES = ("train.gz", "train.csv", "train")

    def _info(self):
        return self.info_of(
            description=_DESCRIPTION,
            homepage="https://www.kaggle.com/c/avazu-ctr-prediction",
            citation=_CITATION,
        )
