"""The data sets that `edcn demo` can go its way on."""

import dataclasses
import functools
import os
from collections.abc import Callable

from edcn_tf.choices import SPLITS
from edcn_tf.field import Field
from edcn_tf.logs.formats import SCHEMAS, TEXT
from edcn_tf.logs.synthetic.log import SyntheticConfig
from edcn_tf.logs.synthetic.writing import synthesize
from edcn_tf.schema import Schema

ROWS = 200_000  # of the synthetic log, by default
SHARES = dict(zip(SPLITS, (0.8, 0.1, 0.1)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoData:
    """What differs between the data sets.

    Args:
        title: What the first step says.
        name: The served model's name.
        schema: The `Schema`.
        format: Of the logs, or none.
        logs: A function (directory, rows, seed) that makes the logs and returns them
            as `prepare` takes them, with the best possible `auc` and `log_loss` of
            the test rows, or none where nobody knows them.
        runs: Name -> settings of each run (`TrainingConfig`).
        asked: What the sample request is about.
        request: A function (directory) -> signature and inputs of that request.
        history: Where users have a history, how it is built (`prepare`'s `history`).
        history_fields: The sequences that it then adds to the schema.
        history_request: What it adds to the request's inputs.
    """

    title: str
    name: str
    schema: Schema
    format: str | None = None
    logs: Callable
    runs: dict
    asked: str
    request: Callable
    history: str | None = None
    history_fields: tuple[Field, ...] = ()
    history_request: dict = dataclasses.field(default_factory=dict)

    def with_history(self):
        """The same data, of which each row also has what its user clicked before."""
        fields = (*self.schema.fields, *self.history_fields)
        return dataclasses.replace(
            self,
            title=f"{self.title}; with each user's history",
            schema=dataclasses.replace(self.schema, fields=fields),
            asked=f"{self.asked}; what the user clicked last",
            request=self._request_with_history,
        )

    def _request_with_history(self, directory):
        signature, inputs = self.request(directory)
        return signature, {**inputs, **self.history_request}


def _linear(l2):
    """Settings of a logistic regression.

    The L2 and the learning rate on a data set are those that served it best on the
    validation split (on the synthetic log, of an L2 of 3, 10 and 30).
    """
    return {"model": "logistic_regression", "l2": l2, "learning_rate": 0.02}


def _tfds_logs(name, directory, rows, seed):
    os.environ["TFDS_DATA_DIR"] = str(directory / "tfds")
    return [f"tfds:{name}"], None


def _three_films(directory):
    return "rank", {
        "user_id": ["15"],
        "hour": ["20"],
        "weekday": ["5"],
        "movie_id": [["318", "296", "3593"]],
        "year": [["1994", "1994", "2000"]],
        "genres": [
            [
                ["Crime", "Drama", "", ""],
                ["Comedy", "Crime", "Drama", "Thriller"],
                ["Action", "Sci-Fi", "", ""],
            ]
        ],
    }


def _three_departures(directory):
    return "rank", {
        "month": ["7"],
        "day": ["10"],
        "origin": ["JFK"],
        "dest": ["LAX"],
        "carrier": [["UA", "B6", "DL"]],
        "flight": [["712", "223", "1163"]],
        "tailnum": [["N505UA", "N506JB", "N722TW"]],
        "hour": [["6", "9", "17"]],
        "sched_dep_time": [["630", "935", "1700"]],
    }


def _synthetic_logs(directory, rows, seed):
    """Three parts of one log: its rows are alike, so any split is a split by chance."""
    (directory / "logs").mkdir()
    logs, skip = {}, 0
    for split, share in SHARES.items():
        path = directory / "logs" / f"{split}.tsv"
        count = round(share * rows)
        figures = synthesize(path, count, SyntheticConfig(seed=seed), skip=skip)
        logs[split] = [path]
        skip += count
    return logs, {key: figures["best"][key] for key in ("auc", "log_loss")}


def _first_test_row(directory):
    with open(directory / "logs" / "test.tsv", encoding="utf-8") as file:
        values = file.readline().rstrip("\n").split("\t")
    row = dict(zip(TEXT["criteo"].names, values))
    del row["label"]
    return "serving_default", {
        # A missing number is NaN in arrays, and a missing string is empty.
        name: [float(value or "nan") if name.startswith("I") else value]
        for name, value in row.items()
    }


DATA = {
    "movielens": DemoData(
        title="MovieLens latest-small, 100,004 ratings; 4 or more is a click",
        name="movielens",
        schema=Schema(
            label="click",
            group="user_id",
            timestamp="timestamp",
            fields=(
                Field(name="user_id"),
                Field(name="movie_id", candidate=True),
                Field(name="year", candidate=True),
                Field(name="genres", multiple=True, max_length=10, candidate=True),
                Field(name="hour"),
                Field(name="weekday"),
            ),
        ),
        logs=functools.partial(_tfds_logs, "movielens_latest_small"),
        runs={
            "logistic_regression": _linear(1.0),
            "edcn": {},
        },
        asked="one user; The Shawshank Redemption, Pulp Fiction, Battlefield Earth",
        request=_three_films,
        history="user_id:movie_id:timestamp",
        history_fields=(
            Field(name="history", kind="sequence", of="movie_id", max_length=30),
            Field(
                name="seconds_since",
                kind="sequence",
                buckets=16,
                along="history",
            ),
        ),
        # The Godfather and Fargo, a day and an hour ago.
        history_request={
            "history": [["858", "608"]],
            "seconds_since": [[86400.0, 3600.0]],
        },
    ),
    "flights": DemoData(
        title="flights from New York in 2013, 327,346; late by over 15 minutes",
        name="flights",
        schema=Schema(
            label="late",
            timestamp="timestamp",
            fields=(
                Field(name="month"),
                Field(name="day"),
                Field(name="carrier", candidate=True),
                Field(name="flight", candidate=True),
                Field(name="tailnum", candidate=True),
                Field(name="origin"),
                Field(name="dest"),
                Field(name="hour", candidate=True),
                Field(name="sched_dep_time", candidate=True),
            ),
        ),
        logs=functools.partial(_tfds_logs, "flights"),
        runs={
            "logistic_regression": _linear(1.0),
            "edcn": {},
        },
        asked="10 July, New York to Los Angeles; departures at 6:30, 9:35 and 17:00",
        request=_three_departures,
    ),
    "synthetic": DemoData(
        title="a synthetic log in Criteo's format, whose fields interact",
        name="synthetic",
        schema=SCHEMAS["criteo"],
        format="criteo",
        logs=_synthetic_logs,
        runs={
            "logistic_regression": _linear(30.0),
            "edcn": {},
        },
        asked="the first row of the test split",
        request=_first_test_row,
    ),
}
