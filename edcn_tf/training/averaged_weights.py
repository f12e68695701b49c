"""The callback by which `model.fit` validates and keeps averaged weights."""

import contextlib
from typing import Any

import keras

from edcn_tf.training.optimizers import SparseAdam, averaged_weights


class AveragedWeights(keras.callbacks.Callback):
    """Validates and keeps the average of weights of `SparseAdam(average_decay=...)`.

    Training goes on with the last weights. Validation, and each callback that stands
    after this one when an epoch ends, sees the averaged ones: a `ModelCheckpoint` or
    `EarlyStopping(restore_best_weights=True)` there keeps the weights that were
    validated. A checkpoint to go on training from stands before it. After training
    the model has the averaged weights (`SparseAdam.adopt_average`).

    It also serves `model.evaluate` and `model.predict` while a model has its last
    weights. Costs a copy of the table while the averaged weights are in place.

    Raises:
        ValueError: When training begins with an optimizer that keeps no average.

    Example:
        >>> model.compile(SparseAdam(1e-2, average_decay=0.998), "binary_crossentropy")
        >>> model.fit(
        ...     train,
        ...     validation_data=valid,
        ...     epochs=20,
        ...     callbacks=[
        ...         AveragedWeights(),
        ...         keras.callbacks.EarlyStopping(restore_best_weights=True),
        ...     ],
        ... )
    """

    def __init__(self) -> None:
        super().__init__()
        self._swap = contextlib.ExitStack()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        optimizer = self.model.optimizer
        if not isinstance(optimizer, SparseAdam) or not optimizer.average_decay:
            raise ValueError(
                "AveragedWeights needs an optimizer that keeps an average, such as "
                f"SparseAdam(average_decay=0.998). Received: {optimizer}"
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._restore()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._average()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._restore()
        self.model.optimizer.adopt_average()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._average()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self._restore()

    def on_predict_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._average()

    def on_predict_end(self, logs: dict[str, Any] | None = None) -> None:
        self._restore()

    def _average(self) -> None:
        self._restore()  # if an interrupted validation left the average in place
        self._swap.enter_context(averaged_weights(self.model.optimizer))

    def _restore(self) -> None:
        self._swap.close()
