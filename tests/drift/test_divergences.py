"""Indices, divergences and their chance, against numbers by hand and simulations."""

import math

import numpy as np
import pytest
import scipy.stats

from edcn_tf.drift.divergences import (
    compared,
    design_effect,
    holm,
    jensen_shannon,
    same_share,
    stability_index,
)

SHARES = np.array([0.4, 0.3, 0.2, 0.06, 0.04])


def by_group(rows, clusters=None, number=32, categories=5):
    """Counts `[G, K]` of rows, whose clusters are in one group each."""
    clusters = np.arange(len(rows)) if clusters is None else clusters
    counts = np.zeros((number, categories), int)
    np.add.at(counts, (clusters % number, rows), 1)
    return counts


def test_the_index_by_hand():
    # (10.5, 30.5) of 41 and (20.5, 20.5) of 41
    p, q = (10.5 / 41, 30.5 / 41), (0.5, 0.5)
    expected = sum((a - b) * math.log(a / b) for a, b in zip(p, q))
    assert stability_index([10, 30], [20, 20]) == pytest.approx(expected)
    assert stability_index([10, 30], [20, 20]) == pytest.approx(0.2600, abs=1e-4)
    assert stability_index([3, 5], [3, 5]) == 0


def test_an_empty_bin_counts_as_half_a_value():
    found = stability_index([0, 10], [5, 5])
    a, b = 0.5 / 11, 10.5 / 11
    assert found == pytest.approx(
        (a - 0.5) * math.log(2 * a) + (b - 0.5) * math.log(2 * b)
    )


def test_the_divergence_by_hand():
    assert jensen_shannon([1, 0], [0, 1]) == pytest.approx(1.0)
    assert jensen_shannon([2, 6], [1, 3]) == pytest.approx(0.0, abs=1e-12)
    # H(3/4, 1/4) = 0.8113; H of (1, 0) is 0, of (1/2, 1/2) is 1
    assert jensen_shannon([5, 0], [1, 1]) == pytest.approx(0.8112781 - 0.5, abs=1e-6)
    assert jensen_shannon([5, 0, 0], [2, 2, 0]) == pytest.approx(0.3112781, abs=1e-6)


def test_of_independent_rows_the_statistic_is_pearson_s():
    counts = np.array([30, 50, 20])
    groups = np.array([[15, 25, 10], [15, 25, 10]])  # alike: no design effect
    reference = np.array([300, 400, 300])
    found = compared(groups, reference)
    table = np.array([counts, reference])
    statistic, _, freedom, _ = scipy.stats.chi2_contingency(table, correction=False)
    assert found.p == pytest.approx(scipy.stats.f.sf(statistic / freedom, freedom, 1))
    assert found.by_chance == pytest.approx(2 * (1 / 100 + 1 / 1000))


def test_chance_is_the_mean_of_the_index_and_p_is_uniform(random):
    found = []
    for _ in range(400):
        rows = random.choice(5, 800, p=SHARES)
        found.append(compared(by_group(rows), random.multinomial(5000, SHARES)))
    indices = [each.psi for each in found]
    chance = 4 * (1 / 800 + 1 / 5000)
    assert np.mean(indices) == pytest.approx(chance, rel=0.15)
    # The effect is at least 1, so it is a little above 1 on average.
    assert np.mean([each.by_chance for each in found]) == pytest.approx(
        chance, rel=0.15
    )
    p = np.array([each.p for each in found])
    assert 0.01 < np.mean(p < 0.05) < 0.08
    assert np.mean(p < 0.5) == pytest.approx(0.5, abs=0.1)


def test_clustered_rows_are_no_evidence_of_drift(random):
    """A user brings 20 rows of one value each: as many as independent rows 1 in 20."""
    alarms, naive, effects = [], [], []
    for _ in range(300):
        users = random.choice(5, 200, p=SHARES)
        rows, clusters = np.repeat(users, 20), np.repeat(np.arange(200), 20)
        reference = random.multinomial(1_000_000, SHARES)
        alarms.append(compared(by_group(rows, clusters), reference).p < 0.05)
        naive.append(compared(by_group(rows), reference).p < 0.05)
        effects.append(design_effect(by_group(rows, clusters)))
    assert np.mean(alarms) < 0.1
    assert np.mean(naive) > 0.8
    assert np.mean(effects) == pytest.approx(20, rel=0.1)


def test_a_shift_is_seen_through_clusters(random):
    users = random.choice(5, 400, p=[0.1, 0.3, 0.4, 0.1, 0.1])
    rows, clusters = np.repeat(users, 10), np.repeat(np.arange(400), 10)
    found = compared(by_group(rows, clusters), 1e6 * SHARES)
    assert found.p < 1e-6
    assert found.excess > 0.2


@pytest.mark.parametrize(
    "groups, reference",
    [
        (np.zeros((4, 3)), [1, 1, 1]),
        (np.ones((4, 3)), [0, 0, 0]),
        (np.ones((4, 1)), [1]),
        ([[1, 2], [0, 0]], [5, 5]),
    ],
)
def test_where_nothing_can_be_said_p_is_one(groups, reference):
    found = compared(np.array(groups), np.array(reference))
    assert found.p == 1
    assert math.isnan(found.psi) and math.isnan(found.excess)


def test_rare_shares_by_fisher_s_test():
    """Two of 40 where training has 1 %: Pearson's statistic makes too little of it."""
    groups = np.full((20, 2), [0, 2])
    groups[:2] = [1, 1]
    reference = np.array([1000, 99_000])
    assert design_effect(groups) == 1
    exact = 2 * scipy.stats.hypergeom(100_040, 1002, 40).sf(1)
    assert same_share(groups, reference) == pytest.approx(exact)
    assert exact > 0.1
    assert compared(groups, reference).p < 0.03
    assert same_share(groups, np.array([0, 10**6])) < 1e-6


def test_shares_by_chance(random):
    p = []
    for _ in range(400):
        rows = (random.random(500) < 0.03).astype(int)
        reference = random.multinomial(20_000, [0.97, 0.03])
        p.append(same_share(by_group(rows, categories=2), reference))
    assert np.mean(np.array(p) < 0.05) < 0.07


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0
