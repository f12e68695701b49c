"""What a search tells: a line a trial, and in the end the best setting."""

import sys

import yaml

from edcn_tf.config import TrainingConfig
from edcn_tf.errors import InputError
from edcn_tf.files import replaced

from .report.analysis import completed
from .report.answer import answer, spread
from .report.page import write_page
from .report.trials_table import write_trials
from .results import COMPLETED
from .retraining import DEFAULT
from .tuner import read_results

BEST = "best.yaml"


class Lines:
    """Prints a line for each trial that has ended.

    Args:
        directory: Of the search.
        trials: How many there will be.
        objective: `Objective`.
    """

    def __init__(self, directory, trials, objective):
        self.trials, self.objective = trials, objective
        self.stdout = sys.stdout  # KerasTuner is kept from it later
        earlier = read_results(directory)
        self.completed = completed(earlier)
        if earlier:
            print(f"{directory}: going on after {len(earlier)} trials")

    def __call__(self, result):
        told = f"failed: {result.reason}"
        if result.status == COMPLETED:
            self.completed.append(result)
            best = self.objective.best(self.completed)[0]
            value = getattr(result, self.objective.figure)
            told = (
                f"{self.objective.title} {value:.4f} after {result.epochs} epochs "
                f"(best: trial {best.number})"
            )
        print(
            f"{result.number + 1}/{self.trials}  trial {result.number}: {told}; "
            f"{result.ended - result.began:.0f} s; {_settings(result.settings)}",
            file=self.stdout,
            flush=True,
        )


def varied(space, settings):
    """Which of the values that were set the space varies all the same, in a line.

    Args:
        space: `SearchSpace`.
        settings: Key of `config.yaml` -> what the user set for it.

    Returns:
        The line, or None.
    """
    asked = {key: settings[key] for key in settings if key in space.parameters}
    if not asked:
        return None
    first = {k: v for k, v in space.defaults().items() if k in asked}
    begins = f"; the first trial has {_settings(first)}" if first else ""
    return (
        f"Not kept in all trials, since the space varies them: {_settings(asked)}"
        f"{begins}. To keep a value, give a --space without its key"
    )


def best_candidates(results, space, objective, number):
    """The default and the best trials, each setting once.

    Args:
        results: `TrialResult`s.
        space: `SearchSpace`.
        objective: `Objective`.
        number: How many trials at most.

    Returns:
        Name -> number of the trial (None for the default) and `TrainingConfig`, the
        default first and then the best.
    """
    candidates = {DEFAULT: (None, TrainingConfig.from_dict(space.base))}
    for result in objective.best(completed(results)):
        config = space.config_of(result.settings)
        if config not in [known for _, known in candidates.values()]:
            candidates[f"trial {result.number}"] = (result.number, config)
        if len(candidates) > number:
            break
    return candidates


def write_outcome(directory, candidates, objective, retrained, seconds):
    """Writes `trials.csv`, `report.html` and, last of all, `best.yaml`.

    The best setting is that with the best mean score when trained anew; without that,
    the one of the best trial.

    Args:
        directory: Of the search.
        candidates: What `best_candidates` gave.
        objective: `Objective`.
        retrained: List of `Retrained`.
        seconds: How long the search took.

    Returns:
        The best `TrainingConfig`.

    Raises:
        InputError: If no trial was completed.
    """
    results = read_results(directory)
    write_trials(results, directory / "trials.csv")
    write_page(
        directory / "report.html",
        title=f"Search {directory.absolute().name}",
        trials=results,
        retrained=retrained,
        objective=objective,
        seconds=seconds,
    )
    if not completed(results):
        raise InputError(f"{directory}: no trial was completed, so there is no best")
    if retrained:
        ranked = objective.best(retrained)
        best = ranked[0].name
        for one in ranked:
            print(_retrained_line(one, objective))
    else:
        best = list(candidates)[min(1, len(candidates) - 1)]  # after the default
    print(answer(results, retrained, objective))
    _, config = candidates[best]
    text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
    with replaced(directory / BEST) as partial:
        partial.write_text(f"# {best} of a search: see report.html\n{text}", "utf-8")
    return config


def _retrained_line(one, objective):
    figure = objective.figure
    line = f"{one.name:<10} {objective.title} {spread(getattr(one, f'valid_{figure}'))}"
    tested = getattr(one, f"test_{figure}")
    if tested:
        line += f", test {spread(tested)}"
    return f"{line} ({len(one.seeds)} seeds)  {_settings(one.config)}"


def _settings(settings):
    return " ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in settings.items()
    )
