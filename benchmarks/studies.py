"""EDCN with one option changed, on real data: `edcn benchmark studies`.

What its paper studies (figures 6 and 7, the temperature, the number of layers), and
what the defaults of this library are made of. Tables 2 to 4 of the paper, other models
without and with bridges and gates, are `edcn benchmark models`.
"""

import statistics
from pathlib import Path

from edcn_tf.config import TrainingConfig
from edcn_tf.console import progress_bar
from edcn_tf.files import replaced, write_json
from edcn_tf.report.plotting import LINES, MARKERS

from .figures import draw_panels
from .quality import SPLIT_SEED
from .runs import Entry, chosen, markdown, mean, prepared, tested

STUDIED = ("movielens", "flights")
SEEDS = 3
DEFAULT = Entry("the default", "edcn")
PANEL = (6.2, 3.6)  # inches


def each(option, *values):
    """An entry for each value of an option."""
    return [Entry(str(value), "edcn", {option: value}) for value in values]


STUDIES = {
    "Bridges (figure 6; the default is hadamard)": each(
        "bridge", "add", "concat", "attention", "attention_components", "none"
    ),
    "Gates (figure 7; the default is softmax with the mean 1, on every layer)": [
        Entry("softmax with the sum 1 (eq. 7)", "edcn", {"gate_scale": False}),
        Entry(
            "softmax with the sum 1, BatchNorm after it",
            "edcn",
            {"gate_scale": False, "gate_batch_norm": "feature"},
        ),
        Entry("softmax, on the input only", "edcn", {"gate_layers": "input"}),
        *each("gate", "none", "lhuc", "squeeze_excitation"),
        *each("gate", "gatenet_scalar", "gatenet_vector", "dense"),
    ],
    "Temperature of the gates (the default is 1)": each(
        "temperature", 0.1, 0.3, 3.0, 10.0, 20.0
    ),
    "Layers (the default is 2)": each("num_layers", 1, 3, 4, 5),
    "What the default is made of": [
        Entry("no L2", "edcn", {"l2": 0.0}),
        Entry("no average of weights", "edcn", {"average_decay": None}),
        Entry("learning rate 0.001", "edcn", {"learning_rate": 1e-3}),
        Entry("no drop of the learning rate", "edcn", {"drops": 0}),
        Entry("no unseen values in training", "edcn", {"unseen_rate": 0.0}),
        Entry("no dropout", "edcn", {"dropout": 0.0}),
        Entry(
            "embeddings start at 0.01",
            "edcn",
            {
                "embeddings_initializer": {
                    "class_name": "RandomNormal",
                    "config": {"stddev": 0.01},
                }
            },
        ),
        Entry("a linear term", "edcn", {"linear": True}),
        Entry("BatchNorm in the deep layers", "edcn", {"deep_batch_norm": True}),
        Entry("width of 16", "edcn", {"embedding_dim": 16}),
        Entry("width by number of values", "edcn", {"embedding_dim": "auto"}),
    ],
    "EDCN as others have it, with our training": each(
        "preset", "paper", "mindspore", "bars"
    ),
}


def benchmark_studies(out, seeds=SEEDS, data=None):
    """Trains EDCN with each option changed on each data set and seed; a table, a plot.

    A directory that holds an earlier, interrupted call's runs is gone on with; that of
    `edcn benchmark quality` has the data already.

    Args:
        out: Directory that gets data, runs, `studies.md`, `studies.json` and
            `studies.svg`.
        seeds: Number of seeds, of weights, dropout and order.
        data: Names of the data sets, of `STUDIED`; all by default.

    Raises:
        InputError: For an unknown data set, or runs of another setting.
    """
    out = Path(out)
    folders = {name: out / f"{name}-chance" for name in chosen(data, STUDIED)}
    for name, folder in folders.items():
        prepared(folder, name, seed=SPLIT_SEED)
    entries = [DEFAULT, *(entry for study in STUDIES.values() for entry in study)]
    figures = {entry.key: {name: [] for name in folders} for entry in entries}
    todo = [(e, name, s) for s in range(seeds) for e in entries for name in folders]
    with progress_bar("Training", len(todo)) as bar:
        for entry, name, seed in todo:
            config = _config(entry, seed)
            judged = tested(folders[name], f"{entry.key}-{seed}", config)
            kept = {key: judged[key] for key in ("valid_auc", "auc", "log_loss")}
            figures[entry.key][name].append(kept)
            bar.update(1)
    about = {"split_seed": SPLIT_SEED, "seeds": seeds}
    write_json(out / "studies.json", {**about, "results": figures})
    parts = [_section("The default", [DEFAULT], figures)]
    parts += [_section(title, study, figures) for title, study in STUDIES.items()]
    text = "\n".join(parts)
    _draw(out / "studies.svg", figures)
    with replaced(out / "studies.md") as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)


def _config(entry, seed):
    return TrainingConfig.from_dict(
        {"model": entry.model, **entry.changes, "seed": seed}
    )


def _ahead(entry, figures, name, key):
    """What an entry is ahead of the default by, of each seed."""
    default = figures[DEFAULT.key][name]
    own = figures[entry.key][name]
    return [one[key] - other[key] for one, other in zip(own, default)]


def _section(title, study, figures):
    """A title and a table, as Markdown."""
    heads = ["EDCN with", "`edcn train --set`"]
    for name in figures[DEFAULT.key]:
        heads += [f"{name}: test AUC", "less the default's", "on validation"]
    table = [heads, ["---", "---"] + ["---:"] * (len(heads) - 2)]
    for entry in study:
        cells = [entry.title, f"`{entry.configuration}`"]
        for name in figures[DEFAULT.key]:
            cells.append(mean(each["auc"] for each in figures[entry.key][name]))
            for key in ("auc", "valid_auc"):
                ahead = statistics.mean(_ahead(entry, figures, name, key))
                cells.append("" if entry is DEFAULT else f"{ahead:+.4f}")
        table.append(cells)
    return f"**{title}**\n\n{markdown(table)}"


def _draw(path, figures):
    """What each change gains or costs: a panel a study, the seeds' mean and range."""
    panels = [(title, study, figures) for title, study in STUDIES.items()]
    draw_panels(path, panels, _draw_study, 2, PANEL, metadata={"Date": None})


def _draw_study(axes, title, study, figures):
    axes.set_title(title.partition(" (")[0], fontsize="medium", loc="left")
    places, names = range(len(study)), list(figures[DEFAULT.key])
    for i, name in enumerate(names):
        ahead = [_ahead(entry, figures, name, "auc") for entry in study]
        heights = [place + 0.4 * (i - (len(names) - 1) / 2) for place in places]
        color = LINES[i][0]
        axes.hlines(heights, [*map(min, ahead)], [*map(max, ahead)], color=color)
        means = [statistics.mean(each) for each in ahead]
        axes.plot(means, heights, MARKERS[i], color=color, label=name)
    axes.set_yticks(places, [entry.title for entry in study])
    axes.axvline(0, color="gray", linewidth=0.8)
    axes.invert_yaxis()
    axes.margins(y=0.15)
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("test AUC less the default's")
    if len(names) > 1:
        axes.legend(fontsize="small")
