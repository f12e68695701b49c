"""What training remembers beside the variables, from one step to the next."""

import dataclasses
import types
import typing

KEY = "key"  # metadata of a field that has another name in `state.json`


@dataclasses.dataclass(kw_only=True)
class TrainingState:
    """All that a run goes on from, but for weights, optimizer and random draws.

    Args:
        rows: Rows of the training split, of whose order `step` is a place.
        epoch: Number of finished epochs.
        step: Number of steps made of the next one.
        loss: Sum of the losses, and number of rows, of these steps.
        epoch_figures: The line of `history.csv` of each finished epoch, a dict.
        epoch_seconds: What the steps of the unfinished epoch took.
        best_epoch: That of the best validation AUC, counted from 1.
        best_auc, best_log_loss: Its figures.
        wait: Epochs since then, or since the learning rate dropped.
        drops: How often it did.
        stop: Whether training has ended before its last epoch.
        training_seconds: What the finished epochs took.
    """

    epoch: int = 0
    step: int = 0
    loss: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0.0])
    epoch_figures: list[dict] = dataclasses.field(
        default_factory=list, metadata={KEY: "history"}
    )
    rows: int
    epoch_seconds: float = 0.0
    best_epoch: int | None = None
    best_auc: float = -1.0
    best_log_loss: float | None = None
    wait: int = 0
    drops: int = 0
    stop: bool = False
    training_seconds: float = 0.0

    def to_json(self):
        """As a dict of what JSON has, for `state.json`."""
        return {key: getattr(self, name) for key, (name, _) in _keys().items()}

    @classmethod
    def from_json(cls, value):
        """The state that `to_json` gave.

        Raises:
            ValueError: If it is none: a key is missing, unknown, or of another type.
        """
        keys = _keys()
        if not isinstance(value, dict) or set(value) != set(keys):
            raise ValueError("is not what training remembers")
        for key, (_, kinds) in keys.items():
            if type(value[key]) not in kinds:
                raise ValueError(f"{key} is of another type")
        if [type(part) for part in value["loss"]] != [float, float]:
            raise ValueError("loss is not a sum and a number of rows")
        if not all(map(_are_figures, value["history"])):
            raise ValueError("history is not figures of epochs")
        return cls(**{name: value[key] for key, (name, _) in keys.items()})

    def for_rows(self, rows):
        """The same state, for a training split of so many rows.

        Of other rows than it was left with, such as those that were found to be good
        since, the order is another: an epoch that was left within begins anew.
        """
        if self.rows == rows:
            return self
        return dataclasses.replace(self, rows=rows, step=0, loss=[0.0, 0.0])


def _keys():
    """Key in `state.json` -> name of the field, and the types that it may have."""
    hints = typing.get_type_hints(TrainingState)
    return {
        field.metadata.get(KEY, field.name): (field.name, _types(hints[field.name]))
        for field in dataclasses.fields(TrainingState)
    }


def _types(hint):
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return tuple(typing.get_origin(kind) or kind for kind in kinds)


def _are_figures(row):
    """Whether it may be a line of `history.csv`."""
    return (
        isinstance(row, dict)
        and "epoch" in row
        and all(type(value) in (int, float, type(None)) for value in row.values())
    )
