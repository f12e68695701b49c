"""The benchmarks run; what they measure is never asserted."""

import pytest

from edcn_tf import benchmarks


@pytest.mark.slow
@pytest.mark.parametrize("what", sorted(benchmarks.BENCHMARKS))
def test_a_benchmark_prints_its_table(what, capsys):
    benchmarks.run(what, rows=3000)
    assert len(capsys.readouterr().out.splitlines()) > 4
