"""What the command line lets a user choose is what the library has.

It knows without importing the library, which takes seconds.
"""

import argparse

import pytest

import edcn
from edcn_tf import benchmarks, choices
from edcn_tf.benchmarks.data import DATA as BENCHMARK_DATA
from edcn_tf.benchmarks.quality import MODELS
from edcn_tf.demo.data import DATA
from edcn_tf.evaluation.calibration import METHODS
from edcn_tf.tuning.oracles import ORACLES

OWNERS = {
    ("demo", "--data"): DATA,
    ("demo", "--split-by"): choices.SPLIT_BY,
    ("prepare", "--format"): choices.FORMATS,
    ("prepare", "--split-by"): choices.SPLIT_BY,
    ("prepare", "--statistics"): choices.CHOOSING,
    ("train", "--strategy"): choices.STRATEGIES,
    ("evaluate", "--split"): choices.SPLITS,
    ("calibrate", "--method"): METHODS,
    ("predict", "--format"): choices.FORMATS,
    ("report", "--split"): choices.SPLITS,
    ("tune", "--tuner"): ORACLES,
    ("tune", "--objective"): choices.OBJECTIVES,
    ("verify", "--format"): choices.FORMATS,
    ("drift", "--format"): choices.FORMATS,
    ("request", "--format"): choices.FORMATS,
    ("benchmark", "what"): benchmarks.BENCHMARKS,
    ("benchmark", "--data"): BENCHMARK_DATA,
    ("benchmark", "--split-by"): choices.SPLIT_BY,
    ("benchmark", "--models"): MODELS,
}


def commands():
    """Name of each command -> its parser."""
    for action in edcn._parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


@pytest.mark.parametrize("command, option", OWNERS)
def test_choices_are_those_of_the_library(command, option):
    [action] = [
        action
        for action in commands()[command]._actions
        if option in (*action.option_strings, action.dest)
    ]
    assert sorted(action.choices) == sorted(OWNERS[command, option])


def test_every_command_is_a_file_with_an_example():
    names = {module.__name__.removeprefix("edcn.") for module in edcn.COMMANDS}
    assert names == set(commands())
    for name, parser in commands().items():
        assert f"edcn {name}" in parser.epilog
        assert parser.get_default("action").__module__ == f"edcn.{name}"
