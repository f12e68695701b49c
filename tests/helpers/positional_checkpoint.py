"""Checkpoints as they were when variables had numbers in place of names."""

import tensorflow as tf

from edcn_tf.training.checkpoints.checkpoint import restore_checkpoint


def make_positional(folder, model):
    """Rewrites a checkpoint of `model` in that layout."""
    restore_checkpoint(folder, model)
    for path in folder.glob("variables*"):
        path.unlink()
    variables = [
        *model.weights,
        *[v for v in model.variables if v.name == "seed_generator_state"],
        *model.optimizer.variables,
    ]
    tf.train.Checkpoint(
        variables={str(number): v.value for number, v in enumerate(variables)}
    ).write(str(folder / "variables"))
