"""The variables in the files of a checkpoint, written and read by their names."""

import re

import numpy as np
import tensorflow as tf

from edcn_tf.layers import large_table
from edcn_tf.training.checkpoints.positional import keys_by_position
from edcn_tf.training.checkpoints.variable_names import named_variables

FILES = "variables"  # prefix of TensorFlow's files in a checkpoint
# The key that TensorFlow gives a variable, whose name it escapes.
KEY = re.compile(r"by_name/(.+)/\.ATTRIBUTES/VARIABLE_VALUE")
ESCAPED = {".S": "/", "..": "."}
# What reading raises if files are damaged, or hold something else.
READING_ERRORS = (tf.errors.OpError, ValueError, IndexError)


def write_variables(folder, model):
    """Writes all that training changes of a model and its optimizer."""
    variables = {name: v.value for name, v in named_variables(model).items()}
    tf.train.Checkpoint(by_name=variables).write(str(folder / FILES))


class StoredVariables:
    """The variables of a checkpoint, read one at a time by their names.

    Args:
        folder: That of the checkpoint.
        model: The model that they are for; compiled and built, and so its optimizer.
        had_counts: For each of `model.embeddings`, whether it had L2, and so counts,
            when the checkpoint was written; by default, whether it now has.

    Raises:
        One of `READING_ERRORS`: If it cannot be read.
    """

    def __init__(self, folder, model, had_counts=None):
        self._reader = tf.train.load_checkpoint(str(folder / FILES))
        self._shapes = self._reader.get_variable_to_shape_map()
        matches = filter(None, map(KEY.fullmatch, self._shapes))
        self._keys = {_unescaped(match[1]): match[0] for match in matches}
        if not self._keys:
            self._keys = keys_by_position(self._shapes, model, had_counts)
        for key in self._shapes.keys() - set(self._keys.values()):
            self._reader.get_tensor(key)  # TensorFlow's own: is it whole?

    def check(self, shapes, may_be_left=lambda name: False):
        """Raises a `ValueError` unless it holds just the variables that are wanted.

        Args:
            shapes: Name -> shape that it must have there.
            may_be_left: Function of a name to whether it may be there beside them.
        """
        for name, shape in shapes.items():
            if name not in self._keys:
                raise ValueError(f"lacks the variable {name} of the model")
            stored = tuple(self._shapes[self._keys[name]])
            if stored != tuple(shape):
                raise ValueError(
                    f"the variable {name} has the shape {stored} there, and "
                    f"{tuple(shape)} in the model"
                )
        for name in sorted(self._keys):
            if name not in shapes and not may_be_left(name):
                raise ValueError(f"holds the variable {name}, which the model lacks")

    def __getitem__(self, name):
        """The value, a numpy array."""
        return self._reader.get_tensor(self._keys[name])


def put(variable, value):
    """Puts a stored value into a Keras variable; a table with no copy of it."""
    if value.size <= large_table.PART_SIZE:
        variable.assign(value)
        return
    for start, end in large_table.parts(value.shape):
        large_table.set_rows(variable, np.arange(start, end), value[start:end])


def put_rows(variable, value, places):
    """Puts stored rows into a variable: `places[i]` into row i, none for -1."""
    taken = np.flatnonzero(places >= 0)
    for start, end in large_table.parts((len(taken), *variable.shape[1:])):
        rows = taken[start:end]
        large_table.set_rows(variable, rows, value[places[rows]])


def _unescaped(name):
    return re.sub(r"\.[S.]", lambda match: ESCAPED[match[0]], name)
