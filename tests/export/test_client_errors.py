"""Each status of a server has a class, and a line that says what to do."""

import pickle

import grpc
import pytest

from edcn_tf.export.client import ServingError, errors, rest_transport
from edcn_tf.export.client.errors import BY_CODE, serving_error

CODES = [code.name for code in grpc.StatusCode if code.name != "OK"]


def test_each_status_has_a_class_of_its_own():
    assert sorted(BY_CODE) == sorted(CODES)
    assert len(set(BY_CODE.values())) == len(CODES)
    assert all(issubclass(error, ServingError) for error in BY_CODE.values())
    assert set(rest_transport.HTTP_CODES.values()) <= set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_line_says_what_happened_and_what_to_do(code):
    error = serving_error(code, "made\nto  fail. ")
    assert type(error) is BY_CODE[code]
    assert (error.code, type(error).__name__) == (
        code,
        f"{code.title().replace('_', '')}Error",
    )
    assert str(error) == f"{code}: made to fail; {error.advice}"
    assert code in type(error).__doc__


def test_the_advice_is_there_however_long_the_reason():
    text = str(serving_error("NOT_FOUND", "x" * 10_000))
    assert text.endswith(errors.NotFoundError.advice)
    assert len(text) < 1300


def test_a_status_without_a_code():
    error = serving_error("HTTP 418", None)
    assert type(error) is ServingError
    assert str(error).startswith("HTTP 418: no reason given; see the server's log")


def test_what_passes_and_what_comes_of_another_model():
    passing = [code for code in CODES if BY_CODE[code].passes]
    assert sorted(passing) == ["INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE"]
    of_model = [code for code in CODES if BY_CODE[code].is_of_model]
    assert sorted(of_model) == [
        *("FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE"),
    ]


def test_an_error_goes_from_one_process_to_another():
    error = pickle.loads(pickle.dumps(serving_error("NOT_FOUND", "no such model")))
    assert type(error) is errors.NotFoundError
    assert error.code == "NOT_FOUND"
    assert str(error) == f"NOT_FOUND: no such model; {error.advice}"
