"""Boosted trees on rows in a file; run by a Python that has CatBoost and LightGBM.

    python with_trees.py VALUES SCORES SETTINGS

VALUES is what `raw_values.py` writes; SCORES an .npz file that gets `valid` and `test`,
the probabilities of these rows, `training_seconds`, and `trees`, how many there are;
SETTINGS is JSON: `library` ("catboost" or "lightgbm"), `seed`, `has_time`, and what
else the library's training takes.

Trees are added until the log loss of the validation rows has not fallen for PATIENCE
trees; those up to the best count. Where rows have a weight, it counts in training and
in that loss. With `has_time` training rows go in the order of their times, so that
CatBoost's statistics of a category are of earlier rows; LightGBM has no order.
"""

import json
import os
import sys
import time

import numpy as np
import pandas as pd

TREES = 2000  # at most; CatBoost's learning rate follows from it too
PATIENCE = 100
MISSING = ""  # which no value is


def main():
    values_file, scores_file, settings = sys.argv[1:]
    settings = json.loads(settings)
    train = {"catboost": _catboost, "lightgbm": _lightgbm}[settings.pop("library")]
    in_order = settings.pop("has_time")
    with np.load(values_file) as file:
        fields = json.loads(str(file["fields"]))
        train_order = np.arange(len(file["train_labels"]))
        if in_order:
            train_order = np.argsort(file["train_times"], kind="stable")
        data = {
            split: _table(file, split, fields, order)
            for split, order in [
                ("train", train_order),
                *(("valid", slice(None)), ("test", slice(None))),
            ]
        }
    began = time.perf_counter()
    predict, trees = train(data, fields, in_order, settings)
    seconds = time.perf_counter() - began
    scores = {split: predict(data[split][0]) for split in ("valid", "test")}
    np.savez(scores_file, training_seconds=seconds, trees=trees, **scores)


def _table(file, split, fields, order):
    """Rows of a split as a frame, with their labels and weights (or None)."""
    columns = {}
    for number, field in enumerate(fields):
        column = file[f"{split}_{number}"][order]
        if field["values"] is not None:
            column = pd.Categorical.from_codes(column, field["values"])
        columns[field["name"]] = column
    weights = f"{split}_weights"
    return (
        pd.DataFrame(columns),
        file[f"{split}_labels"][order],
        file[weights][order] if weights in file.files else None,
    )


def _catboost(data, fields, in_order, settings):
    import catboost

    names = [field["name"] for field in fields if field["values"] is not None]

    def pool(rows, labels=None, weights=None):
        rows = rows.copy()
        for name in names:  # a missing category has to be one
            rows[name] = rows[name].cat.add_categories(MISSING).fillna(MISSING)
        return catboost.Pool(rows, labels, weight=weights, cat_features=names)

    model = catboost.CatBoostClassifier(
        iterations=TREES,
        early_stopping_rounds=PATIENCE,
        has_time=in_order,
        random_seed=settings.pop("seed"),
        thread_count=_processors(),
        allow_writing_files=False,
        verbose=False,
        **settings,
    )
    model.fit(pool(*data["train"]), eval_set=pool(*data["valid"]))
    trees = model.get_best_iteration() + 1
    return lambda rows: model.predict_proba(pool(rows))[:, 1], trees


def _lightgbm(data, fields, in_order, settings):
    import lightgbm

    rows, labels, weights = data["train"]
    train = lightgbm.Dataset(rows, labels, weight=weights)
    rows, labels, weights = data["valid"]
    valid = lightgbm.Dataset(rows, labels, weight=weights, reference=train)
    options = {
        "objective": "binary",
        "metric": "binary_logloss",
        "num_threads": _processors(),
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
        **settings,
    }
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    model = lightgbm.train(options, train, TREES, [valid], callbacks=[stop])
    return model.predict, model.best_iteration


def _processors():
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
