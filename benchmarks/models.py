"""Every model that needs no history, on two data sets: `edcn benchmark models`."""

from pathlib import Path

from edcn_tf.config import TrainingConfig
from edcn_tf.console import progress_bar
from edcn_tf.demo.data import DATA
from edcn_tf.directories import PreparedData
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import replaced
from edcn_tf.models import FAMILY
from edcn_tf.models.flops import count_flops

from .runs import Entry, markdown, mean, prepared, tested

DATA = {name: DATA[name] for name in ("movielens", "synthetic")}
ROWS = 60_000
SEEDS = 3
# What every neural model gets on a data set, and the linear one, as in `edcn demo`;
# nothing is tuned for one of them alone.
SETTINGS = {
    name: {
        "logistic_regression": data.runs["logistic_regression"],
        "others": {
            **data.runs["edcn"],
            "linear_l2": data.runs["logistic_regression"]["l2"],
        },
    }
    for name, data in DATA.items()
}
BRIDGE, GATE = {"bridge": "hadamard"}, {"gate": "softmax"}
# Those that the paper gives bridges and gates in its tables 3 and 4.
PARALLEL = ("deepfm", "xdeepfm", "autoint_plus", "dcn", "dcn_v2")


def entries():
    """Each member; parallel ones with a bridge, with gates, with both; EDCN's kin."""
    lines = []
    for name, member in FAMILY.items():
        if member.needs_history:
            continue  # `edcn benchmark histories` has these
        lines.append(Entry(member.title, name))
        if name not in PARALLEL:
            continue
        # Gates without bridges stand on the input, as in the paper's table 4.
        on_input = {**GATE, "gate_layers": "input"}
        lines.append(Entry(f"{member.title} + bridge", name, BRIDGE))
        lines.append(Entry(f"{member.title} + gates", name, on_input))
        if name != "dcn":  # which is then EDCN
            both = {**BRIDGE, **GATE}
            lines.append(Entry(f"{member.title} + both", name, both))
    for title, changes in [
        ("LHUC gates", {"gate": "lhuc"}),
        ("pyramid", {"deep_units": [128, 64, 32]}),
        ("unequal widths", {"embedding_dim": "auto"}),
    ]:
        lines.append(Entry(f"EDCN, {title}", "edcn", changes))
    return lines


def benchmark_models(out, seeds=SEEDS, rows=ROWS):
    """Trains each line of the table on each data set and seed, and prints the table.

    A directory that holds an earlier, interrupted call's runs is gone on with. The
    split is the same for all seeds, which are of weights, dropout and order.

    Args:
        out: Directory for data, runs and figures.
        seeds: Number of seeds.
        rows: Rows of the synthetic log.
    """
    out = Path(out)
    lines = entries()
    best = {name: prepared(out / name, name, rows) for name in DATA}
    todo = [(e, d, s) for s in range(seeds) for e in lines for d in DATA]
    with progress_bar("Training", len(todo)) as bar:
        for entry, data, seed in todo:
            _figures(out / data, entry, data, seed)
            bar.update(1)
    table = _table(out, lines, best, seeds)
    with replaced(out / "models.md") as partial:
        partial.write_text(table, encoding="utf-8")
    print(table)


def _figures(folder, entry, data, seed):
    return tested(folder, f"{entry.key}-{seed}", _config(entry, data, seed))


def _config(entry, data, seed=0):
    kind = entry.model if entry.model in SETTINGS[data] else "others"
    settings = {**SETTINGS[data][kind], "model": entry.model, "seed": seed}
    return TrainingConfig.from_dict({**settings, **entry.changes})


def _size(folder, entry, data):
    """Parameters of a line's model beside embeddings, and its operations an example."""
    spec = FeatureSpec.load(PreparedData(folder / "data").features)
    model = _config(entry, data).build(spec)
    embedded = sum(e.count_params() for e in model.embeddings)
    return model.count_params() - embedded, sum(count_flops(model).values())


def _table(out, lines, best, seeds):
    heads = ["model", "formula", "`edcn train --set`", "parameters", "FLOPs"]
    heads += [f"{name}: test AUC" for name in DATA]
    table = [heads, ["---"] * 3 + ["---:"] * (len(heads) - 3)]
    for entry in lines:
        runs = {
            data: [_figures(out / data, entry, data, seed) for seed in range(seeds)]
            for data in DATA
        }
        first = next(iter(DATA))
        cells = [entry.title, FAMILY[entry.model].source, f"`{entry.configuration}`"]
        cells += [f"{number:,}" for number in _size(out / first, entry, first)]
        for figures in runs.values():
            cells.append(mean(figure["auc"] for figure in figures))
        table.append(cells)
    known = [f"{auc:.4f} on {name}" for name, auc in best.items() if auc]
    return f"{markdown(table)}\nBest possible test AUC: {', '.join(known)}.\n"
