"""What each hyper-parameter did to the score, drawn. Each function gives HTML."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from edcn_tf.report.html import folded, grid, image, note, short, spaced
from edcn_tf.report.plotting import GREY, VERMILLION, style, subplots, svg

from .analysis import TRIALS_FOR_FOREST, Forest, furthest, limits
from .figures import draw_scores, far_note
from .parameter_axis import INACTIVE, ParameterAxis, label
from .trials_table import settings_names

TRIALS_NEEDED = 3
ROWS = 12  # of a figure of parallel coordinates
SHOWN = 6  # effects that are not folded away
# Light to dark, so that it is told by lightness alone.
SHADES = ["#EBD9A0", "#56B4E9", "#003C6E"]
BAD_TO_GOOD = LinearSegmentedColormap.from_list("score", SHADES)


def effects(trials, objective, title):
    """Parallel coordinates and a figure a parameter, or a sentence why not."""
    used = furthest(trials)
    if len(used) < TRIALS_NEEDED:
        return note(
            f"The effect of parameters needs {TRIALS_NEEDED} completed trials with "
            f"different settings; there are {len(used)}."
        )
    settings = [trial.settings for trial in used]
    every = [ParameterAxis(name, settings) for name in settings_names(used)]
    axes = [axis for axis in every if not axis.is_constant]
    constant = [
        f"{axis.name} = {label(settings[0][axis.name])}"
        for axis in every
        if axis.is_constant
    ]
    same = f"The same in all trials: {', '.join(constant)}." if constant else ""
    if not axes:
        return note(f"There are no effects, since no parameter varied. {same}")
    html = note(
        f"The {len(used)} settings, each with the most epochs that it got. {same}"
    )
    groups = -(-len(axes) // ROWS)
    rows = -(-len(axes) // groups)
    starts = range(0, len(axes), rows)
    html += grid(
        *(_parallel(used, axes[i : i + rows], objective, title) for i in starts)
    )
    shown = limits([trial.score for trial in used], objective.higher_is_better)
    forest, told = _forest(used, axes, shown)
    far = sum(not shown[0] <= trial.score <= shown[1] for trial in used)
    if far:
        told += f" {far_note(far).capitalize()}."
    html += note(told)
    if forest:
        axes = sorted(axes, key=lambda axis: -np.ptp(forest.effect(axis)[1]))
    figures = [_effect(used, axis, forest, shown, title) for axis in axes]
    html += grid(*figures[:SHOWN])
    if figures[SHOWN:]:
        count = len(figures) - SHOWN
        html += folded(f"{count} more parameters", grid(*figures[SHOWN:]))
    return html


def _forest(trials, axes, shown):
    """The forest, or None where it has nothing to say; and a text about it."""
    if len(trials) < TRIALS_FOR_FOREST:
        return None, (
            f"Each dot is a trial, the larger the more epochs. {len(trials)} settings "
            f"are too few for a regression, which needs {TRIALS_FOR_FOREST}: other "
            "parameters differ between the dots too."
        )
    scores = np.clip([trial.score for trial in trials], *shown)
    if np.ptp(scores) == 0:
        return None, "Each dot is a trial. All have the same score."
    forest = Forest(axes, trials, scores)
    if forest.r2 <= 0:
        return None, (
            "Each dot is a trial, the larger the more epochs. A random forest of these "
            f"trials does not predict those it has not seen (R² {forest.r2:.2f}), so "
            "no effect is drawn: the dots alone do not tell one from chance."
        )
    return forest, (
        "Each dot is a trial, the larger the more epochs. The line, or bar, is the "
        "partial dependence: what a random forest says on average if this parameter "
        "alone is changed; in the band, or range, are eight in ten of its trees. "
        f"It explains {spaced(f'{forest.r2:.0%}')} of the variance of trials that it "
        "has not seen: take what rests on few dots, or moves less than the band is "
        "wide, as a hint. The parameters that move the score most come first."
    )


@style()
def _parallel(trials, parameters, objective, title):
    """A row a parameter and at the bottom the score; a line a trial."""
    worst_first = objective.best(trials)[::-1]  # so that the best are on top
    shown = limits([t.score for t in trials], objective.higher_is_better)
    count = len(parameters)
    chart, (axes,) = subplots(1, 0.5 + 0.66 * (count + 1))
    low, high = shown if objective.higher_is_better else shown[::-1]
    scores = np.clip([t.score for t in worst_first], *shown)
    # Lines of one choice lie side by side, the best on the right.
    offsets = np.linspace(-0.02, 0.02, len(trials))
    shades = BAD_TO_GOOD(np.linspace(0, 1, len(trials)))
    for trial, score, offset, shade in zip(worst_first, scores, offsets, shades):
        places = [
            p.share(trial.settings) + (0 if p.is_range else offset) for p in parameters
        ]
        axes.plot(
            [*places, (score - low) / (high - low)],
            range(count + 1),
            color=shade,
            linewidth=1 + 1.5 * (trial is worst_first[-1]),
        )
    ends = [(0, f"{low:.4f}"), (1, f"{high:.4f}")]
    for row, (name, ticks) in enumerate(
        [(p.name, p.share_ticks()) for p in parameters] + [(title, ends)]
    ):
        axes.axhline(row, color="#bbbbbb", linewidth=0.8, zorder=0)
        axes.text(-0.04, row - 0.14, short(name, 40), **ABOVE)
        for place, text in ticks:
            side = "left" if place < 0.05 else "right" if place > 0.95 else "center"
            axes.text(place, row + 0.07, _fitting(text, len(ticks)), ha=side, **BELOW)
    axes.set(xlim=(-0.05, 1.05), ylim=(count + 0.45, -0.5))
    axes.set_axis_off()
    best = worst_first[-1]
    return image(
        svg(chart),
        f"Parallel coordinates of {count} parameters; the best is trial {best.number}.",
        "A line is a setting, from its value of each parameter down to its score: the "
        f"darker, the better its rank; the thick one is trial {best.number}. Where a "
        f"parameter was not active, the line goes through “{INACTIVE}”.",
    )


HALO = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
ABOVE = {"va": "bottom", "fontsize": 10, "weight": "bold", "bbox": HALO}
BELOW = {"va": "top", "fontsize": 8, "bbox": HALO}


def _fitting(text, neighbours):
    return short(text, max(6, 64 // neighbours))


@style()
def _effect(trials, axis, forest, shown, title):
    numbers = np.array([axis.number(trial.settings) for trial in trials])
    chart, (axes,) = subplots(1, 2.9)
    places = numbers
    if not axis.is_range:  # beside the bar, and beside each other
        places = numbers - 0.12 - 0.2 * np.linspace(0, 1, len(trials))
    draw_scores(axes, places, trials, shown)
    if forest:
        values, means, low, high = forest.effect(axis)
        if axis.is_range:
            axes.fill_between(values, low, high, color=VERMILLION, alpha=0.18, lw=0)
            axes.plot(values, means, color=VERMILLION)
        else:
            reach = [np.maximum(means - low, 0), np.maximum(high - means, 0)]
            bars = {"color": VERMILLION, "capsize": 4, "marker": "s", "linestyle": ""}
            axes.errorbar(values + 0.12, means, reach, **bars)
    ticks = axis.ticks()
    labels = [
        _fitting(text, len(ticks)) + _count(axis, place, numbers)
        for place, text in ticks
    ]
    small = {"fontsize": 9 if len(ticks) < 6 else 8}
    axes.set_xticks([place for place, _ in ticks], labels, **small)
    axes.grid(axis="x", visible=False)
    if axis.is_conditional:
        halfway = (axis.inactive + axis.low) / 2
        axes.axvline(halfway, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(ylim=shown, xlabel=short(axis.name, 40), ylabel=title)
    active = sum(axis.name in trial.settings for trial in trials)
    told = f"{axis.name}, active in {active} of {len(trials)} trials"
    told += ", on a logarithmic scale" * axis.is_log
    return image(svg(chart), f"Score by {axis.name}.", f"{told}.")


def _count(axis, place, numbers):
    """How many trials stand behind a value; a range shows it by its dots."""
    if axis.is_range and place != axis.inactive:
        return ""
    return f"\nn = {int((numbers == place).sum())}"
