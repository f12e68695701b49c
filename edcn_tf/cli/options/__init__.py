"""Options that several commands have, and what their values may be."""

import importlib.util
from pathlib import Path

from edcn.options.values import above_zero, at_least_one, at_least_zero, rate, shares

__all__ = [
    "CHOOSING",
    "FORMATS",
    "OBJECTIVES",
    "PROTOCOLS",
    "SPLITS",
    "SPLIT_BY",
    "STRATEGIES",
    "above_zero",
    "add_settings",
    "add_skip_corrupt",
    "add_split",
    "add_split_by",
    "at_least_one",
    "at_least_zero",
    "print_skipped",
    "print_statistics_of",
    "rate",
    "shares",
]


def _choices():
    """`edcn_tf/choices.py`, by its path: `import edcn_tf` would import TensorFlow."""
    package = importlib.util.find_spec("edcn_tf")
    path = Path(package.origin).with_name("choices.py")
    spec = importlib.util.spec_from_file_location("edcn.choices", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_CHOICES = _choices()
FORMATS, SPLITS, SPLIT_BY = _CHOICES.FORMATS, _CHOICES.SPLITS, _CHOICES.SPLIT_BY
PROTOCOLS = _CHOICES.PROTOCOLS
STRATEGIES, OBJECTIVES = _CHOICES.STRATEGIES, _CHOICES.OBJECTIVES
CHOOSING = _CHOICES.CHOOSING


def add_settings(parser):
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="a setting over the file's; any key of a run's config.yaml",
    )


def add_split_by(parser, default):
    parser.add_argument(
        "--split-by",
        choices=SPLIT_BY,
        default=default,
        help=f"each row by chance, or the oldest to train; default: {default}",
    )


def add_split(parser):
    parser.add_argument("--split", choices=SPLITS, default="test", help="or test")


def add_skip_corrupt(parser):
    parser.add_argument(
        "--skip-corrupt",
        type=at_least_zero,
        metavar="N",
        help="look at all records first, pass over N bad ones at most (damaged, or not "
        "of the schema) and say of which files; default: a bad record is an error",
    )


def print_skipped(figures):
    """Bad records by file; nothing where there was no leave to skip."""
    if "skipped" not in figures:
        return
    for path, number in figures["skipped"].items():
        print(f"{path}: {number:,} bad record{'s' * (number > 1)} skipped")
    if figures["skipped"]:
        print(f"{figures['lost_rows']:,} of the prepared rows are lost")
    else:
        print("No bad records")


def print_statistics_of(data):
    """How the statistics of prepared data were counted; nothing where it has none."""
    from edcn_tf.directories import PreparedData
    from edcn_tf.features.spec import FeatureSpec

    features = PreparedData(data).features
    told = features.exists() and FeatureSpec.load(features).statistics_told()
    if told:
        print(f"Statistics {told}")
