"""Models with a user's history beside those without: `edcn benchmark histories`."""

from pathlib import Path

import numpy as np

from edcn_tf.console import progress_bar
from edcn_tf.files import replaced, write_json
from edcn_tf.models import FAMILY
from edcn_tf.models.parts import HISTORIES

from .quality import SPLIT_SEED, compared, judged_on
from .quality.contenders import LINEAR, contender
from .quality.peers import peers_with_history
from .quality.table import table_of
from .runs import Entry, prepared

SEEDS = 3
NAME, SPLIT_BY = "movielens", "time"
KINDS = ("pooling", *HISTORIES)


def contenders(peers=None):
    """Name of a line -> whether its rows have a history, and its `Contender`."""
    lines = {}
    for model in ("logistic_regression", "dcn", "deepfm", "edcn"):
        title, settings = FAMILY[model].title, ({},)
        if model == "logistic_regression":
            settings = LINEAR
        plain = Entry(f"{title}, no history", model)
        lines[f"{model} without"] = False, contender(plain, settings)
        pooled = Entry(f"{title}, history pooled", model)
        lines[f"{model} pooling"] = True, contender(pooled, settings)
    for kind in HISTORIES:
        entry = Entry(f"EDCN, history by {kind}", "edcn", {"history": kind})
        lines[f"edcn {kind}"] = True, contender(entry)
    for model, member in FAMILY.items():
        if member.needs_history:
            lines[model] = True, contender(Entry(member.title, model))
    if peers:
        for name, peer in peers_with_history(peers).items():
            lines[name] = True, peer
    return lines


def benchmark_histories(out, seeds=SEEDS, peers=None):
    """Trains each line of the table on MovieLens, split by time; a table.

    A history is what the user rated 4 or more before, with the time since. The test
    rows are the same with histories and without. The protocol is that of
    `edcn benchmark quality`, whose directory has the data without histories already;
    a directory that holds an earlier, interrupted call's runs is gone on with.

    Args:
        out: Directory that gets data, runs, `histories.md` and `histories.json`.
        seeds: Number of seeds, of weights, dropout and order.
        peers: Directory of the peers' virtual environments, which are made there if
            they are not yet; without it, no peers are measured.

    Raises:
        InputError: If the directory has runs of other settings.
    """
    out = Path(out)
    folders = {
        False: out / f"{NAME}-{SPLIT_BY}",
        True: out / f"{NAME}-history-{SPLIT_BY}",
    }
    for history, folder in folders.items():
        prepared(folder, NAME, split_by=SPLIT_BY, seed=SPLIT_SEED, history=history)
    lines, judged = contenders(peers), {}
    with progress_bar("Training", len(lines)) as bar:
        for name, (history, each) in lines.items():
            judged[name] = judged_on(folders[history], each, seeds)
            bar.update(1)
    # The kind of history that EDCN is best with on the validation split.
    ours = max(
        (f"edcn {kind}" for kind in KINDS),
        key=lambda name: np.mean(judged[name]["valid_auc"]),
    )
    titles = {name: each.title for name, (_, each) in lines.items()}
    result = compared(judged, ours)
    write_json(
        out / "histories.json",
        {"split_seed": SPLIT_SEED, "seeds": seeds, "ours": ours, **result},
    )
    text = (
        f"{result['test_rows']:,} test rows, {result['click_rate']:.1%} clicks\n\n"
        + table_of(result["models"], titles, f'"{titles[ours]}"')
    )
    with replaced(out / "histories.md") as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)
