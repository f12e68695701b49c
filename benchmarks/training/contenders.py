"""Programs that take turns at training, so that noise falls on all of them alike."""

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from edcn_tf import console
from edcn_tf.errors import InputError

from ..environments import python_of
from .workload import STEPS

FOLDER = Path(__file__).parent
OWN = sys.executable


class Contender:
    """A program that waits for its turns (see `workload.take_turns`).

    Args:
        program: File name in this folder.
        python: The Python to run it by.
        options: Of `workload.arguments`, a dict.
    """

    def __init__(self, program, python=OWN, **options):
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close)
        self.process = subprocess.Popen(
            [python, FOLDER / program, *(f"--{k}={v}" for k, v in options.items())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            reason = self.errors.read().strip().splitlines()[-1:] or ["it ended"]
            raise InputError(f"{self.process.args[1]}: {reason[0]}")
        return line

    def ready(self):
        while self.answer().strip() != "ready":
            pass

    def turn(self, steps):
        """What `steps` steps took: a dict of seconds a step and the peak of memory."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = json.loads(self.answer())
        return {**answer, "seconds": answer["seconds"] / steps}

    def close(self):
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def measured(contenders, turns, seconds):
    """Name -> `[turns]` seconds a step, and name -> peak bytes; in turns."""
    with contextlib.ExitStack() as stack:
        for contender in contenders.values():
            stack.callback(contender.close)
        for contender in contenders.values():  # these have started side by side
            contender.ready()
        steps = {}
        for name, contender in contenders.items():
            turns_a_second = 1 / (STEPS * contender.turn(STEPS)["seconds"])
            steps[name] = STEPS * max(1, round(seconds * turns_a_second))
        times = {name: [] for name in contenders}
        peaks = {}
        for _ in tqdm(
            range(turns),
            "Taking turns",
            leave=False,
            disable=not console.interactive(),
        ):
            for name, contender in contenders.items():
                answer = contender.turn(steps[name])
                times[name].append(answer["seconds"])
                peaks[name] = answer["peak_bytes"]
    return {name: np.array(taken) for name, taken in times.items()}, peaks


# Name -> its program, and what its virtual environment needs.
PEERS = {
    "DeepCTR": (
        "with_deepctr.py",
        ["deepctr==0.9.4", f"tensorflow=={tf.__version__}", "tf_keras"],
    ),
    "PyTorch": ("with_torch.py", ["torch==2.13.0", "numpy"]),
}


def peers_in(directory, names=tuple(PEERS)):
    """Name -> (program, Python) of each peer, installed there if it is not yet."""
    return {
        name: (PEERS[name][0], python_of(directory, name, PEERS[name][1]))
        for name in names
    }
