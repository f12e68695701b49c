"""What each field is worth to a model: the AUC that is lost without it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from edcn_tf.evaluation import metrics


class Importance(NamedTuple):
    """What `permutation_importance` found.

    `auc`: that of the rows as they are.
    `drops`: `[F, repeats]`: `auc` minus the AUC with a field's values shuffled.
    """

    auc: float
    drops: np.ndarray


def permutation_importance(
    score: Callable[[np.ndarray], ArrayLike],
    ids: np.ndarray,
    labels: ArrayLike,
    slots: Sequence[int],
    *,
    weights: ArrayLike | None = None,
    repeats: int = 5,
    seed: int = 0,
) -> Importance:
    """The drop of AUC when one field's values are shuffled among the rows.

        drop_f = AUC(score(ids)) - AUC(score(ids with field f of another row))

    A shuffled field has its own distribution of values, but tells nothing of its row
    any more. What two fields tell alike is missed in neither; and shuffled rows hold
    pairs of values that no log has.

    Args:
        score: Function of ids `[B, S]` that gives B scores.
        ids: `[B, S]` int32.
        labels: `[B]`, 0 or 1.
        slots: Number of slots of each field, F numbers whose sum is S. The slots of a
            field are shuffled together.
        weights: Of the rows.
        repeats: Shuffles of each field.
        seed: Of the shuffles.

    Returns:
        An `Importance`; NaN if a class is absent.

    Reference:
        Breiman 2001, "Random Forests", section 10; Fisher et al. 2019, "All Models are
        Wrong, but Many are Useful".
    """
    random = np.random.default_rng(seed)
    auc = metrics.auc(labels, score(ids), weights)
    drops = np.full((len(slots), repeats), np.nan)
    ends = np.cumsum(slots)
    for field, end in enumerate(ends if not np.isnan(auc) else []):
        columns = slice(end - slots[field], end)
        for repeat in range(repeats):
            shuffled = ids.copy()
            shuffled[:, columns] = ids[random.permutation(len(ids)), columns]
            drops[field, repeat] = auc - metrics.auc(labels, score(shuffled), weights)
    return Importance(auc, drops)


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's coefficient of two rankings: 1 the same, -1 the reverse, 0 unrelated.

    The correlation of the ranks; equal values share their mean rank. NaN with fewer
    than two values, where all of one side are equal, and where one is NaN.

    Args:
        first: 1-D.
        second: 1-D, as long.

    Reference:
        Spearman 1904, "The Proof and Measurement of Association between Two Things".
    """
    if any(len(np.unique(side)) < 2 for side in (first, second)):
        return float("nan")  # of which SciPy would warn
    return float(spearmanr(first, second).statistic)
