"""How far apart two distributions are, and how far they are by chance."""

from typing import NamedTuple

import numpy as np
import scipy.stats

RARE = 10_000  # counts up to which Fisher's test is made: its cost grows with them
SMOOTHING = 0.5  # of a count inside a logarithm: Jeffreys' prior


class Comparison(NamedTuple):
    """Two distributions over the same bins.

    Attributes:
        psi: Population stability index.
        by_chance: What it is on average where nothing drifted.
        divergence: Jensen-Shannon divergence, in bits: 0 of equal ones, at most 1.
        p: Probability of such a difference by chance.
    """

    psi: float
    by_chance: float
    divergence: float
    p: float

    @property
    def excess(self):
        """The index less what chance gives on average."""
        return self.psi - self.by_chance


UNKNOWN = Comparison(np.nan, np.nan, np.nan, 1.0)


def stability_index(first, second):
    """Population stability index of two arrays of counts `[K]`, in nats.

        PSI = sum_k (p_k - q_k) ln(p_k / q_k),   p_k = (n_k + 1/2) / (n + K/2)

    q likewise: a bin that is empty in one of them counts as half a value.

    References:
        Lewis 1994, "An Introduction to Credit Scoring".
        Jeffreys 1946, "An Invariant Form for the Prior Probability in Estimation
        Problems", whose divergence it is.
    """
    p, q = (
        (counts + SMOOTHING) / (counts + SMOOTHING).sum()
        for counts in (np.asarray(first, float), np.asarray(second, float))
    )
    return float(((p - q) * np.log(p / q)).sum())


def jensen_shannon(first, second):
    """Jensen-Shannon divergence of two arrays of counts `[K]`, in bits, in [0, 1].

        JS = H((p + q) / 2) - (H(p) + H(q)) / 2,   H(p) = - sum_k p_k log2 p_k

    Reference:
        Lin 1991, "Divergence Measures Based on the Shannon Entropy", equation 4.1.
    """
    p, q = (np.asarray(c, float) / np.sum(c) for c in (first, second))
    together = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
    return float(max(together, 0.0))


def _entropy(shares):
    shares = shares[shares > 0]
    return -(shares * np.log2(shares)).sum()


def compared(groups, reference):
    """A `Comparison` of counts by random group with those of a reference.

        X = sum_k (p_k - q_k)^2 / r_k / (1/n + 1/m)

    over bins k, where r is the share of both together, is chi-squared with K - 1
    degrees of freedom if n and m rows were drawn from one distribution each by itself;
    so is PSI / (1/n + 1/m), to which it is equal in the limit (X is nearer to its
    limit where counts are small). Rows of one user, or of one request, are not drawn
    by themselves; so X is divided by the `design_effect` d, and

        F = X / (d (K - 1))   with   K - 1 and G - 1

    degrees of freedom gives the p-value: less than (K - 1)(G - 1), since bins have
    effects of their own, of which d is but the mean. The reference is taken to be as
    clustered.

    Args:
        groups: `[G, K]`, counts by random group: see `design_effect`.
        reference: `[K]`, counts; they need not be whole.

    Returns:
        A `Comparison`; `UNKNOWN` with less than two bins or groups, or no values.

    References:
        Yurdakul 2018, "Statistical Properties of Population Stability Index" (its
        distribution). Rao and Scott 1981, "The Analysis of Categorical Data from
        Complex Sample Surveys", section 3 (the correction); Thomas and Rao 1987,
        "Small-Sample Comparisons of Level and Power for Simple Goodness-of-Fit
        Statistics under Cluster Sampling" (F in its place).
    """
    counts, reference = groups.sum(axis=0), np.asarray(reference, float)
    freedom, rows, size = len(counts) - 1, counts.sum(), reference.sum()
    filled = int((groups.sum(axis=1) > 0).sum())
    if freedom < 1 or filled < 2 or not rows or not size:
        return UNKNOWN
    error = 1 / rows + 1 / size
    both = (counts + reference) / (rows + size)
    effect = design_effect(groups)
    there = both > 0
    apart = (counts / rows - reference / size)[there]
    statistic = (apart**2 / both[there]).sum() / error
    return Comparison(
        psi=stability_index(counts, reference),
        by_chance=float(effect * freedom * error),
        divergence=jensen_shannon(counts, reference),
        p=float(scipy.stats.f.sf(statistic / (effect * freedom), freedom, filled - 1)),
    )


def design_effect(groups):
    """How many times larger the variance of shares is than that of independent rows.

        d = n / (K - 1) sum_k v_k / p_k,
        v_k = G / (G - 1) sum_g (n_gk - n_g p_k)^2 / n^2

    at least 1. All rows of a user, or of a request, are in one of G groups, which it
    is in by chance, so that what differs from group to group tells how much the shares
    p differ from one sample to another.

    Args:
        groups: `[G, K]`, counts by random group; empty groups and bins are left out.

    Reference:
        Wolter 2007, "Introduction to Variance Estimation", chapter 2 (random groups).
    """
    groups = groups[groups.sum(axis=1) > 0].astype(float)
    number, rows = len(groups), groups.sum()
    groups = groups[:, groups.sum(axis=0) > 0]
    bins = groups.shape[1]
    if number < 2 or bins < 2:
        return 1.0
    shares = groups.sum(axis=0) / rows
    errors = groups - groups.sum(axis=1, keepdims=True) * shares
    variances = number / (number - 1) * (errors**2).sum(axis=0) / rows**2
    effect = rows * (variances / shares).sum() / (bins - 1)
    return max(float(effect), 1.0)


def same_share(groups, reference):
    """The p-value of a share, of what is mostly rare, against that of a reference.

    The larger one of `compared`, which knows how unsure the design effect is, and of
    Fisher's exact test of the counts over that effect, which knows rare counts.

    Args:
        groups: `[G, 2]`, counts of the share and of the rest by random group.
        reference: `[2]`.
    """
    p = compared(groups, reference).p
    counts = groups.sum(axis=0)
    if not counts.sum() or not np.sum(reference):
        return p
    effect = design_effect(groups)
    (those, others), (first, rest) = (
        np.round(np.asarray(each) / effect).astype(int) for each in (counts, reference)
    )
    total, drawn, marked = those + others + first + rest, those + others, those + first
    if min(drawn, marked) > RARE:
        return p
    known = total, max(drawn, marked), min(drawn, marked)  # which of them is the same
    distribution = scipy.stats.hypergeom
    exact = 2 * min(distribution.cdf(those, *known), distribution.sf(those - 1, *known))
    return max(p, min(1.0, float(exact)))


def holm(p_values):
    """p-values as they are where there are many of them (Holm's step-down).

    Below a level with at most this probability if nothing is there, however the tests
    depend on each other.

    Reference:
        Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * factors)
    return np.minimum(adjusted, 1.0)
