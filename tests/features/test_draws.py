import numpy as np
import pytest

from edcn_tf.features.draws import GAMMA, _mixed, draws, row_keys


def test_splitmix64_as_published():
    """The outputs of the reference implementation for the seed 1234567."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = np.uint64(1234567) + GAMMA * np.arange(1, 4, dtype=np.uint64)
    np.testing.assert_array_equal(_mixed(states), np.array(expected, np.uint64))


def test_a_row_has_its_key_wherever_one_begins():
    whole = row_keys(7, 2, 0, 1000)
    assert whole.dtype == np.uint64
    np.testing.assert_array_equal(row_keys(7, 2, 300, 50), whole[300:350])
    assert len(row_keys(7, 2, 5, 0)) == 0
    assert row_keys(7, 2, 2**40, 1).shape == (1,)


def test_seeds_logs_and_rows_have_keys_of_their_own():
    seeds = (-1, 0, 1, 2, 2**63)
    keys = [row_keys(seed, log, 0, 500) for seed in seeds for log in range(5)]
    assert len(np.unique(np.concatenate(keys))) == 5 * 5 * 500


@pytest.mark.parametrize("purpose", [0, 1, 2, 40])
def test_draws_are_uniform(purpose):
    numbers = draws(row_keys(0, 0, 0, 100_000), purpose)
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.histogram(numbers, 50, (0, 1))[0]
    # Chi-square of 49 degrees of freedom: 49 +- 9.9.
    assert np.sum((counts - 2000) ** 2 / 2000) < 100
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.02


def test_purposes_and_seeds_are_independent():
    columns = [draws(row_keys(0, 0, 0, 50_000), purpose) for purpose in range(6)]
    columns += [draws(row_keys(seed, 0, 0, 50_000), 0) for seed in (1, 2)]
    columns += [draws(row_keys(0, 1, 0, 50_000), 0)]
    correlations = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlations).max() < 0.025  # five standard deviations


def test_no_draw_is_one():
    assert draws(np.arange(10**6, dtype=np.uint64), 0).max() < 1
