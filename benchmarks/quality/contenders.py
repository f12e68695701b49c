"""The models of this library that the table of quality has, and what a line needs."""

import dataclasses
from collections.abc import Callable

from edcn_tf.config import TrainingConfig
from edcn_tf.directories import PreparedData
from edcn_tf.evaluation.scoring import score_run
from edcn_tf.files import read_json
from edcn_tf.models import FAMILY

from ..runs import Entry, prepared, trained

# Neural models have the library's defaults, the same on every data set. The linear one
# has its L2 chosen, as it has nothing else to choose.
LINEAR = tuple({"l2": l2, "learning_rate": 0.02} for l2 in (0.3, 1.0, 3.0, 10.0, 30.0))
SETTINGS = {
    "logistic_regression": LINEAR,
    **{name: ({},) for name in ("deepfm", "dcn", "dcn_v2", "edcn")},
}

STATISTICS = "edcn_statistics"  # EDCN's line with what is chosen


@dataclasses.dataclass(frozen=True)
class Contender:
    """A line of the table.

    Args:
        name: What its runs are called.
        title: What the table calls it.
        settings: What it may be set to. Of several, the one whose validation AUC is
            best with seed 0 is taken for all seeds.
        train: A function (folder, name of the run, settings with `seed`) that trains
            on `folder/data`, unless that was done, and returns the run's directory
            and its result, a dict with `valid_auc` and `training_seconds`.
        score: A function (folder, run) that gives the labels and the probabilities of
            the test rows.
    """

    name: str
    title: str
    settings: tuple[dict, ...]
    train: Callable
    score: Callable

    def run(self, folder, settings, seed):
        """A run's directory and its result."""
        changes = [f"{key}={value}" for key, value in settings.items()]
        name = "-".join([self.name, *changes, str(seed)])
        return self.train(folder, name, {**settings, "seed": seed})

    def chosen(self, folder):
        """Of its settings the one that is best on the validation split."""
        if len(self.settings) == 1:
            return self.settings[0]
        return max(
            self.settings,
            key=lambda settings: self.run(folder, settings, 0)[1]["valid_auc"],
        )


def our_contenders():
    """Name -> `Contender` of each model of this library in the table."""
    return {**{name: _ours(name) for name in SETTINGS}, STATISTICS: _with_statistics()}


def _ours(model):
    return contender(Entry(FAMILY[model].title, model), SETTINGS[model])


def contender(entry, settings=({},)):
    """The `Contender` of an `Entry`, with what else it may be set to."""

    def train(folder, name, chosen):
        config = {"model": entry.model, **entry.changes, **chosen}
        return trained(folder, name, TrainingConfig.from_dict(config))

    return Contender(entry.key, entry.title, settings, train, _score)


def _with_statistics():
    """EDCN on the same rows, with what `edcn prepare --statistics auto` adds."""
    plain = _ours("edcn")

    def train(folder, name, chosen):
        return plain.train(_beside(folder), name, chosen)

    def score(folder, run):
        return plain.score(_beside(folder), run)

    title = "EDCN with `--statistics auto` (by time running, labels known after 1d)"
    return dataclasses.replace(plain, title=title, train=train, score=score)


def _beside(folder):
    """The same split with statistics and crosses, prepared unless that was done."""
    beside = folder / STATISTICS
    name, split_by = folder.name.rsplit("-", 1)
    rows = read_json(folder / "about.json")["rows"]
    seed = read_json(PreparedData(folder / "data").summary)["seed"]
    prepared(beside, name, rows, split_by=split_by, seed=seed, statistics="auto")
    return beside


def _score(folder, run):
    scores = score_run(run, folder / "data")
    return scores.labels, scores.probabilities
