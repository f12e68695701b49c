"""The figures of a search: seeds, time, cost and memory. Each gives HTML."""

import math
from statistics import fmean

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from edcn_tf.report.html import capital, image, short
from edcn_tf.report.plotting import BLUE, GREY, ORANGE, VERMILLION, style, subplots, svg

from .analysis import (
    best_so_far,
    completed,
    figure_name,
    limits,
    pareto_front,
    values_of,
)

FRONT_LABELS = 12
COSTS = {"latency_ms": "latency in ms", "parameters": "parameters"}


@style()
def seeds(retrained, searched, objective, split):
    """Each seed of each setting as a dot, on one split.

    Args:
        retrained: `Retrained`s, the default among them or not.
        searched: Number of a trial -> its figure in the search; empty for a split that
            the search did not score.
        objective: `Objective`.
        split: `"validation"` or `"test"`.
    """
    figure = figure_name(objective)
    chart, (axes,) = subplots(1, 1.3 + 0.42 * len(retrained))
    for place, one in enumerate(retrained):
        values = values_of(one, objective, split)
        mean = fmean(values)
        color = GREY if one.trial is None else BLUE
        axes.plot(values, [place] * len(values), "o", color=color, alpha=0.7)
        axes.plot([mean] * 2, [place - 0.3, place + 0.3], color=color, linewidth=2.5)
        if one.trial in searched:
            diamond = {"marker": "D", "facecolor": "white", "edgecolor": VERMILLION}
            axes.scatter(searched[one.trial], place, s=40, zorder=3, **diamond)
        if one.trial is None:
            axes.axvline(mean, color=GREY, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(retrained)), [short(one.name) for one in retrained])
    axes.set_ylim(len(retrained) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{split} {figure}")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.get_major_formatter().set_useOffset(False)
    search = "; a diamond is the same setting's figure in the search" * bool(searched)
    return image(
        svg(chart),
        f"The {split} {figure} of each seed of {len(retrained)} settings.",
        f"{split.capitalize()} {figure}: a dot is a seed, the bar their mean; the "
        f"dotted line is the default's mean{search}.",
    )


@style()
def scores_in_order(trials, objective, title):
    """The score of each trial, and the best so far."""
    numbers = [trial.number for trial in trials]
    done = {trial.number: trial for trial in completed(trials)}
    scores = [t.score if t.number in done else math.nan for t in trials]
    shown = limits(scores, objective.higher_is_better)
    chart, (axes,) = subplots(1)
    for trial in done.values():
        if trial.continues in done:
            pair = [done[trial.continues], trial]
            clipped = np.clip([t.score for t in pair], *shown)
            axes.plot([t.number for t in pair], clipped, color="#aaaaaa", linewidth=0.8)
    best = best_so_far(scores, objective.higher_is_better)
    axes.step(numbers, best, where="post", color=ORANGE, linewidth=2)
    is_far = draw_scores(axes, list(done), list(done.values()), shown)
    failed = [number for number in numbers if number not in done]
    if failed:
        bottom = axes.get_xaxis_transform()
        crosses = {"marker": "x", "color": VERMILLION, "transform": bottom, "zorder": 3}
        axes.scatter(failed, [0.03] * len(failed), clip_on=False, **crosses)
    axes.set(xlabel="trial", ylabel=title, ylim=shown)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    winner = objective.best(done.values())[0]
    axes.annotate(
        f"trial {winner.number}",
        (winner.number, winner.score),
        xytext=(0, -12 if objective.higher_is_better else 8),
        textcoords="offset points",
        ha="center",
        fontsize=9,
    )
    epochs = {trial.epochs for trial in done.values()}
    parts = ["a dot is a trial, the line the best so far"]
    if len(epochs) > 1:
        parts.append(f"the larger, the more epochs ({min(epochs)} to {max(epochs)})")
    if any(trial.continues in done for trial in done.values()):
        parts.append("a thin line leads to the trial that went on with it")
    if failed:
        parts.append(f"crosses: the {len(failed)} that failed")
    if is_far:
        parts.append(far_note(is_far))
    return image(
        svg(chart),
        f"Score by trial; the best, {winner.score:.4f}, is that of trial "
        f"{winner.number}.",
        f"{capital(title)}: {'; '.join(parts)}.",
    )


@style()
def cost(trials, objective, key):
    """The figure against latency or parameters, with the Pareto front."""
    costs = [getattr(trial, key) for trial in trials]
    figures = [getattr(trial, objective.figure) for trial in trials]
    shown = limits(figures, objective.higher_is_better)
    front = pareto_front(costs, figures, objective.higher_is_better)
    chart, (axes,) = subplots(1)
    if min(costs) > 0 and max(costs) >= 10 * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:,g}")
    others = [i for i in range(len(trials)) if i not in front]
    clipped = np.clip(figures, *shown)
    dots = {"s": 22, "clip_on": False}
    axes.scatter([costs[i] for i in others], clipped[others], color="#999999", **dots)
    on_front = [costs[i] for i in front]
    axes.step(on_front, clipped[front], where="post", color=BLUE, linewidth=1)
    axes.scatter(on_front, clipped[front], color=BLUE, zorder=3, **dots)
    # All of a long front would cover one another; the dearest are the best.
    for index in front[-FRONT_LABELS:]:
        axes.annotate(
            str(trials[index].number),
            (costs[index], clipped[index]),
            xytext=(0, 5 if objective.higher_is_better else -13),
            textcoords="offset points",
            ha="center",
            color=BLUE,
            fontsize=9,
        )
    axes.margins(x=0.08)
    axes.set(xlabel=COSTS[key], ylabel=objective.title, ylim=shown)
    numbers = ", ".join(str(trials[index].number) for index in front)
    far = sum(not shown[0] <= value <= shown[1] for value in figures)
    return image(
        svg(chart),
        f"{objective.title} against {COSTS[key]}; on the Pareto front are trials "
        f"{numbers}.",
        f"{capital(COSTS[key])}. Blue, with the trial's number: the Pareto front, "
        "while every grey trial has another that is as good in both and better in one "
        f"(from the cheapest on: {numbers})" + f"; {far_note(far)}" * (far > 0) + ".",
    )


@style()
def memory(trials):
    """Peak memory of the trials and of the searching process, from 0."""
    numbers = [trial.number for trial in trials]
    chart, (axes,) = subplots(1)
    peaks = [trial.peak_memory_mib for trial in trials]
    search = [trial.search_memory_mib for trial in trials]
    axes.plot(numbers, peaks, "o", color=BLUE, ms=5, label="a trial's process, peak")
    axes.plot(numbers, search, "-", color=ORANGE, label="the searching process, after")
    top = np.nanmax([*peaks, *search])
    axes.set(xlabel="trial", ylabel="memory (MiB)", ylim=(0, 1.35 * top))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="upper left", fontsize="small")
    return image(
        svg(chart),
        f"Memory by trial; the most is {top:,.0f} MiB.",
        "Memory of each trial's own process at its peak, and of the process that "
        "searched when the trial had ended.",
    )


def draw_scores(axes, places, trials, shown):
    """Dots whose area grows with epochs; returns how many lie beyond the axis."""
    scores = np.array([trial.score for trial in trials])
    sizes = np.array([max(trial.epochs, 1) for trial in trials], float)
    sizes = 12 + 40 * sizes / sizes.max()
    below, above = scores < shown[0], scores > shown[1]
    for chosen, marker in [(~below & ~above, "o"), (below, "v"), (above, "^")]:
        axes.scatter(
            np.asarray(places, float)[chosen],
            np.clip(scores, *shown)[chosen],
            sizes[chosen],
            color=BLUE,
            marker=marker,
            alpha=0.6,
            linewidth=0,
            clip_on=False,
        )
    return int((below | above).sum())


def far_note(number):
    are = "is one" if number == 1 else f"are {number}"
    return f"at the edge {are} far worse than the axis reaches"
