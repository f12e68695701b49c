"""The best trials trained anew with other seeds, beside the default."""

import dataclasses
from pathlib import Path
from statistics import fmean

from edcn_tf.console import progress_bar
from edcn_tf.directories import PreparedData
from edcn_tf.errors import InputError
from edcn_tf.files import read_json, write_json
from edcn_tf.records.writing import record_files

from .process import ProcessError, run_apart
from .results import Retrained
from .trial import TEST, Task, run_task

DEFAULT = "default"


def retrain(
    directory, candidates, objective, *, data, encoded, seeds, max_parameters=None
):
    """Trains settings to their end, each with several seeds.

    What an earlier, interrupted call has done is not done again.

    Args:
        directory: Of the runs: `DIRECTORY/NAME/seed-S`.
        candidates: Name -> number of the trial (None for the default) and
            `TrainingConfig`.
        objective: `Objective`.
        data: Directory that `prepare` made.
        encoded: Directory that `encode_rows` made of it.
        seeds: A list.
        max_parameters: A setting whose model has more fails: the default may.

    Returns:
        A list of `Retrained`; one that failed with a seed is left out.
    """
    todo = [(name, seed) for name in candidates for seed in seeds]
    found = {name: [] for name in candidates}
    test = _has_test(data)
    with progress_bar("Training the best anew", len(todo), "run") as bar:
        for name, seed in todo:
            run = Path(directory, name.replace(" ", "-"), f"seed-{seed}")
            config = dataclasses.replace(candidates[name][1], seed=seed)
            task = Task(
                data=str(data),
                encoded=str(encoded),
                run=str(run),
                config=config.to_dict(),
                max_parameters=max_parameters,
                test=test,
            )
            found[name].append(_figures(task, run))
            bar.update(1)
    default = candidates[DEFAULT][1].to_dict()
    return [
        _retrained(name, *candidates[name], default, seeds, figures, objective)
        for name, figures in found.items()
        if all(figures)
    ]


def _figures(task, run):
    """A run's figures, or None if it failed."""
    path = run / "figures.json"
    if path.exists():
        return read_json(path)
    run.parent.mkdir(parents=True, exist_ok=True)
    try:
        figures = run_apart(run_task, task, log=run.with_suffix(".txt"))
    except ProcessError as error:
        print(f"Training anew failed: {error}")
        return None
    write_json(path, figures)
    return figures


def _retrained(name, trial, config, default, seeds, figures, objective):
    def each(key):
        return tuple(f[key] for f in figures if key in f)

    return Retrained(
        name=name,
        trial=trial,
        config={k: v for k, v in config.to_dict().items() if v != default[k]},
        seeds=tuple(seeds),
        valid_auc=each("auc"),
        valid_log_loss=each("log_loss"),
        test_auc=each("test_auc"),
        test_log_loss=each("test_log_loss"),
        latency_ms=fmean(each("latency_ms")),
        parameters=figures[0]["parameters"],
        score=fmean(objective.score(f) for f in figures),
    )


def _has_test(data):
    try:
        return bool(record_files(PreparedData(data).records(TEST)))
    except InputError:
        return False
