"""The processes that train together, and what they agree on."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from edcn_tf.choices import STRATEGIES
from edcn_tf.errors import InputError
from edcn_tf.models.distribution import PEER_ERRORS, number_of_workers


def make_strategy(name: str) -> tf.distribute.Strategy:
    """A `tf.distribute` strategy by its name; to be called first of all.

    TensorFlow can no longer join a cluster once it has run anything.

    Args:
        name: `"mirrored"` (all GPUs of this machine) or `"multi_worker"` (the
            processes that the environment variable TF_CONFIG names, with all their
            GPUs). The latter returns when all processes have started.

    Raises:
        InputError: If TF_CONFIG does not say what the workers are, or this one
            cannot listen at its address.
    """
    if name not in STRATEGIES:
        raise InputError(
            f"strategy must be one of {list(STRATEGIES)}. Received: {name!r}"
        )
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    _check_cluster(os.environ.get("TF_CONFIG", ""))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        reason = " ".join(error.message.split())[:300]
        raise InputError(
            f"The workers of TF_CONFIG did not come together ({reason})"
        ) from None


def _check_cluster(text):
    """Refuses what TensorFlow would wait for without a word, or ends over."""
    example = (
        'such as {"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        addresses = cluster[task["type"]]
        known = set(cluster) <= {"chief", "worker"} and all(
            isinstance(address, str)
            for addresses in cluster.values()
            for address in addresses
        )
        good = known and int(task["index"]) in range(len(addresses))
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise InputError(
            "Each worker needs the environment variable TF_CONFIG, a JSON text "
            f"{example}. Received: {text!r}"
        )


class Workers:
    """Which of the processes that train together this one is.

    Args:
        strategy: `tf.distribute` strategy; `None` for this process alone.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self.strategy = strategy or tf.distribute.get_strategy()
        self.number = number_of_workers(self.strategy)
        self.index = 0
        if self.number > 1:
            resolver = self.strategy.cluster_resolver
            jobs = resolver.cluster_spec().as_dict()
            before = len(jobs.get("chief", ())) if resolver.task_type != "chief" else 0
            self.index = before + int(resolver.task_id)
        self._of_chief = tf.function(
            self._summed, input_signature=[tf.TensorSpec([None], tf.float64)]
        )

    @property
    def is_chief(self) -> bool:
        """The chief alone writes, and decides."""
        return self.index == 0

    def of_chief(self, values: Sequence[float]) -> list[float]:
        """A list of numbers as the chief has it. Waits until all have asked."""
        if self.number == 1:
            return list(values)
        return self._of_chief(tf.constant(values, tf.float64)).numpy().tolist()

    def _summed(self, values):
        """The sum over the replicas, to which only the chief's first one adds."""

        def of_replica():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            return tf.where(tf.equal(replica, 0), values, 0.0)

        return self.strategy.reduce("SUM", self.strategy.run(of_replica), axis=None)

    def batch_size_of_replica(self, batch_size: int) -> int:
        """Rows of a step that each replica takes; an `InputError` if uneven."""
        replicas = self.strategy.num_replicas_in_sync
        if batch_size % replicas:
            raise InputError(
                f"batch_size is that of all {replicas} replicas together, so it must "
                f"be a multiple of {replicas}. Received: {batch_size}"
            )
        return batch_size // replicas

    def input(
        self, batch_size: int, read: Callable[[int, tuple[int, int] | None], Any]
    ) -> Any:
        """What `fit` reads: each worker its own part.

        Args:
            batch_size: Rows of a step, of all replicas together.
            read: Function of `batch_size` and `shard` (`read_records`) to a data set.

        Raises:
            InputError: If the replicas cannot share `batch_size` evenly.
        """
        rows = self.batch_size_of_replica(batch_size)
        if self.number == 1:
            return read(batch_size, None)
        return self.strategy.distribute_datasets_from_function(
            lambda _: read(rows, (self.index, self.number))
        )

    @contextlib.contextmanager
    def ending_together(self) -> Iterator[None]:
        """Turns TensorFlow's error over another worker's end into an `InputError`."""
        try:
            yield
        except PEER_ERRORS as error:
            if self.number == 1:
                raise
            raise InputError(
                f"Worker {self.index} of {self.number} stops: another has ended or "
                "cannot be reached. Give all of them the same command to go on from "
                "the last finished epoch"
            ) from error
