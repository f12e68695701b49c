"""Whether BARS' figures of Frappe_x1 come out here: `edcn benchmark bars`."""

import json
from pathlib import Path
from statistics import fmean

from edcn_tf.console import progress_bar
from edcn_tf.directories import PreparedData
from edcn_tf.files import replaced, write_json

from ..runs import markdown, mean, prepared, tested
from .board import BOARD, NETWORK, TRAINING
from .lookups import lookups

NAME = "frappe_x1"
SEEDS = 1
NEAR = 0.001  # AUC within which BARS counts a figure as reproduced


def benchmark_bars(out, seeds=SEEDS):
    """Trains models with BARS' settings and prints their figures beside BARS' own.

    The splits are BARS'. Each model is trained until its validation AUC no longer
    rises, and the best epoch is judged on the test split, once. A directory that holds
    an earlier, interrupted call's runs is gone on with.

    Args:
        out: Directory that gets data, runs, `bars.md` and `bars.json`.
        seeds: Number of seeds, of weights, dropout and order; a figure is their mean.

    Raises:
        InputError: If the data set's files are not there, or the directory has runs of
            other settings.
    """
    out = Path(out)
    folder = out / f"{NAME}-chance"  # as `edcn benchmark quality` has it
    prepared(folder, NAME)
    rows = PreparedData(folder / "data").rows("train")
    judged = {line.title: [] for line in BOARD}
    with progress_bar("Training", seeds * len(BOARD)) as bar:
        for seed in range(seeds):
            for line in BOARD:
                name = f"bars-{line.model}-{seed}"
                figures = tested(folder, name, line.config(rows, seed))
                kept = {key: figures[key] for key in ("valid_auc", "auc", "log_loss")}
                judged[line.title].append(kept)
                bar.update(1)
    counted = lookups(folder / "data")
    result = {"seeds": seeds, "results": judged, "lookups": counted}
    write_json(out / "bars.json", result)
    text = "\n".join([_table(judged, rows), _settings(), _without_models(counted)])
    with replaced(out / "bars.md") as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)


def verdict(difference):
    """What is said of a test AUC that is so much above BARS'."""
    if abs(difference) <= NEAR:
        return "yes"
    return "no, above" if difference > 0 else "no, below"


def _table(judged, rows):
    heads = [
        *("model", "`edcn train --set`", "width", "test AUC", "test log loss"),
        *("BARS' AUC", "BARS' log loss", "difference", "reproduced"),
    ]
    table = [heads, ["---", "---", *["---:"] * (len(heads) - 3), "---"]]
    for line in BOARD:
        figures, config = judged[line.title], line.config(rows, 0).to_dict()
        auc = [each["auc"] for each in figures]
        difference = fmean(auc) - line.auc
        own = {"model": line.model, "l2": config["l2"], **line.options}
        own = {key: config[key] for key in own}
        table.append(
            [
                line.title,
                f"`{_text(own)}`",
                str(config.get("embedding_dim", 1)),
                mean(auc),
                mean(each["log_loss"] for each in figures),
                f"{line.auc:.4f}",
                f"{line.log_loss:.4f}",
                f"{difference:+.4f}",
                verdict(difference),
            ]
        )
    return markdown(table)


def _settings():
    lines = [f"All have `{_text(TRAINING)}`, all but LR `{_text(NETWORK)}`."]
    several = [f"{line.title} {line.runs:.4f}" for line in BOARD if line.runs]
    lines.append(
        "BARS' figures are those of its board, where it ran five seeds that of the "
        f"best; their mean is {', '.join(several)}."
    )
    lines += [f"{line.title}: {line.differs}." for line in BOARD if line.differs]
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _without_models(counted):
    names = {
        "popularity": "how often the app was used",
        "pair": "whether this user used the app",
        "pair_popularity": "that, then how often it was used",
        "situation": "how many uses the situation lacks, one to two unused apps",
        "cost": "how often the app was used at this row's cost",
        "pair_cost": "whether this user used it, then that",
    }
    table = [["without a model, counted in the training split", "test AUC"]]
    table.append(["---", "---:"])
    table += [[title, f"{counted[name]:.4f}"] for name, title in names.items()]
    return (
        f"{markdown(table)}\n{counted['decided']:.1%} of the positives are of a user "
        f"and an app that training has as a positive; {counted['both']} such pairs are "
        "a positive there and a negative too.\n"
    )


def _text(settings):
    """As arguments of `edcn train --set`."""
    return " ".join(
        f"{key}={json.dumps(value, separators=(',', ':')).strip(chr(34))}"
        for key, value in settings.items()
    )
