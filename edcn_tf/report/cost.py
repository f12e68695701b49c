"""The section of a report that says where time and operations go."""

import time

import numpy as np
from matplotlib.ticker import MaxNLocator

from edcn_tf.models.flops import count_flops, parameters_by_layer
from edcn_tf.report.html import (
    breakable,
    folded,
    grid,
    image,
    note,
    scrolled,
    short,
    table,
)
from edcn_tf.report.plotting import BLUE, SIZE, style, subplots, svg

LAYERS_DRAWN = 16
TIMED_ROWS = 1024
CALLS = 20


@style()
def cost(run):
    """Seconds of each epoch, operations of each layer, time of one batch."""
    figures, notes = [], ""
    if run.epochs is None or not run.result:
        notes += note(
            "There is no time of epochs, since history.csv is missing or damaged, or "
            "training has not ended."
        )
    else:
        figures.append(_epochs(run))
    model = run.scorer.model
    try:
        flops = count_flops(model)
    except ValueError as error:
        notes += note(f"There are no operations of layers: {error}.")
        return grid(*figures) + notes + _measured(run)
    figures.append(_layers(model, flops))
    parameters = parameters_by_layer(model)
    rows = [
        (breakable(_layer_name(model, name)), f"{parameters[name]:,}", f"{count:,}")
        for name, count in flops.items()
        if count or parameters[name]
    ]
    total = sum(parameters.values()), sum(flops.values())
    rows.append(("<b>all</b>", *(f"{each:,}" for each in total)))
    heads = ["layer", "parameters", "FLOPs an example"]
    details = folded("All layers", scrolled(table("setting", heads, rows)))
    return grid(*figures) + notes + _measured(run) + details


def _epochs(run):
    speed = run.epochs["examples_per_second"]
    seconds = run.result["training_seconds"] / speed / np.sum(1 / speed)
    epochs = run.epochs["epoch"] + 1
    figure, (axes,) = subplots(1)
    axes.bar(epochs, seconds, color=BLUE)
    axes.set(xlabel="epoch", ylabel="seconds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    slowest = np.argmax(seconds)
    return image(
        svg(figure),
        f"Seconds of training by epoch; the slowest is epoch {epochs[slowest]:.0f}.",
        f"Training took {run.result['training_seconds']:.3g} s, validation not "
        f"counted: {np.median(seconds):.2g} s an epoch (median), most in epoch "
        f"{epochs[slowest]:.0f}, {seconds[slowest]:.2g} s. The first epoch also builds "
        "TensorFlow's graph; what is finer than an epoch was not recorded.",
    )


def _layers(model, flops):
    names = sorted(flops, key=flops.get, reverse=True)
    names = [name for name in names if flops[name]]
    shown = names[:LAYERS_DRAWN]
    total = sum(flops.values())
    shares = [100 * flops[name] / total for name in shown]
    labels = [short(_layer_name(model, name)) for name in shown]
    if len(names) > len(shown):
        labels.append(f"{len(names) - len(shown)} others")
        shares.append(100 - sum(shares))
    height = max(SIZE[1], 0.9 + 0.24 * len(labels))
    figure, (axes,) = subplots(1, height)
    axes.barh(np.arange(len(labels)), shares, color=BLUE, height=0.65)
    axes.set_yticks(np.arange(len(labels)), labels, fontsize="small")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("% of the operations")
    return image(
        svg(figure),
        f"Floating-point operations by layer; most are of {labels[0]}, "
        f"{shares[0]:.0f} %.",
        f"Floating-point operations by layer, of {total:,} for one example at "
        "inference. Lookups of embeddings count none: they move memory.",
    )


def _layer_name(model, name):
    return "outside of layers" if name == model.name else name


def _measured(run):
    ids = run.sample.ids[:TIMED_ROWS]
    run.scorer.predict(ids)  # traced by now, but not warm
    seconds = []
    for _ in range(CALLS):
        began = time.perf_counter()
        run.scorer.predict(ids).numpy()
        seconds.append(time.perf_counter() - began)
    median = np.median(seconds)
    return (
        f'<p class="note measured">Measured while this page was written: '
        f"{1000 * median:.3g} ms to score a batch of {len(ids):,} rows of ids, "
        f"{len(ids) / median:,.0f} rows/s (median of {CALLS} calls on this machine, "
        "without reading and encoding).</p>\n"
    )
