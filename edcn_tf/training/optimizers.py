"""Adam whose cost follows the batch, not the embedding table."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edcn_tf.layers import large_table

UNSUPPORTED = {
    "gradient_accumulation_steps": "it would keep a dense sum as large as the table; "
    "use a larger batch",
    "weight_decay": "it would change the whole table at each step; use the model's l2",
    "use_ema": "it would average the whole table at each step; use average_decay",
    "loss_scale_factor": "it would make the table's gradient dense; use the dtype "
    "policy mixed_bfloat16, which needs no loss scaling",
}


@keras.saving.register_keras_serializable(package="edcn_tf")
class SparseAdam(keras.optimizers.Optimizer):
    """Adam that updates only the rows of a table that the batch has touched.

    For step t = 1, 2, ... and each row with a gradient g (gradients of a row that
    occurs several times are summed first):

        m = beta_1 m + (1 - beta_1) g
        v = beta_2 v + (1 - beta_2) g^2
        w = w - lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    A row that is not touched keeps w, m and v. Where every row is touched in every
    step this is Keras' Adam on the dense gradient; variables with a dense gradient get
    just that.

    With `average_decay` = a it also keeps the exponential average of the weights
    after each step,

        u_t = (1 - a) * sum over s = 1..t of a^(t - s) w_s / (1 - a^t)

    which usually predicts better than the last weights. A row that was not touched
    for k steps is caught up exactly, with a^k, when it is next touched or read.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule` or
            a callable.
        beta_1, beta_2, epsilon: As above.
        average_decay: a in [0, 1), or `None` for no average.
        clipnorm, clipvalue, global_clipnorm: As in Keras' optimizers; the norm of a
            table's gradient is that of its touched rows, duplicates summed.

    Raises:
        ValueError: For a value out of its range, and for each option of Keras'
            optimizers whose cost would follow the table (see the message).

    Example:
        >>> model.compile(SparseAdam(1e-3, average_decay=0.99), "binary_crossentropy")
        >>> model.fit(train)
        >>> with model.optimizer.averaged_weights():
        ...     model.evaluate(valid)

    Reference:
        Kingma and Ba 2015, algorithm 1, in the form at the end of its section 2.
    """

    def __init__(
        self,
        learning_rate: float
        | keras.optimizers.schedules.LearningRateSchedule
        | Callable[[], float] = 1e-3,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        average_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "sparse_adam",
        **unsupported: Any,
    ) -> None:
        for key, value in unsupported.items():
            if key not in UNSUPPORTED:
                raise ValueError(f"SparseAdam has no argument {key!r}")
            if value:
                raise ValueError(
                    f"SparseAdam does not support `{key}`: {UNSUPPORTED[key]}. "
                    f"Received: {value!r}"
                )
        for key, value in [
            ("beta_1", beta_1),
            ("beta_2", beta_2),
            ("average_decay", average_decay or 0.0),
        ]:
            if not 0 <= value < 1:
                raise ValueError(f"`{key}` must be in [0, 1). Received: {value}")
        if epsilon <= 0:
            raise ValueError(f"`epsilon` must be > 0. Received: {epsilon}")
        super().__init__(
            learning_rate,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
        )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.average_decay = average_decay

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        names = ["momentum", "velocity"] + ["average"] * bool(self.average_decay)
        self._momentums, self._velocities, *averages = self.add_optimizer_variables(
            variables, names
        )
        if self.average_decay:
            self._averages = averages[0]
            # Number of the step that each row's average is as of.
            self._averaged_at = [
                self.add_variable(
                    variable.shape[:1], dtype="int32", name=f"averaged_at_{i}"
                )
                for i, variable in enumerate(variables)
            ]

    def apply(
        self,
        grads: Sequence[tf.Tensor | tf.IndexedSlices],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        super().apply([_with_unique_rows(grad) for grad in grads], trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        # Under tf.distribute. The rows of all replicas come back one after another,
        # so those that several touched are summed here; and only now is the gradient
        # that of the whole batch, whose norm may be clipped.
        reduced = super()._all_reduce_sum_gradients(grads_and_vars)
        if not _in_one_of_several_replicas():
            return reduced
        grads, variables = zip(*reduced)
        for grad, variable in reduced:
            if isinstance(grad, tf.IndexedSlices):  # with the width lost on the way
                grad.values.set_shape([None, *variable.shape[1:]])
        unique = [_with_unique_rows(grad) for grad in grads]
        return list(zip(self._clipped(unique), variables))

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        return grads if _in_one_of_several_replicas() else self._clipped(grads)

    def _clipped(self, grads: Sequence[Any]) -> list[Any]:
        # Rows are unique here, so the norm of the slices is that of the gradient.
        values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in grads]
        return [
            tf.IndexedSlices(value, grad.indices, grad.dense_shape)
            if isinstance(grad, tf.IndexedSlices)
            else value
            for grad, value in zip(grads, super()._clip_gradients(values))
        ]

    def update_step(
        self,
        gradient: tf.Tensor | tf.IndexedSlices,
        variable: keras.Variable | tf.Variable,
        learning_rate: tf.Tensor | keras.Variable,
    ) -> None:
        index = self._get_variable_index(variable)
        slots = [_resource(s[index]) for s in (self._momentums, self._velocities)]
        step = tf.cast(self.iterations.value, tf.float32) + 1
        power_1, power_2 = tf.pow(self.beta_1, step), tf.pow(self.beta_2, step)
        rate = tf.cast(learning_rate, tf.float32)
        if isinstance(gradient, tf.IndexedSlices):
            alpha = rate * tf.sqrt(1 - power_2) / (1 - power_1)
            self._update_rows(gradient, _resource(variable), slots, alpha, index)
        else:
            self._update_all(
                gradient, _resource(variable), slots, rate, (power_1, power_2), index
            )

    def _update_rows(
        self,
        gradient: tf.IndexedSlices,
        variable: tf.Variable,
        slots: Sequence[tf.Variable],
        alpha: tf.Tensor,
        index: int,
    ) -> None:
        # Every read is a gather from the variable itself: reading a variable as a
        # tensor would copy it before it is changed. Rows are put in place rather than
        # added to: with one value a row, that is several times as fast.
        rows, grad = gradient.indices, tf.cast(gradient.values, variable.dtype)
        momentum, velocity = (tf.gather(slot, rows) for slot in slots)
        momentum += (grad - momentum) * (1 - self.beta_1)
        velocity += (tf.square(grad) - velocity) * (1 - self.beta_2)
        before = tf.gather(variable, rows)
        after = before - alpha * momentum / (tf.sqrt(velocity) + self.epsilon)
        if self.average_decay:
            self._average_rows(rows, before, after, index)
        values = (after, momentum, velocity)
        for resource, value in zip((variable, *slots), values):
            resource.scatter_update(tf.IndexedSlices(value, rows))

    def _average_rows(
        self, rows: tf.Tensor, before: tf.Tensor, after: tf.Tensor, index: int
    ) -> None:
        average, averaged_at = self._averages[index].value, self._averaged_at[index]
        step = tf.cast(self.iterations.value, tf.int32)
        skipped = step - tf.gather(averaged_at.value, rows)
        mean = _decayed(
            tf.gather(average, rows), before, self._decay, skipped
        )  # as of the step before this one
        mean = after + self._decay * (mean - after)
        average.scatter_update(tf.IndexedSlices(mean, rows))
        steps = tf.fill(tf.shape(rows), step + 1)
        averaged_at.value.scatter_update(tf.IndexedSlices(steps, rows))

    def _update_all(
        self,
        gradient: tf.Tensor,
        variable: tf.Variable,
        slots: Sequence[tf.Variable],
        rate: tf.Tensor,
        powers: tuple[tf.Tensor, tf.Tensor],
        index: int,
    ) -> None:
        if self.average_decay:  # as of the step before, as in _average_rows
            average = self._averages[index].value
            at = self._averaged_at[index].value
            step = tf.cast(self.iterations.value, tf.int32)
            mean = _decayed(average, variable, self._decay, step - at)
        with tf.control_dependencies([mean] if self.average_decay else []):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=slots[0].handle,
                v=slots[1].handle,
                beta1_power=tf.cast(powers[0], variable.dtype),
                beta2_power=tf.cast(powers[1], variable.dtype),
                lr=tf.cast(rate, variable.dtype),
                beta1=tf.cast(self.beta_1, variable.dtype),
                beta2=tf.cast(self.beta_2, variable.dtype),
                epsilon=tf.cast(self.epsilon, variable.dtype),
                grad=tf.cast(gradient, variable.dtype),
            )
        if self.average_decay:
            after = variable.read_value()
            average.assign(after + self._decay * (mean - after))
            at.assign(tf.fill(tf.shape(at), step + 1))

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Puts the averaged weights in place of the model's while inside.

        Without `average_decay`, or before the first step, it changes nothing. Costs
        time and memory of the table, so it is for evaluation, not for a step.
        """
        if not self._has_average():
            yield
            return
        kept = []
        for index, variable in enumerate(self._trainable_variables):
            kept.append(variable.value.read_value())
            variable.value.assign(self._averaged(index, self._decay))
        try:
            yield
        finally:
            for variable, weights in zip(self._trainable_variables, kept):
                variable.value.assign(weights)

    def adopt_average(self) -> None:
        """Puts the averaged weights in place of the model's for good.

        Further steps go on from them, and `averaged_weights` then changes nothing
        until the next step. Without `average_decay`, or before the first step, it
        does nothing.
        """
        if not self._has_average():
            return
        for index, variable in enumerate(self._trainable_variables):
            mean = self._averaged(index, self._decay)
            variable.value.assign(mean)
            self._set_average(index, mean)

    def take_average_of(self, decay: float) -> None:
        """Goes on from averages that were kept with another decay.

        They stay the averages that they are, and count from now on as those of
        `average_decay` would. Costs time and memory of the table.

        Args:
            decay: The `average_decay` that the averages were kept with.
        """
        if not self._has_average():
            return
        for index in range(len(self._trainable_variables)):
            self._set_average(index, self._averaged(index, decay))

    def forget_average(
        self, variable: keras.Variable | tf.Variable, rows: np.ndarray | tf.Tensor
    ) -> None:
        """Averages rows of a table as if all steps so far had ended at their weights.

        For rows that were given other weights: the average would be of the former.

        Args:
            variable: The table, one of the variables that were trained.
            rows: `[n]` int.
        """
        if not self._has_average():
            return
        index, step = self._get_variable_index(variable), int(self.iterations.numpy())
        average = tf.gather(variable.value, rows) * (1 - self._decay**step)
        large_table.set_rows(self._averages[index], rows, average)
        steps = tf.fill([len(rows)], step)
        large_table.set_rows(self._averaged_at[index], rows, steps)

    @property
    def _decay(self) -> float:
        return self.average_decay or 0.0

    def _has_average(self) -> bool:
        kept = self.average_decay and self.built
        return bool(kept) and int(self.iterations.numpy()) > 0

    def _averaged(self, index: int, decay: float) -> tf.Tensor:
        """The average, kept with `decay`, of a variable's weights over all steps."""
        step = int(self.iterations.numpy())
        mean = _decayed(
            self._averages[index].value,
            self._trainable_variables[index].value,
            decay,
            step - self._averaged_at[index].value,
        )
        return mean / (1 - decay**step)

    def _set_average(self, index: int, mean: tf.Tensor) -> None:
        """Keeps it as if all steps so far had ended at these weights."""
        step = int(self.iterations.numpy())
        self._averages[index].value.assign(mean * (1 - self._decay**step))
        at = self._averaged_at[index].value
        at.assign(tf.fill(tf.shape(at), step))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        kept = ("name", "learning_rate", "clipnorm", "clipvalue", "global_clipnorm")
        return {
            **{key: config[key] for key in kept},
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "average_decay": self.average_decay,
        }


@keras.saving.register_keras_serializable(package="edcn_tf")
class DenseAdam(keras.optimizers.Adam):
    """Keras' Adam, on the gradient of the whole table.

    A gather's gradient has a row for each id. Keras (3.15) squares these one by one
    where an id occurs several times, not their sum, so that v is too small, and a row
    that occurs n times in a batch moves up to sqrt(n) times too far.
    """

    def apply(
        self,
        grads: Sequence[tf.Tensor | tf.IndexedSlices],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        dense = [g if g is None else tf.convert_to_tensor(g) for g in grads]
        super().apply(dense, trainable_variables)


def _with_unique_rows(
    gradient: tf.Tensor | tf.IndexedSlices | None,
) -> tf.Tensor | tf.IndexedSlices | None:
    """Sums the gradients of rows that occur several times."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, positions = tf.unique(tf.reshape(gradient.indices, [-1]))
    # A sparse matrix of ones, [rows, ids], times the gradient [ids, D]: on CPUs twice
    # as fast as tf.math.unsorted_segment_sum.
    number, ids = tf.size(rows), tf.size(positions)
    width = gradient.values.shape[1:].num_elements()
    sums = tf.raw_ops.SparseTensorDenseMatMul(
        a_indices=tf.stack([positions, tf.range(ids)], axis=1),
        a_values=tf.ones([ids], gradient.values.dtype),
        a_shape=tf.cast([number, ids], tf.int64),
        b=tf.reshape(gradient.values, [ids, width]),
    )
    sums = tf.reshape(sums, [number, *gradient.values.shape[1:]])
    return tf.IndexedSlices(sums, rows, gradient.dense_shape)


def _in_one_of_several_replicas() -> bool:
    context = tf.distribute.get_replica_context()
    return context is not None and context.num_replicas_in_sync > 1


def _resource(variable: keras.Variable | tf.Variable) -> tf.Variable:
    """The TensorFlow variable: Keras hands the optimizer either kind."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def _decayed(
    average: tf.Tensor, weights: tf.Tensor, decay: float, steps: tf.Tensor
) -> tf.Tensor:
    """The average after `steps` further steps, `[rows]`, in which weights stayed."""
    share = tf.pow(decay, tf.cast(steps, tf.float32))
    ones = [1] * (average.shape.rank - share.shape.rank)
    share = tf.reshape(share, tf.concat([tf.shape(share), ones], 0))
    return weights + share * (average - weights)


def averaged_weights(
    optimizer: keras.optimizers.Optimizer,
) -> AbstractContextManager[None]:
    """`SparseAdam.averaged_weights`; nothing for an optimizer that has no average."""
    if isinstance(optimizer, SparseAdam):
        return optimizer.averaged_weights()
    return contextlib.nullcontext()
