"""Requests of one signature run together, by the rule of TF Serving.

A request joins the open batch of its signature if it fits, else it begins the next.
A batch runs when it is full, when the next has begun, or when its first request has
waited `batch_timeout_micros`. **Shapes are not looked at before**: requests of unequal
ones meet in a batch all the same. What goes wrong with a batch goes wrong with every
request of it.
"""

import threading
import time
from concurrent.futures import Future

import numpy as np

from .refusal import Refused, invalid

UNEQUAL = (
    "Tensors with name '{}' from different tasks have different shapes and padding is "
    "turned off.Set pad_variable_length_inputs to true, or ensure that all tensors "
    "with the same namehave equal dimensions starting with the first dim."
)


class Task:
    """A request, or a part of a large one: its inputs, and the answer to come."""

    def __init__(self, inputs, size):
        self.inputs, self.size = inputs, size
        self.answer = Future()


class Batch:
    def __init__(self):
        self.tasks, self.size, self.due = [], 0, None


class Batcher:
    """Runs requests in batches, on threads of its own.

    Args:
        parameters: `BatchingParameters`.
        run: Called with a key and the inputs of a batch, tensor name -> array; returns
            the outputs alike.

    Attributes:
        sizes: Rows of each batch that ran, with those that filled it up.
    """

    def __init__(self, parameters, run):
        self.sizes = []
        self._parameters, self._run = parameters, run
        self._queues = {}  # key -> batches, of which the last is open
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, daemon=True)
            for _ in range(parameters.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def close(self):
        """Ends the threads, after what still waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def run(self, key, inputs):
        """The outputs of a request, once a batch that it is in has run.

        Args:
            key: Requests of equal keys are batched.
            inputs: Tensor name -> array.

        Raises:
            Refused: If the request, or another of its batch, is.
        """
        tasks = self._enqueued(key, inputs, _rows(inputs))
        answers = [task.answer.result() for task in tasks]
        if len(answers) == 1:
            return answers[0]
        return {
            name: np.concatenate([answer[name] for answer in answers])
            for name in answers[0]
        }

    def _enqueued(self, key, inputs, size):
        limit = self._parameters.max_batch_size
        if size > limit:
            raise invalid(
                f"Task size {size} is larger than maximum input batch size {limit}"
            )
        full = self._parameters.max_execution_batch_size
        with self._changed:
            if self._closed:
                raise Refused("UNAVAILABLE", "the server is closed")
            batches = self._queues.setdefault(key, [Batch()])
            self._check_room(batches, size)
            sizes = [size]
            if self._parameters.enable_large_batch_splitting:
                sizes = list(_parts(size, full - batches[-1].size, full))
            ends = np.cumsum(sizes)
            tasks = [
                Task({name: a[end - n : end] for name, a in inputs.items()}, n)
                for n, end in zip(sizes, ends)
            ]
            for task in tasks:
                if batches[-1].size + task.size > full:
                    batches.append(Batch())
                self._add(batches[-1], task)
            self._changed.notify_all()
        return tasks

    def _add(self, batch, task):
        if not batch.tasks:
            wait = self._parameters.batch_timeout_micros / 1e6
            batch.due = time.monotonic() + wait
        batch.tasks.append(task)
        batch.size += task.size

    def _check_room(self, batches, size):
        most = self._parameters.max_enqueued_batches
        full = self._parameters.max_execution_batch_size
        told = "The batch scheduling queue to which this task was submitted is full; "
        if self._parameters.enable_large_batch_splitting:
            room = (most - len(batches)) * full + full - batches[-1].size
            if size > room:
                raise Refused(
                    "UNAVAILABLE",
                    f"{told}task size is {size} but scheduling capacity is only {room}",
                )
        elif batches[-1].size + size > full and len(batches) >= most:
            raise Refused(
                "UNAVAILABLE",
                f"{told}currently {len(batches)} batches enqueued and "
                f"max_enqueued_batches is {most}",
            )

    def _work(self):
        while True:
            with self._changed:
                while (ready := self._next()) is None:
                    waits = any(batches[0].tasks for batches in self._queues.values())
                    if self._closed and not waits:
                        return
                    self._changed.wait(0.001 if waits else None)
            self._process(*ready)

    def _next(self):
        """Key and tasks of a batch that can run, which leaves its queue."""
        for key, batches in list(self._queues.items()):
            first = batches[0]
            is_closed = len(batches) > 1 or self._closed
            if first.tasks and (
                is_closed
                or first.size >= self._parameters.max_execution_batch_size
                or time.monotonic() >= first.due
            ):
                batches.pop(0)
                if not batches:
                    batches.append(Batch())
                # The other signatures come first the next time.
                self._queues[key] = self._queues.pop(key)
                return key, first.tasks
        return None

    def _process(self, key, tasks):
        try:
            for task, outputs in zip(tasks, self._answers(key, tasks)):
                task.answer.set_result(outputs)
        except Exception as error:
            if not isinstance(error, Refused):
                error = Refused("INTERNAL", repr(error))
            for task in tasks:
                task.answer.set_exception(Refused(error.code, error.message))

    def _answers(self, key, tasks):
        """The outputs of each task of a batch."""
        ends = np.cumsum([task.size for task in tasks])
        size = filled = int(ends[-1])
        inputs = {
            name: self._merged(name, [task.inputs[name] for task in tasks])
            for name in tasks[0].inputs
        }
        if size:
            allowed = self._parameters.allowed_batch_sizes
            filled = next((n for n in allowed if n >= size), size)
            # By a row that is known to be a good one: the last request's first.
            rows = [*range(size), *[size - tasks[-1].size] * (filled - size)]
            inputs = {name: array[rows] for name, array in inputs.items()}
        self.sizes.append(filled)
        outputs = self._run(key, inputs)
        for array in outputs.values():
            if not array.ndim:
                raise Refused(
                    "FAILED_PRECONDITION", "Batched output tensor has 0 dimensions"
                )
            if len(array) != filled:
                raise Refused(
                    "FAILED_PRECONDITION",
                    "Batched output tensor's 0th dimension does not equal the sum of "
                    "the 0th dimension sizes of the input tensors",
                )
        return [
            {name: array[end - task.size : end] for name, array in outputs.items()}
            for task, end in zip(tasks, ends)
        ]

    def _merged(self, name, arrays):
        if self._parameters.pad_variable_length_inputs:
            arrays = _padded(arrays)
        elif len({array.shape[1:] for array in arrays}) > 1:
            raise Refused("FAILED_PRECONDITION", UNEQUAL.format(name))
        if kinds := {array.dtype for array in arrays} - {arrays[0].dtype}:
            raise Refused(
                "INTERNAL",
                "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate "
                "tensors that have different data types: Got "
                f"{arrays[0].dtype} and {kinds.pop()}.",
            )
        return np.concatenate(arrays)


def _rows(inputs):
    """Rows of a request."""
    if not inputs:
        raise invalid("Batching Run() must have at least one input tensor")
    if any(not array.ndim for array in inputs.values()):
        raise invalid("Batching Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in inputs.values()}
    if len(sizes) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _parts(size, room, full):
    """Rows of the parts of a large request: the first fills the open batch up."""
    if size <= room:
        yield size
        return
    if room:
        yield room
        size -= room
    while size:
        yield min(size, full)
        size -= min(size, full)


def _padded(arrays):
    """Arrays of one shape but for the rows: each filled up with its first value."""
    sizes = np.max([array.shape[1:] for array in arrays], axis=0).astype(int)
    padded = []
    for array in arrays:
        shape = (len(array), *sizes)
        if array.shape != shape:
            if not array.size:
                raise invalid("Got empty tensor in batch of non-empty tensors.")
            full = np.full(shape, array.flat[0], array.dtype)
            full[tuple(map(slice, array.shape))] = array
            array = full
        padded.append(array)
    return padded
