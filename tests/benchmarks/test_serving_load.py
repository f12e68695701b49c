"""The load test sees what it is there to see; how fast it was is never asserted."""

import contextlib

import numpy as np
import pytest

from edcn import main
from edcn_tf import InputError, benchmarks
from edcn_tf.benchmarks import serving_load
from edcn_tf.benchmarks.serving_load import (
    SHARES,
    Outcome,
    Request,
    Variant,
    measure_load,
)

POOL = [Request("ids", None, 3), Request("rank", None, 5)]
ANSWERS = {0: np.array([0.5, 0.25]), 1: np.array([0.75])}


@pytest.mark.slow
def test_every_signature_is_asked_by_many_at_once(monkeypatch, capsys):
    drawn = []
    compared = serving_load._compared

    def noted(title, addresses, pool, *others):
        drawn.extend(pool)
        return compared(title, addresses, pool, *others)

    monkeypatch.setattr(serving_load, "_compared", noted)
    benchmarks.run("serving", clients=4, requests=200)
    lines = capsys.readouterr().out.splitlines()
    for variant in serving_load.VARIANTS:
        told = [line for line in lines if line.startswith(f"{variant.title}  ")]
        one, four = (line.removeprefix(variant.title).split() for line in told)
        assert (one[0], one[5], four[0]) == ("1", "0", "4")
        assert float(four[6]) <= 1e-6
        # TF Serving's own batching fails requests for what others hold.
        assert (int(four[5].replace(",", "")) > 0) == variant.may_fail
    assert {request.signature for request in drawn} == set(SHARES)
    sizes = {request.rows for request in drawn}
    assert 1 in sizes and max(sizes) > 256
    assert len({request.rows for request in drawn if request.signature == "rank"}) > 10


def told(*outcomes):
    return serving_load._told("a title", 2, POOL, outcomes, 1.0, ANSWERS)


def test_answers_as_alone_are_right(capsys):
    right = [Outcome(i, 0.01, ANSWERS[i] + 1e-8, None) for i in (0, 1)]
    assert told(*right) == []
    line = capsys.readouterr().out.split()
    assert line[2:] == ["2", "2", "8", "10.0", "10.0", "0", "1.0e-08"]


def test_a_failure_and_another_answer_are_told(capsys):
    failed = Outcome(1, 0.01, None, "FAILED_PRECONDITION: no")
    other = Outcome(0, 0.01, ANSWERS[0] + [0, 2e-6], None)
    assert told(failed, failed, other) == [
        "2 times a title, 2 clients: rank: FAILED_PRECONDITION: no",
        "a title, 2 clients: 1 answers differ from those alone by more than 1e-06",
    ]
    assert capsys.readouterr().out.split()[7:] == ["2", "2.0e-06"]


def test_an_answer_that_is_no_number_is_told():
    none = Outcome(1, 0.01, np.array([np.nan]), None)
    assert "1 answers differ" in told(none)[0]


def test_the_end_is_an_error_where_not_all_were_answered(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(serving_load, "_model", lambda folder: (None, None))
    monkeypatch.setattr(serving_load, "_records", lambda folder: [])
    monkeypatch.setattr(serving_load, "_requests", lambda *_: POOL)
    monkeypatch.setattr(
        serving_load.export,
        "export_saved_model",
        lambda model, spec, path, **options: made.append(options) or path / "1",
    )
    monkeypatch.setattr(serving_load, "_server", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(serving_load, "_compared", lambda *_: ["one failed"])
    variants = (Variant("a"), Variant("b", export=(("keep", 3),)))
    with pytest.raises(InputError, match="as alone. one failed"):
        measure_load(2, 10, variants)
    assert made == [{}, {"keep": 3}]
    measure_load(2, 10, [variant._replace(may_fail=True) for variant in variants])


def test_a_checkout_is_needed(monkeypatch, capsys):
    monkeypatch.setattr(serving_load, "__file__", "/nowhere/benchmarks/load.py")
    assert main(["benchmark", "serving", "--clients", "2"]) == 1
    err = capsys.readouterr().err
    assert "--clients needs a checkout" in err and err.count("\n") == 1


def test_requests_go_with_clients(capsys):
    assert main(["benchmark", "serving", "--requests", "2"]) == 1
    assert "--requests goes with --clients alone" in capsys.readouterr().err
    assert main(["benchmark", "input", "--clients", "2"]) == 1
    assert "--clients does not go with `benchmark input`" in capsys.readouterr().err
