"""Start training from an earlier run, on a vocabulary that has grown since.

What a value's row was is found by the value itself, so any prepared data will do, and
all that is moved is moved by whole arrays: the cost is that of reading the run once.
"""

import dataclasses
from pathlib import Path

import numpy as np

from edcn_tf.config import TrainingConfig
from edcn_tf.directories import Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.features.growth import check_fields
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import read_value, read_yaml
from edcn_tf.models.model_file import unbuilt_model
from edcn_tf.training.checkpoints.checkpoint import checkpoint_of, reading
from edcn_tf.training.checkpoints.stored_variables import StoredVariables, put, put_rows
from edcn_tf.training.checkpoints.variable_names import (
    SLOTS,
    counts_name,
    is_random_state,
    named_optimizer_variables,
    named_weights,
    slot_name,
)
from edcn_tf.training.continued_config import check_config, check_lengths
from edcn_tf.training.moved_rows import moved_tables, row_sources
from edcn_tf.training.optimizers import SparseAdam

MOMENTS = ("momentum", "velocity")  # slots that are of a value's own gradients


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """What `start_from` did.

    Attributes:
        values: Values of the new vocabulary, of all fields together.
        new_rows: `[num_rows]` bool: rows that the run has not trained; those of values
            that are new start from their field's unseen row, those of new fields as
            at any start.
        added, removed: Names of fields. Where there are any, towers and optimizer
            start anew.
    """

    values: int
    new_rows: np.ndarray
    added: tuple[str, ...]
    removed: tuple[str, ...]

    def __str__(self):
        new = int(self.new_rows.sum())
        text = f"{self.values - new:,} of {self.values:,} values have their embeddings"
        changes = [
            f"{what} {', '.join(names)}"
            for what, names in [("without", self.removed), ("with new", self.added)]
            if names
        ]
        if changes:
            text += f"; {' and '.join(changes)}: towers and optimizer start anew"
        return text


def start_from(run, model, spec, config):
    """Puts a run's weights, and its optimizer's slots, into a new model.

    A value that had a row keeps what it has learned, in its new place: embedding,
    weight of the linear term, moments, average and the step that this is as of. A new
    value starts from the row that it had as an unseen one, with zero moments; the rows
    of numeric ranges from those that their lowest number had. Everything else, such as
    towers, gates, BatchNorm's statistics and the number of steps, is taken as it is.
    So the scores are those that the run serves, but where values were forgotten or
    ranges fitted anew.

    Where fields have come or gone, the embeddings of the others are those that the run
    serves, and towers and optimizer start anew: their weights belong to the fields
    together.

    At most one table of the run is in memory, beside what training needs.

    Args:
        run: The run directory.
        model: The compiled model of `config` and `spec`, built.
        spec: The `FeatureSpec` to go on with.
        config: `TrainingConfig`.

    Returns:
        `WarmStart`.

    Raises:
        InputError: If the run lacks something, the configuration differs in more than
            `MAY_CHANGE`, or a field of the same name means something else.
    """
    run = Path(run)
    stored = Run(run)
    for path in (
        *(stored.config, stored.features, stored.result),
        *(stored.model, stored.checkpoints),
    ):
        if not path.exists():
            raise InputError(
                f"{run}: has no {path.name}, so it is no finished run that training "
                "can start from; train it to the end, or leave out the warm start"
            )
    earlier = FeatureSpec.load(stored.features)
    check_fields(earlier.schema, spec.schema)
    _check_vectors(run, earlier, spec)
    old, new = ([f.field.name for f in s.fields] for s in (earlier, spec))
    same_fields = old == new
    before = unbuilt_model(stored.model, earlier) if same_fields else load_run(run)[0]
    old_config = TrainingConfig.from_dict(read_yaml(stored.config))
    check_config(old_config, config, before, model)
    if same_fields and config.options.get("history") == "transformer":
        check_lengths(earlier.schema, spec.schema)
    sources, has_row = row_sources(earlier, spec)
    has_row &= sources >= 0
    moved = list(moved_tables(model, spec, before, earlier, sources))
    if same_fields:
        epoch = read_value(stored.result, "best_epoch")
        with reading(checkpoint_of(run, epoch)):
            _fill_from(checkpoint_of(run, epoch), model, before, moved, has_row)
    else:
        for each in moved:
            served = each.embedding.tables[each.number].numpy()
            put_rows(each.table, served, each.places)
        for embedding, served in zip(model.embeddings, before.embeddings):
            for name in embedding.projections.keys() & served.projections.keys():
                embedding.projections[name].assign(served.projections[name])
    averages = isinstance(model.optimizer, SparseAdam)
    if averages and same_fields and config.average_decay != old_config.average_decay:
        model.optimizer.take_average_of(old_config.average_decay)
    return WarmStart(
        sum(own.rows - (own.first_value - own.offset) for own in spec.owners),
        ~has_row,
        tuple(name for name in new if name not in old),
        tuple(name for name in old if name not in new),
    )


def _check_vectors(run, earlier, spec):
    """A projection is of numbers that were standardized in one way."""
    before = {own.field.name: own for own in earlier.fields}
    for own in spec.fields:
        old = before.get(own.field.name, own)
        if (old.mean, old.deviation) != (own.mean, own.deviation):
            raise InputError(
                f"Field {own.field.name!r}: its numbers are standardized otherwise "
                f"than in {run}; prepare the data with --vocabulary-of {run}"
            )


def _fill_from(checkpoint, model, before, moved, has_row):
    """Takes over the weights and the optimizer's variables from a checkpoint.

    Of the row that a new value starts from it gets the average, which belongs to the
    weights, but not the moments, which are those of other values' gradients.
    """
    optimizer = model.optimizer
    rate = float(optimizer.learning_rate.numpy())  # the configuration's
    optimizer.build(model.trainable_variables)
    counts = {counts_name(each, model) for each in model.embeddings}
    variables = {**named_weights(model), **named_optimizer_variables(model)}
    for name in counts:  # those of the new vocabulary
        variables.pop(name, None)
    names = {id(variable): name for name, variable in variables.items()}
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    places = {}  # name of a table, or of a slot of it -> where its rows were
    for each in moved:
        table = names[id(each.table)]
        moments = np.where(has_row[each.rows], each.places, -1)
        rows = {slot_name(table, slot): each.places for slot in SLOTS}
        rows |= {slot_name(table, slot): moments for slot in MOMENTS}
        rows[table] = each.places
        for name in rows.keys() & variables.keys():
            places[name] = rows[name]
            shapes[name] = (each.earlier_rows, *shapes[name][1:])
    had_counts = [bool(embedding.l2) for embedding in before.embeddings]
    stored = StoredVariables(checkpoint, model, had_counts)
    stored.check(shapes, lambda name: name in counts or is_random_state(name))
    for name, variable in variables.items():
        if name in places:
            put_rows(variable, stored[name], places[name])
        else:
            put(variable, stored[name])
    optimizer.learning_rate = rate
