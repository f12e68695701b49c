"""Measurements of this library on this machine: `edcn benchmark`."""

from .bars import benchmark_bars
from .histories import benchmark_histories
from .history_growth import benchmark_history_growth
from .incremental import benchmark_incremental
from .limits import benchmark_limits
from .models import benchmark_models
from .pipeline import benchmark_input, benchmark_prepare
from .pipeline_growth import benchmark_prepare_growth
from .quality import benchmark_quality
from .serving import benchmark_serving
from .statistics import benchmark_statistics
from .studies import benchmark_studies
from .training import benchmark_training
from .training.growth import benchmark_training_growth

BENCHMARKS = {
    "bars": benchmark_bars,
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
    "statistics": benchmark_statistics,
    "training": benchmark_training,
    "training-growth": benchmark_training_growth,
}


def run(what, **options):
    """Runs a benchmark by name and prints its table."""
    BENCHMARKS[what](**options)
