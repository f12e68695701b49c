"""A search's trials as a table: `trials.csv`."""

import csv
import dataclasses
import math

from edcn_tf.config import setting_text
from edcn_tf.files import replaced

from ..results import TrialResult

FIELDS = [f.name for f in dataclasses.fields(TrialResult) if f.name != "settings"]
PREFIX = "settings."  # as a search may well choose `epochs`, which is a field too


def write_trials(trials, path):
    """Writes a row a trial, whole or not at all.

    A column a field of `TrialResult`, and `settings.NAME` for each hyper-parameter that
    was active in any trial. A cell is empty where there is no such number, and where
    the hyper-parameter was not active. Lists, null, true and false are JSON.

    Args:
        trials: `TrialResult`s; their order is kept.
        path: Of the CSV file, which is replaced if it is there.
    """
    names = settings_names(trials)
    with (
        replaced(path) as partial,
        open(partial, "w", encoding="utf-8", newline="") as file,
    ):
        rows = csv.writer(file)
        rows.writerow([*FIELDS, *(PREFIX + name for name in names)])
        for trial in trials:
            fields = (_cell(getattr(trial, name)) for name in FIELDS)
            settings = (
                setting_text(trial.settings[name]) if name in trial.settings else ""
                for name in names
            )
            rows.writerow([*fields, *settings])


def settings_names(trials):
    """Every hyper-parameter that was active in any trial, in order of appearance."""
    return list(dict.fromkeys(name for trial in trials for name in trial.settings))


def _cell(value):
    is_nan = isinstance(value, float) and math.isnan(value)
    return "" if value is None or is_nan else value
