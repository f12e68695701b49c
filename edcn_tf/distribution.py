"""Training on several devices and machines with `tf.distribute`."""

import keras
import tensorflow as tf


class DistributedTraining:
    """What Keras' `fit` lacks under a `tf.distribute` strategy: mix in before Model.

    One step on R replicas is the step of one process on all their rows: the gradient
    is that of the mean over the N rows of the global batch,

        g = sum over replicas r of (n_r / N) * gradient of replica r's mean loss

    where Keras takes 1 / R in place of n_r / N, which is the same only while all
    replicas have equally many rows: at the end of an epoch some have fewer, or none.

    Without a strategy, or with one replica alone, everything is as Keras has it.

    For a model whose input is one tensor, `[B, ...]`.
    """

    def train_step(self, data):
        if self.distribute_strategy.num_replicas_in_sync == 1:
            return super().train_step(data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        rows = tf.shape(x)[0]
        # Layers take means over the rows, so a replica whose rows have run out takes
        # one of zeros, which counts nowhere.
        filled = tf.pad(
            x, [[0, tf.cast(rows == 0, tf.int32)]] + [[0, 0]] * (x.shape.rank - 1)
        )
        with tf.GradientTape() as tape:
            y_pred = self(filled, training=True)[:rows]
            # Keras scales it by 1 / R.
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
            share = self._share_of_rows(rows)
            scaled = self.optimizer.scale_loss(loss * share)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, weights), weights))
        replicas = self.distribute_strategy.num_replicas_in_sync
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss * replicas, sample_weight=rows)
        logs = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return self._per_step(logs)

    def test_step(self, data):
        return self._per_step(super().test_step(data))

    def _share_of_rows(self, rows):
        """n_r * R / N: by how much this replica's rows count more than 1 / R."""
        context = tf.distribute.get_replica_context()
        rows = tf.cast(rows, tf.float32)
        return rows * context.num_replicas_in_sync / context.all_reduce("SUM", rows)

    def _per_step(self, logs):
        """Under MultiWorkerMirroredStrategy Keras averages logs over their axis 0."""
        strategy = self.distribute_strategy
        if (
            not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
            or strategy.num_replicas_in_sync == 1
        ):
            return logs
        return keras.tree.map_structure(lambda log: tf.reshape(log, [1]), logs)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds metrics and optimizer; what Keras' own does fails in two ways.

        It averages the first global batch over the replicas, which
        MultiWorkerMirroredStrategy does not do with tuples, nor any strategy with
        parts of unequal length, and it starts the input once in vain.
        """
        if self.optimizer is not None or iterator is None:
            data_batch = (
                tf.TensorSpec([None, self.embedding.num_slots], tf.int32),
                tf.TensorSpec([None], tf.float32),
            )
        super()._maybe_symbolic_build(data_batch=data_batch)
