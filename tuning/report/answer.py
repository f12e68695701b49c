"""A search's answer in words."""

import math
import statistics

from edcn_tf.report.html import capital, spaced

from .analysis import completed, difference, figure_name, values_of

LEVEL = spaced("95%")
NBSP = "\N{NO-BREAK SPACE}"


def answer(trials, retrained, objective):
    """Sentences: the best setting, what it gains, and whether that may be chance."""
    done = completed(trials)
    if not done:
        told = f"All {len(trials)} trials failed" if trials else "No trial ended"
        return f"{told}, so there is no best setting."
    if not retrained:
        best = objective.best(done)[0]
        value = getattr(best, objective.figure)
        return (
            f"Trial {best.number} is best: {objective.title} {value:.4f}. It was not "
            "trained anew, so a part of it may be luck."
        )
    best, *others = objective.best(retrained)
    split = "test" if all(one.test_auc for one in retrained) else "validation"
    default = next((one for one in retrained if one.trial is None), None)
    told = f"{split} {figure_name(objective)}"
    first = spread(values_of(best, objective, split))
    seeds = _seeds(best)
    if default is None:
        return (
            f"{capital(best.name)} is best: {told} {first}{seeds}. The default was not "
            "trained anew, so its gain is not known."
        )
    if best is default:
        text = f"No trial is better than the default: {told} {first}{seeds}"
        if others:
            rest = spread(values_of(others[0], objective, split))
            text += f"; the next, {others[0].name}, {rest}"
        return f"{text}."
    second = spread(values_of(default, objective, split))
    return (
        f"{capital(best.name)} is best: {told} {first}{seeds}; the default {second}. "
        + _gain(best, default, objective, split)
    )


def spread(values):
    """Mean and standard deviation; the mean alone of one value."""
    text = f"{statistics.fmean(values):.4f}"
    if len(values) < 2:
        return text
    return f"{text}{NBSP}±{NBSP}{statistics.stdev(values):.4f}"


def _gain(best, default, objective, split):
    found = difference(*(values_of(one, objective, split) for one in (best, default)))
    word = "better" if (found.mean > 0) == objective.higher_is_better else "worse"
    told = f"It is {abs(found.mean):.4f} {word}"
    if math.isnan(found.low):
        return f"{told}; with one seed each, that may be chance."
    told += (
        f" ({LEVEL} interval of the difference: {found.low:+.4f} to {found.high:+.4f})"
    )
    if found.low <= 0 <= found.high:
        return f"{told}, which is within the spread of seeds: it may be chance."
    if split == "validation":
        return f"{told}, on the split that chose it."
    return f"{told}, which is more than the spread of seeds."


def _seeds(one):
    count = len(one.seeds)
    return f" over {count} seeds" if count > 1 else " with one seed"
