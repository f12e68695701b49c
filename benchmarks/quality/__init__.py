"""How well models predict, on public data: `edcn benchmark quality`."""

import itertools
from pathlib import Path

import numpy as np

from edcn_tf.console import progress_bar
from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.comparison import RESAMPLES, bootstrap_auc, interval
from edcn_tf.files import replaced, write_json

from ..data import DATA, USERS_DATA
from ..runs import chosen, markdown, mean, prepared
from .contenders import our_contenders
from .figure import draw
from .peers import peer_contenders

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
OURS = "edcn"


def benchmark_quality(out, seeds=SEEDS, rows=ROWS, peers=None, data=None):
    """Trains each model on each data set, split and seed; prints and keeps the table.

    Each is trained until its validation AUC no longer rises, and the best epoch is
    judged on the test split, once. The split is the same for all seeds, which are of
    weights, dropout and order. A directory that holds an earlier, interrupted call's
    runs is gone on with.

    Args:
        out: Directory that gets data, runs, `quality.md`, `quality.svg` (what EDCN is
            ahead by) and `quality.json`.
        seeds: Number of seeds.
        rows: Rows of the synthetic log.
        peers: Directory of the peers' virtual environments, which are made there if
            they are not yet; without it, no peers are measured.
        data: Names of the data sets; by default all whose files are there.

    Raises:
        InputError: If the directory has runs of other rows or settings, or for an
            unknown data set.
    """
    out = Path(out)
    names = chosen(data, dict.fromkeys(name for name, _ in PARTS))
    if not data:
        for name, users in USERS_DATA.items():
            if name in names and not users.is_there():
                names.remove(name)
                print(f"{name} is left out: its files are not there (--help: where)")
    parts = [part for part in PARTS if part[0] in names]
    contenders = our_contenders()
    if peers:
        contenders.update(peer_contenders(peers))
    results = {}
    with progress_bar("Training", len(parts) * len(contenders), unit="") as bar:
        for name, split_by in parts:
            folder = out / f"{name}-{split_by}"
            best = prepared(folder, name, rows, split_by=split_by, seed=SPLIT_SEED)
            judged = {}
            for model, contender in contenders.items():
                judged[model] = judged_on(folder, contender, seeds)
                bar.update(1)
            results[folder.name] = {
                "title": f"{DATA[name].title}; split by {split_by}",
                "best_possible_auc": best,
                **compared(judged),
            }
    write_json(
        out / "quality.json",
        {
            "split_seed": SPLIT_SEED,
            "seeds": seeds,
            "resamples": RESAMPLES,
            "results": results,
        },
    )
    titles = {name: contender.title for name, contender in contenders.items()}
    text = "\n".join(_section(result, titles) for result in results.values())
    draw(out / "quality.svg", results, titles)
    with replaced(out / "quality.md") as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)


def judged_on(folder, contender, seeds):
    """A contender's figures on a split: of each seed, a list by name."""
    settings = contender.chosen(folder)
    runs = [contender.run(folder, settings, seed) for seed in range(seeds)]
    scores = [_scores(folder, contender, run) for run, _ in runs]
    return {
        "settings": settings,
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


def table_of(models, titles, ours="EDCN"):
    """The figures of `compared` as Markdown: a line a model."""
    heads = [
        *("model", "validation AUC", "test AUC", "test log loss"),
        *(f"{ours} is ahead by (95 %)", "seconds"),
    ]
    table = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for name, figures in models.items():
        ahead = figures.get("ahead")
        table.append(
            [
                titles[name],
                *(mean(figures[key]) for key in ("valid_auc", "auc", "log_loss")),
                "{auc:+.4f} ({low:+.4f} to {high:+.4f})".format(**ahead)
                if ahead
                else "",
                f"{np.mean(figures['training_seconds']):.0f}",
            ]
        )
    return markdown(table)


def _section(result, titles):
    """A title and a table, as Markdown."""
    lines = [
        f"**{result['title']}** ({result['test_rows']:,} test rows, "
        f"{result['click_rate']:.1%} positive)\n\n" + table_of(result["models"], titles)
    ]
    best = result["best_possible_auc"]
    if best:
        reached = (np.mean(result["models"][OURS]["auc"]) - 0.5) / (best - 0.5)
        lines.append(
            f"Best possible test AUC: {best:.4f}; EDCN goes {reached:.1%} of the way "
            "there from 0.5.\n"
        )
    return "\n".join(lines)
