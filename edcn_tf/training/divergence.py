"""What to tell when training diverges: its loss is no longer a number."""

import math

import tensorflow as tf

from edcn_tf.errors import InputError

NAMED_WEIGHTS = 3  # of those that grew most


class DivergenceCheck:
    """Refuses a loss that is no number, and says which weights grew most.

    Args:
        model: A built model; its weights are compared with what they now are.
    """

    def __init__(self, model):
        self.model = model
        self.sizes = _sizes(model)

    def __call__(self, loss, *, epoch, step):
        """Raises an `InputError` if the loss by this step is no number."""
        if math.isfinite(loss):
            return
        rate = float(self.model.optimizer.learning_rate.numpy())
        raise InputError(
            f"The loss became {loss} in epoch {epoch}, by step {step}, at a learning "
            f"rate of {rate:.3g}; {self._grown()}. Lower learning_rate, or remove the "
            "run to begin anew with other settings"
        )

    def _grown(self):
        """Which weights grew most since the check was made."""
        after = _sizes(self.model)
        lost = [name for name, size in after.items() if not math.isfinite(size)]
        if lost:
            more = f" and {len(lost) - NAMED_WEIGHTS} more" * (
                len(lost) > NAMED_WEIGHTS
            )
            return f"no longer numbers: {', '.join(lost[:NAMED_WEIGHTS])}{more}"
        growth = {name: after[name] / max(self.sizes[name], 1e-6) for name in after}
        most = sorted(growth, key=growth.get, reverse=True)[:NAMED_WEIGHTS]
        told = [f"{name} (to {after[name]:.3g})" for name in most]
        return f"grown most: {', '.join(told)}"


def _sizes(model):
    """Name -> root mean square of the weights; a pass over them, without a copy."""
    return {
        variable.path.partition("/")[2]: float(
            tf.sqrt(2 * tf.nn.l2_loss(variable.value) / math.prod(variable.shape))
        )
        for variable in model.trainable_weights
    }
