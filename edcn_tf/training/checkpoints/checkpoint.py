"""Checkpoints, from which an interrupted run goes on: all that it is at one step."""

import contextlib
import re
import shutil

from edcn_tf.directories import Run
from edcn_tf.errors import InputError
from edcn_tf.files import new_directory, read_json, write_json
from edcn_tf.training.checkpoints.state import TrainingState
from edcn_tf.training.checkpoints.stored_variables import (
    READING_ERRORS,
    StoredVariables,
    put,
    write_variables,
)
from edcn_tf.training.checkpoints.variable_names import named_variables

NAME = re.compile(r"epoch-(\d{5,})-step-(\d{9,})")
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
    folder, kept = Run(run).checkpoints, (name, _name(state.best_epoch or 0))
    earlier = [path for path in folder.glob("epoch-*") if path.name not in kept]
    if not (folder / name).exists():
        with new_directory(folder / name) as partial:
            write_variables(partial, model)
            write_json(partial / STATE, state.to_json())
    for path in earlier:
        shutil.rmtree(path)


def keep_checkpoint_of(run, epoch):
    """Removes all checkpoints but that of an epoch's end."""
    for path in Run(run).checkpoints.iterdir():
        if path != checkpoint_of(run, epoch):
            shutil.rmtree(path)


def checkpoint_of(run, epoch):
    """The directory of an epoch's end."""
    return Run(run).checkpoints / _name(epoch)


def latest_checkpoint(run):
    """Epoch and step of the last one, and its directory; None if there is none."""
    found = [
        (int(match[1]), int(match[2]), path)
        for path in Run(run).checkpoints.glob("epoch-*")
        if (match := NAME.fullmatch(path.name))
    ]
    return max(found, default=None)


def restore_checkpoint(path, model):
    """Puts a model and its optimizer where they were; returns the `TrainingState`.

    At most one variable more than they have is in memory.

    Args:
        path: The checkpoint's directory.
        model: Compiled, its optimizer built.

    Raises:
        InputError: If the checkpoint is damaged, or one of another model: if it lacks
            a variable, or has one more, or one of another shape.
    """
    variables = named_variables(model)
    with reading(path, "is damaged, or of another model", f"; {OTHERWISE}"):
        stored = StoredVariables(path, model)
        stored.check({name: v.shape for name, v in variables.items()})
        for name, variable in variables.items():
            put(variable, stored[name])
    return _read_state(path)


@contextlib.contextmanager
def reading(path, what="cannot be read", otherwise=""):
    """Turns what is wrong with a checkpoint into an `InputError` that names it."""
    try:
        yield
    except READING_ERRORS as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: {what} ({reason}){otherwise}") from None


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


def _name(epoch, step=0):
    return f"epoch-{epoch:05d}-step-{step:09d}"
