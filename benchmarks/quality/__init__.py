"""How well models predict, on public data: `edcn benchmark quality`."""

import itertools
from pathlib import Path

import numpy as np

from edcn_tf.choices import SPLIT_BY
from edcn_tf.console import progress_bar
from edcn_tf.errors import InputError
from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.comparison import RESAMPLES, bootstrap_auc, interval
from edcn_tf.files import read_json, replaced, write_json

from ..data import DATA, USERS_DATA
from ..runs import chosen, prepared
from .contenders import SETTINGS, STATISTICS, our_contenders
from .figure import draw
from .peers import PEERS, peer_contenders
from .table import section

SPLIT_SEED = 2021
SEEDS = 5
ROWS = 200_000  # of the synthetic log
# Data set and split; the rows of the synthetic log have no time.
PARTS = (
    *itertools.product(("movielens", "flights"), ("chance", "time")),
    ("synthetic", "chance"),
    ("frappe_x1", "chance"),  # as BARS did
    *itertools.product(("open_bandit",), ("chance", "time")),
)
MODELS = (*SETTINGS, STATISTICS, *PEERS)  # in the table's order
OURS = "edcn"


def benchmark_quality(
    out, seeds=SEEDS, rows=ROWS, peers=None, data=None, split_by=None, models=None
):
    """Trains each model on each data set, split and seed; prints and keeps the table.

    Each is trained until its validation AUC no longer rises, and the best epoch is
    judged on the test split, once. The split is the same for all seeds, which are of
    weights, dropout and order. A directory that holds an earlier, interrupted call's
    runs is gone on with, and the lines of its table that are not asked for stay.

    Args:
        out: Directory that gets data, runs, `quality.md`, `quality.svg` (what EDCN is
            ahead by) and `quality.json`.
        seeds: Number of seeds.
        rows: Rows of the synthetic log.
        peers: Directory of the peers' virtual environments, which are made there if
            they are not yet; without it, no peers are measured.
        data: Names of the data sets; by default all whose files are there.
        split_by: `"chance"` or `"time"`; by default both.
        models: Names of the models beside EDCN; by default all.

    Raises:
        InputError: If the directory has runs of other rows or settings, for an unknown
            data set or model, and for a peer without `peers`.
    """
    out = Path(out)
    parts = _parts(data, split_by)
    contenders = _contenders(models, peers)
    about = {"split_seed": SPLIT_SEED, "seeds": seeds, "resamples": RESAMPLES}
    titles, earlier = _earlier(out / "quality.json", about)
    titles |= {name: contender.title for name, contender in contenders.items()}
    titles = _ordered(titles, MODELS)
    results = dict(earlier)
    with progress_bar("Training", len(parts) * len(contenders), unit="") as bar:
        for name, split_by in parts:
            folder = out / f"{name}-{split_by}"
            best = prepared(folder, name, rows, split_by=split_by, seed=SPLIT_SEED)
            judged = {}
            for model, contender in contenders.items():
                judged[model] = judged_on(folder, contender, seeds)
                bar.update(1)
            result = compared(judged)
            result["models"] = _with_earlier(folder.name, result["models"], earlier)
            results[folder.name] = {
                "title": f"{DATA[name].title}; split by {split_by}",
                "best_possible_auc": best,
                **result,
            }
    results = _ordered(results, [f"{name}-{split_by}" for name, split_by in PARTS])
    write_json(out / "quality.json", {**about, "titles": titles, "results": results})
    text = "\n".join(section(result, titles, OURS) for result in results.values())
    draw(out / "quality.svg", results, titles)
    with replaced(out / "quality.md") as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)


def _parts(data, split_by):
    """The data sets and splits that are asked for and can be."""
    names = chosen(data, dict.fromkeys(name for name, _ in PARTS))
    if not data:
        for name, users in USERS_DATA.items():
            if name in names and not users.is_there():
                names.remove(name)
                print(f"{name} is left out: its files are not there (--help: where)")
    if split_by not in (None, *SPLIT_BY):
        raise InputError(f"split_by must be one of {SPLIT_BY}. Received: {split_by!r}")
    parts = [(n, by) for n, by in PARTS if n in names and split_by in (None, by)]
    if not parts:
        raise InputError(
            f"No data set that is asked for has a split by {split_by}. "
            f"Received: {', '.join(names)}"
        )
    return parts


def _contenders(models, peers):
    """Name -> `Contender` of EDCN and of those that are asked for."""
    ours = our_contenders()
    unknown = {*(models or ())} - {*MODELS}
    if unknown:
        raise InputError(
            f"There is no model {min(unknown)!r} to compare; known are "
            f"{', '.join(MODELS)}"
        )
    asked = [name for name in PEERS if not models or name in models]
    if models and asked and not peers:
        raise InputError(f"{asked[0]} is a peer, which needs --peers DIR")
    wanted = {*(models or ours), OURS}
    found = {name: contender for name, contender in ours.items() if name in wanted}
    return {**found, **(peer_contenders(peers, asked) if peers else {})}


def _earlier(path, about):
    """Titles and results of an earlier call's `quality.json`, if it was `about` this.

    Figures of other seeds cannot stand in a table with these, as all are paired.
    """
    if not path.exists():
        return {}, {}
    known = read_json(path)
    if "titles" in known and all(known[key] == about[key] for key in about):
        return known["titles"], known["results"]
    print(f"{path}: is of other seeds, or of an earlier version; it is written anew")
    return {}, {}


def _with_earlier(part, models, earlier):
    """A split's figures with those of the models that this call has left alone."""
    before = earlier.get(part, {}).get("models", {})
    left = {name: figures for name, figures in before.items() if name not in models}
    if left and before[OURS] != models[OURS]:
        print(f"{part}: {', '.join(left)} left out, which another EDCN was beside")
        left = {}
    return _ordered({**left, **models}, MODELS)


def _ordered(found, order):
    """A dict in an order of its keys; those of none come last."""
    places = {name: place for place, name in enumerate(order)}
    return dict(sorted(found.items(), key=lambda item: places.get(item[0], len(order))))


def judged_on(folder, contender, seeds):
    """A contender's figures on a split: of each seed, a list by name."""
    settings = contender.chosen(folder)
    runs = [contender.run(folder, settings, seed) for seed in range(seeds)]
    scores = [_scores(folder, contender, run) for run, _ in runs]
    return {
        "settings": settings,
        "settings_tried": len(contender.settings),
        "valid_auc": [result["valid_auc"] for _, result in runs],
        "auc": [metrics.auc(*score) for score in scores],
        "log_loss": [metrics.log_loss(*score) for score in scores],
        "training_seconds": [result["training_seconds"] for _, result in runs],
        "scores": scores,
    }


def _scores(folder, contender, run):
    """Labels and probabilities of the test rows, which each run reads once."""
    path = run / "test.npz"
    if not path.exists():
        labels, probabilities = contender.score(folder, run)
        with replaced(path) as partial:
            np.savez(partial, labels=labels, probabilities=probabilities)
    with np.load(path) as file:
        return file["labels"], file["probabilities"]


def compared(judged, ours=OURS):
    """The figures of a split with what one model is ahead by, and no scores any more.

    All models and seeds see the same resamples of the test rows, and seeds are paired:
    the difference is that of the seeds' mean AUC.
    """
    scores = {name: figures.pop("scores") for name, figures in judged.items()}
    [labels, *others] = [labels for pairs in scores.values() for labels, _ in pairs]
    if any((each != labels).any() for each in others):
        raise AssertionError("models have scored the test rows in different orders")
    seeds = len(scores[ours])
    probabilities = [score for pairs in scores.values() for _, score in pairs]
    resampled = bootstrap_auc(labels, np.array(probabilities)).T  # [models * seeds, R]
    resampled = resampled.reshape(len(scores), seeds, -1).mean(axis=1)
    resampled = dict(zip(scores, resampled))
    for name, figures in judged.items():
        if name != ours:
            ahead = np.mean(judged[ours]["auc"]) - np.mean(figures["auc"])
            low, high = interval(resampled[ours] - resampled[name])
            figures["ahead"] = {"auc": float(ahead), "low": low, "high": high}
    return {
        "test_rows": len(labels),
        "click_rate": float(labels.mean()),
        "models": judged,
    }
