"""Models that train on several devices and machines with `tf.distribute`."""

import threading
from typing import Any

import keras
import tensorflow as tf

_of_this_thread = threading.local()

# What TensorFlow raises in the workers that are left when one ends.
PEER_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
)


# A mixin; to a type checker it has whatever `keras.Model` has.
_OfModel: Any = object


class DistributedTraining(_OfModel):
    """What Keras' `fit` lacks under a `tf.distribute` strategy; goes before `Model`.

    A step on R replicas is the step of one process that has all their rows: with n_r
    rows on replica r and N on all together, the gradient is

        g = sum over replicas r of (n_r / N) * gradient of the mean loss of r's rows

    where Keras takes 1 / R for n_r / N: the same only while all have equally many
    rows. At the end of an epoch some have fewer, or none.

    Each replica draws its own random numbers (dropout, `unseen_rate`).

    Without a strategy, or with a single replica, everything is as in Keras, except
    that a step on input that has ended does not count. (TensorFlow learns of the end
    while the step runs, and what needs no input, such as the optimizer's number of
    steps, may then be changed already; on one worker and not on another.)
    """

    def train_step(self, data: Any) -> dict[str, Any]:
        given = [part for part in keras.tree.flatten(data) if part is not None]
        with tf.control_dependencies(given):
            if self.distribute_strategy.num_replicas_in_sync == 1:
                return super().train_step(data)
            return self._train_step_of_replica(data)

    def _train_step_of_replica(self, data: Any) -> dict[str, Any]:
        replicas = self.distribute_strategy.num_replicas_in_sync
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        rows = tf.shape(x)[0]
        with tf.GradientTape() as tape:
            _of_this_thread.losses = []
            y_pred = self(x, training=True)
            # Keras has divided it by R.
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
            del _of_this_thread.losses
            scaled = self.optimizer.scale_loss(loss * _share(rows))
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, weights), weights))
        # The mean over no rows is no number, though its gradient is none.
        loss = tf.where(rows > 0, loss * replicas, 0.0)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=rows)
        logs = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return self._reducible(logs)

    def keep_losses(self, layer: keras.Layer) -> None:
        """Notes what a layer added to the loss, as soon as it has.

        The replicas of a process are traced in threads that take turns where they
        exchange something, as BatchNorm does, and Keras has one list of losses for
        all.
        """
        if hasattr(_of_this_thread, "losses"):
            _of_this_thread.losses += layer.losses

    @property
    def losses(self) -> list[Any]:
        return getattr(_of_this_thread, "losses", None) or super().losses

    def test_step(self, data: Any) -> dict[str, Any]:
        return self._reducible(super().test_step(data))

    def make_train_function(self, force: bool = False) -> None:
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1 and self.steps_per_execution > 1:
            raise ValueError(
                "`steps_per_execution` must be 1 with several replicas: Keras' loop "
                "over steps fails in TensorFlow there. Received: "
                f"{self.steps_per_execution}"
            )
        if self.train_function is None or force:
            self._draw_apart()
        super().make_train_function(force)

    def _reducible(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Keras averages a step's logs over their axis 0 if there are more workers."""
        if number_of_workers(self.distribute_strategy) == 1:
            return logs
        return keras.tree.map_structure(lambda log: tf.reshape(log, [1]), logs)

    def _draw_apart(self) -> None:
        """Gives each replica its own seeds; Keras starts all with the same."""
        strategy = self.distribute_strategy
        if strategy.num_replicas_in_sync == 1:
            return
        seeds = [v for v in self.variables if v.name == "seed_generator_state"]

        @tf.function
        def shift() -> None:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            for state in seeds:  # [seed, number of draws]
                state.assign_add(tf.cast([replica, 0], state.dtype))

        strategy.run(shift)

    def _maybe_symbolic_build(
        self, iterator: Any = None, data_batch: Any = None
    ) -> None:
        """Builds what is not built yet, from the shapes of ids and labels.

        Keras averages the first batch over the replicas to learn them. That fails
        where one has fewer rows, and with tuples under MultiWorkerMirroredStrategy.
        """
        ids = tf.TensorSpec([None, self.embedding.num_slots], tf.int32)
        labels = tf.TensorSpec([None], tf.float32)
        super()._maybe_symbolic_build(data_batch=(ids, labels))


def _share(rows: tf.Tensor) -> tf.Tensor:
    """By how much more than 1 / R a replica's rows count: n_r * R / N."""
    context = tf.distribute.get_replica_context()
    rows = tf.cast(rows, tf.float32)
    return rows * context.num_replicas_in_sync / context.all_reduce("SUM", rows)


def number_of_workers(strategy: tf.distribute.Strategy) -> int:
    """Processes that train together."""
    resolver = strategy.cluster_resolver
    if resolver is None:
        return 1
    tasks = resolver.cluster_spec().as_dict()
    return max(1, sum(len(tasks.get(job, ())) for job in ("chief", "worker")))
