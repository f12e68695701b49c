"""Work in a process of its own that starts at once: a tenth of a second, not six.

It is forked from a server that has imported the library and has run nothing yet, the
one of `edcn_tf.tuning`. Where a test is of how a process begins, it starts a real one.
"""

import os
import sys
from pathlib import Path

import keras
import numpy as np

from edcn import main
from edcn_tf.tuning.process import run_apart


def edcn(*arguments, cwd):
    """Runs a command; returns its exit status, standard output and error.

    What the system's own descriptors get of it, so that of C++ too.
    """
    told = [Path(cwd) / f".edcn.{os.getpid()}.{name}" for name in ("out", "err")]
    try:
        arguments = list(map(str, arguments))
        status = run_apart(_edcn, arguments, str(cwd), *map(str, told), log=os.devnull)
        return status, *(path.read_text(encoding="utf-8") for path in told)
    finally:
        for path in told:
            path.unlink(missing_ok=True)


def _edcn(arguments, cwd, *streams):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.chdir(cwd)
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    status = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def reload_models(directory):
    """Writes what each model of a directory gives for the inputs beside it."""
    run_apart(_reload_models, str(directory), log=Path(directory) / "reload.log")


def _reload_models(directory):
    for path in Path(directory).glob("*.keras"):
        with np.load(path.with_suffix(".npz")) as inputs:
            arrays = [inputs[name] for name in inputs.files]
        model = keras.saving.load_model(path)
        outputs = model(arrays if len(arrays) > 1 else arrays[0])
        np.save(path.with_suffix(".npy"), np.asarray(outputs))
