"""Where an interrupted run goes on: all that training remembers at one step."""

import re
import shutil

import tensorflow as tf

from edcn_tf.errors import InputError
from edcn_tf.files import new_directory, read_json, write_json
from edcn_tf.training.state import TrainingState

FOLDER = "checkpoints"
NAME = re.compile(r"epoch-(\d{5,})-step-(\d{9,})")
VARIABLES = "variables"  # prefix of TensorFlow's files
STATE = "state.json"
OTHERWISE = "to train from the start, choose another --out, or remove the run"


def save_checkpoint(run, model, state):
    """Saves weights, optimizer, random draws and `state`, and removes what was before.

    The best epoch's stays.

    Args:
        run: The run directory.
        model: Compiled, its optimizer built.
        state: `TrainingState`.
    """
    name = _name(state.epoch, state.step)
    folder, kept = run / FOLDER, (name, _name(state.best_epoch or 0))
    earlier = [path for path in folder.glob("epoch-*") if path.name not in kept]
    if not (folder / name).exists():
        with new_directory(folder / name) as partial:
            _checkpoint(model).write(str(partial / VARIABLES))
            write_json(partial / STATE, state.to_json())
    for path in earlier:
        shutil.rmtree(path)


def keep_checkpoint_of(run, epoch):
    """Removes all checkpoints but that of an epoch's end."""
    for path in (run / FOLDER).iterdir():
        if path.name != _name(epoch):
            shutil.rmtree(path)


def stored_variables(run, epoch):
    """The variables in the checkpoint of an epoch's end.

    Returns:
        How many there are, and a function of a variable's number to its value: first
        the model's weights, then random states, then the optimizer's variables.

    Raises:
        InputError: If it is not there, or damaged.
    """
    path = run / FOLDER / _name(epoch)
    try:
        reader = tf.train.load_checkpoint(str(path / VARIABLES))
    except (tf.errors.OpError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read ({reason})") from None
    names = reader.get_variable_to_shape_map()
    number = sum(name.startswith("variables/") for name in names)
    return number, lambda i: reader.get_tensor(
        f"variables/{i}/.ATTRIBUTES/VARIABLE_VALUE"
    )


def _name(epoch, step=0):
    return f"epoch-{epoch:05d}-step-{step:09d}"


def latest_checkpoint(run):
    """Epoch and step of the last one, and its directory; None if there is none."""
    found = [
        (int(match[1]), int(match[2]), path)
        for path in (run / FOLDER).glob("epoch-*")
        if (match := NAME.fullmatch(path.name))
    ]
    return max(found, default=None)


def restore_checkpoint(path, model):
    """Puts a model and its optimizer where they were; returns the `TrainingState`.

    Raises:
        InputError: If the checkpoint is damaged, or one of another model.
    """
    try:
        _checkpoint(model).read(str(path / VARIABLES)).assert_consumed()
    except (tf.errors.OpError, ValueError, IndexError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: is damaged, or of another model ({reason}); {OTHERWISE}"
        ) from None
    return _read_state(path)


def _read_state(path):
    """The `TrainingState` of a checkpoint, which must be of the step of its name."""
    value = read_json(path / STATE)
    try:
        state = TrainingState.from_json(value)
        if path.name != _name(state.epoch, state.step):
            raise ValueError("is of another step")
    except ValueError:
        raise InputError(f"{path / STATE}: is damaged; {OTHERWISE}") from None
    return state


def _checkpoint(model):
    variables = [
        *model.weights,
        # Of dropout and its like, which are no weights to Keras.
        *[v for v in model.variables if v.name == "seed_generator_state"],
        *model.optimizer.variables,
    ]
    return tf.train.Checkpoint(
        variables={str(number): v.value for number, v in enumerate(variables)}
    )
