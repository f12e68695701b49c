"""Measurements of this library on this machine: `edcn benchmark`."""

from edcn_tf.benchmarks.pipeline import benchmark_input, benchmark_prepare
from edcn_tf.benchmarks.serving import benchmark_serving
from edcn_tf.benchmarks.training import benchmark_training

BENCHMARKS = {
    "input": benchmark_input,
    "prepare": benchmark_prepare,
    "serving": benchmark_serving,
    "training": benchmark_training,
}


def run(what, **options):
    """Runs a benchmark by name and prints its table."""
    BENCHMARKS[what](**options)
