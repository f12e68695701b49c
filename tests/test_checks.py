"""What counts as a number."""

import math

import numpy as np
import pytest

from edcn_tf import InputError, checks


@pytest.mark.parametrize(
    ("value", "whole", "number"),
    [
        (0, True, True),
        (-(10**400), True, True),
        (0.0, False, True),
        (math.inf, False, True),
        (math.nan, False, True),  # of a number's type, but in no range
        (True, False, False),
        (None, False, False),
        ("1", False, False),
        ([1], False, False),
        (np.int64(1), False, False),  # which neither JSON nor YAML writes
        (np.float64(1), False, True),  # a float
    ],
)
def test_numbers(value, whole, number):
    assert checks.is_whole(value) is whole
    assert checks.is_number(value) is number


def test_ranges():
    assert [n for n in range(5) if checks.is_whole(n, 1, 3)] == [1, 2, 3]
    assert [n for n in range(5) if checks.is_number(n, 2.5)] == [3, 4]
    assert not any(
        checks.is_number(math.nan, *ends) for ends in [(0,), (None, 0), (-1, 1)]
    )
    assert checks.are_whole([], 1) and checks.are_whole((1, 2), 1)
    for values in ([1, 0], [1, True], "12", None, 1, {1: 2}):
        assert not checks.are_whole(values, 1)


@pytest.mark.parametrize(
    ("check", "good", "wrong", "message"),
    [
        (
            lambda v: checks.check_between("k", v, 1, 9, whole=True),
            [1, 9],
            [0, 10, 2.0, True, None],
            "k must be a whole number of at least 1 and at most 9. Received: ",
        ),
        (
            lambda v: checks.check_between("k", v, 0.5, 9, whole=False),
            [0.5, 9],
            [0, 9.1, math.nan, False, "1"],
            "k must be a number of at least 0.5 and at most 9. Received: ",
        ),
        (
            lambda v: checks.check_whole("k", v, 1),
            [1, 2**70],
            [0, 1.0, True],
            "k must be a whole number of at least 1. Received: ",
        ),
        (
            lambda v: checks.check_flag("k", v),
            [True, False],
            [0, 1, None, "true"],
            "k must be true or false. Received: ",
        ),
    ],
)
def test_checks_of_what_a_user_gave(check, good, wrong, message):
    for value in good:
        check(value)
    for value in wrong:
        with pytest.raises(InputError) as caught:
            check(value)
        assert str(caught.value) == f"{message}{value!r}"


def test_check_of_an_argument_of_a_layer():
    checks.check_least("k", 1, 1)
    checks.check_least("k", None, 1, or_none=True)
    with pytest.raises(ValueError, match="^`k` must be at least 1. Received: 0$"):
        checks.check_least("k", 0, 1)
    with pytest.raises(ValueError, match="^`k` must be `None` or at least 1. Received"):
        checks.check_least("k", 0, 1, or_none=True)
