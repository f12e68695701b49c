"""A model with what it is trained by: optimizer and loss."""

import tensorflow as tf

from edcn_tf.training.optimizers import DenseAdam, SparseAdam


def compiled_model(config, spec, metrics=None):
    """The model of a `TrainingConfig`, with its optimizer and loss.

    Args:
        config: `TrainingConfig`.
        spec: `FeatureSpec`.
        metrics: Of `compile`; training itself needs none.
    """
    model = config.build(spec)
    if config.optimizer == "adam":
        optimizer = DenseAdam(config.learning_rate, name="adam")
    else:
        optimizer = SparseAdam(
            config.learning_rate, average_decay=config.average_decay or None
        )
    # Replicas end an epoch together only if Python looks at each step.
    steps = 1 if tf.distribute.has_strategy() else config.steps_per_execution
    model.compile(
        optimizer,
        "binary_crossentropy",
        metrics=metrics,
        steps_per_execution=steps,
    )
    return model
