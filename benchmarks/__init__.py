"""Measurements of this library on this machine: `edcn benchmark`."""

from edcn_tf.benchmarks.histories import benchmark_histories
from edcn_tf.benchmarks.history_growth import benchmark_history_growth
from edcn_tf.benchmarks.incremental import benchmark_incremental
from edcn_tf.benchmarks.limits import benchmark_limits
from edcn_tf.benchmarks.models import benchmark_models
from edcn_tf.benchmarks.pipeline import benchmark_input, benchmark_prepare
from edcn_tf.benchmarks.pipeline_growth import benchmark_prepare_growth
from edcn_tf.benchmarks.quality import benchmark_quality
from edcn_tf.benchmarks.serving import benchmark_serving
from edcn_tf.benchmarks.studies import benchmark_studies
from edcn_tf.benchmarks.training import benchmark_training
from edcn_tf.benchmarks.training.growth import benchmark_training_growth

BENCHMARKS = {
    "models": benchmark_models,
    "histories": benchmark_histories,
    "history-growth": benchmark_history_growth,
    "incremental": benchmark_incremental,
    "quality": benchmark_quality,
    "studies": benchmark_studies,
    "input": benchmark_input,
    "limits": benchmark_limits,
    "prepare": benchmark_prepare,
    "prepare-growth": benchmark_prepare_growth,
    "serving": benchmark_serving,
    "training": benchmark_training,
    "training-growth": benchmark_training_growth,
}


def run(what, **options):
    """Runs a benchmark by name and prints its table."""
    BENCHMARKS[what](**options)
