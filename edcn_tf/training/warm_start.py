"""Start training from an earlier run, on a vocabulary that has grown since.

What a value's row was is found by the value itself, so any prepared data will do, and
all that is moved is moved by whole arrays: the cost is that of reading the run once.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.config import TrainingConfig
from edcn_tf.errors import InputError
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.features.counting import value_buckets
from edcn_tf.features.growth import check_fields
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import read_value, read_yaml
from edcn_tf.layers import FieldEmbedding, large_table
from edcn_tf.models.model_file import unbuilt_model
from edcn_tf.models.widths import widths
from edcn_tf.training.checkpoints import FOLDER, stored_variables
from edcn_tf.training.optimizers import SparseAdam

# All other keys of `config.yaml` say what the weights and the optimizer's slots are.
MAY_CHANGE = (
    *("seed", "epochs", "batch_size", "learning_rate", "patience", "drops"),
    *("learning_rate_drop", "average_decay", "mixed_precision", "pretrained"),
    *("steps_per_execution", "deterministic", "checkpoint_minutes"),
    *("dropout", "unseen_rate", "l2", "linear_l2", "embeddings_initializer"),
)
MOMENTS = ("_momentums", "_velocities")  # of an optimizer, a variable each
AVERAGES = ("_averages", "_averaged_at")


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


def continued_config(run, data, path=None, settings=()):
    """The `TrainingConfig` of a run, with a YAML file and settings over it.

    Widths that the run chose by itself are written out: they stay, however many fields
    and values there now are.

    Args:
        run: The run directory.
        data: Prepared data to go on with.
        path, settings: As for `TrainingConfig.load`.

    Raises:
        InputError: For a key that does not fit, or may not change.
    """
    stored = read_yaml(Path(run) / "config.yaml")
    given = TrainingConfig.read(path, settings)
    values = {**stored, **given}
    _check_key("model", stored.get("model"), values.get("model"))
    if "embedding_dim" in stored and stored["embedding_dim"] == values["embedding_dim"]:
        values["embedding_dim"] = _written_out(stored["embedding_dim"], run, data)
    return TrainingConfig.from_dict(values)


def _written_out(width, run, data):
    """The `embedding_dim` by which fields stay as wide as they are in a run."""
    earlier, layout = (
        FeatureSpec.load(Path(folder) / "features").layout() for folder in (run, data)
    )
    if width is None:
        return widths(width, earlier)[0]
    if width != "auto" and not isinstance(width, dict):
        return width
    now = _widths_by_name(width, layout) if width == "auto" else {}
    known = {**now, **_widths_by_name(width, earlier)}
    names = [field["name"] for field in layout]
    return {name: known[name] for name in names if name in known}


def _widths_by_name(embedding_dim, layout):
    names = [field["name"] for field in layout]
    return dict(zip(names, widths(embedding_dim, layout)))


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
    for name in ("config.yaml", "features", "result.json", "model.keras", FOLDER):
        if not (run / name).exists():
            raise InputError(
                f"{run}: has no {name}, so it is no finished run that training can "
                "start from; train it to the end, or leave out the warm start"
            )
    earlier = FeatureSpec.load(run / "features")
    check_fields(earlier.schema, spec.schema)
    old, new = ([f.field.name for f in s.fields] for s in (earlier, spec))
    same_fields = old == new
    if same_fields:
        before = unbuilt_model(run / "model.keras", earlier)
    else:
        before = load_run(run)[0]
    old_config = TrainingConfig.from_dict(read_yaml(run / "config.yaml"))
    _check_config(old_config, config, before, model)
    if same_fields and config.options.get("history") == "transformer":
        _check_lengths(earlier.schema, spec.schema)
    sources, has_row = row_sources(earlier, spec)
    has_row &= sources >= 0
    moved = list(_moved_tables(model, spec, before, earlier, sources))
    if same_fields:
        epoch = read_value(run / "result.json", "best_epoch")
        number, read = stored_variables(run, epoch)
        _fill_weights(model, before, moved, read)
        _fill_optimizer(model, moved, has_row, number, read)
    else:
        for each in moved:
            served = each.embedding.tables[each.number].numpy()
            _fill(each.table, served, each.places)
    averages = isinstance(model.optimizer, SparseAdam)
    if averages and same_fields and config.average_decay != old_config.average_decay:
        model.optimizer.take_average_of(old_config.average_decay)
    return WarmStart(
        sum(own.rows - (own.first_value - own.offset) for own in spec.owners),
        ~has_row,
        tuple(name for name in new if name not in old),
        tuple(name for name in old if name not in new),
    )


def row_sources(earlier, spec):
    """Which row of an earlier table each row of a new one starts from.

    Args:
        earlier: The earlier `FeatureSpec`.
        spec: The new one.

    Returns:
        sources: `[num_rows]` int32, -1 for the rows of a new field.
        has_row: `[num_rows]` bool, false for values that had no row of their own.
    """
    sources = np.full(spec.num_rows, -1, np.int32)
    has_row = np.ones(spec.num_rows, bool)
    sources[0] = 0  # padding
    before = {own.field.name: own for own in earlier.fields}
    for own in spec.owners:
        if own.field.name in before:
            rows = slice(own.offset, own.offset + own.rows)
            sources[rows], has_row[rows] = _of_field(before[own.field.name], own)
    pa.default_memory_pool().release_unused()  # what the values took
    return sources, has_row


def _of_field(old, new):
    first = old.offset + np.arange(old.first_value - old.offset)  # missing, unseen
    if new.field.has_ranges:
        lowest = np.float32([-np.inf, *new.boundaries])
        places = np.searchsorted(np.float32(old.boundaries), lowest, side="right")
        has_row = np.ones(new.rows, bool)
    elif new.field.hash_buckets:
        places = np.arange(new.field.hash_buckets)
        has_row = np.ones(new.rows, bool)
    else:
        values = new.values()
        places = pc.index_in(values, old.values()).fill_null(-1).to_numpy()
        known = places >= 0
        has_row = np.concatenate([np.ones(len(first), bool), known])
        # As the encoder finds the rows of unseen values, before the first value's.
        hashed = np.full(len(values), -1)
        if old.field.unseen_rows > 1:
            hashed = value_buckets(values, old.field.unseen_rows)
            hashed -= old.field.unseen_rows
        places = np.where(known, places, hashed)
    return np.concatenate([first, old.first_value + places]), has_row


def _check_config(old, new, before, model):
    if bool(old.average_decay) != bool(new.average_decay):
        raise InputError(
            "average_decay: a run keeps an average of the weights if that which it "
            f"starts from did. Received: {new.average_decay} after {old.average_decay}"
        )
    old, new = old.to_dict(), new.to_dict()
    for key, value in old.items():
        if key not in (*MAY_CHANGE, "embedding_dim"):
            _check_key(key, value, new.get(key))
    before, now = (
        {field["name"]: width for field, width in zip(e.fields, e.widths)}
        for e in (before.embedding, model.embedding)
    )
    for name in now:
        if name in before and before[name] != now[name]:
            raise InputError(
                f"embedding_dim of field {name!r} must stay {before[name]} in a run "
                f"that starts from another. Received: {now[name]}"
            )


def _check_lengths(earlier, schema):
    """A transformer has weights for each place of a history."""
    for before, now in zip(earlier.fields, schema.fields):
        if now.kind == "sequence" and before.max_length != now.max_length:
            raise InputError(
                f"max_length of field {now.name!r} must stay {before.max_length} in a "
                "run with history=transformer that starts from another. Received: "
                f"{now.max_length}"
            )


def _check_key(key, old, new):
    if new != old:
        raise InputError(
            f"{key} must stay {old!r} in a run that starts from another; may change: "
            f"{', '.join(MAY_CHANGE)}. Received: {new!r}"
        )


class _Moved(NamedTuple):
    """A table, and where its rows are in the run's.

    `embedding` and `number` are of the run's table, `rows` the ids of the table's own
    rows, `places` where each of them was (-1: nowhere).
    """

    table: keras.Variable
    embedding: FieldEmbedding
    number: int
    rows: np.ndarray
    places: np.ndarray


def _moved_tables(model, spec, before, earlier, sources):
    """Yields a `_Moved` for each table that the run has one of the same width for."""
    for embedding, old in zip(model.embeddings, before.embeddings):
        numbers = {group.width: i for i, group in enumerate(old.groups)}
        for group, table in zip(embedding.groups, embedding.tables):
            if group.width not in numbers:  # of new fields alone
                continue
            number = numbers[group.width]
            rows = _rows_of(group, spec)
            old_rows = _rows_of(old.groups[number], earlier)
            places = np.full(earlier.num_rows, -1, np.int32)
            places[old_rows] = np.arange(len(old_rows))
            places = np.where(sources[rows] < 0, -1, places[sources[rows]])
            yield _Moved(table, old, number, rows, places)


def _rows_of(group, spec):
    """Rows of the table of all fields that a group's own table has."""
    rows = [np.zeros(1, np.int32)]
    for own, has in zip(spec.fields, group.has):
        if has and own.of is None:
            rows.append(own.offset + np.arange(own.rows, dtype=np.int32))
    return np.concatenate(rows)


def _fill_weights(model, before, moved, read):
    """Takes over the weights, which are stored in the order of `model.weights`."""
    places = {id(each.table): each.places for each in moved}
    counts = {id(e.inverse_counts) for e in model.embeddings if e.l2}
    last = {  # table -> whether the run's embedding has counts after it
        id(embedding.tables[-1]): bool(old.l2)
        for embedding, old in zip(model.embeddings, before.embeddings)
    }
    number = 0
    for variable in model.weights:
        if id(variable) in counts:  # those of the new vocabulary
            continue
        if id(variable) in places:
            _fill(variable, read(number), places[id(variable)])
        else:
            variable.assign(read(number))
        number += 1 + last.get(id(variable), False)


def _fill_optimizer(model, moved, has_row, number, read):
    """Takes over the optimizer's variables, which are the last of `number` stored ones.

    Of the row that a new value starts from it gets the average, which belongs to the
    weights, but not the moments, which are those of other values' gradients.
    """
    optimizer = model.optimizer
    rate = float(optimizer.learning_rate.numpy())  # the configuration's
    optimizer.build(model.trainable_variables)
    tables = {id(each.table): each for each in moved}
    of_table = {}  # slot of a table -> where its rows were
    for index, variable in enumerate(model.trainable_variables):
        if id(variable) not in tables:
            continue
        _, _, _, rows, averages = tables[id(variable)]
        moments = np.where(has_row[rows], averages, -1)
        for names, where in [(MOMENTS, moments), (AVERAGES, averages)]:
            for name in names:
                if hasattr(optimizer, name):
                    of_table[id(getattr(optimizer, name)[index])] = where
    first = number - len(optimizer.variables)
    for index, variable in enumerate(optimizer.variables, first):
        if id(variable) in of_table:
            _fill(variable, read(index), of_table[id(variable)])
        else:
            variable.assign(read(index))
    optimizer.learning_rate = rate


def _fill(variable, stored, places):
    """Puts stored rows into a variable: `places[i]` into row i, none for -1."""
    taken = np.flatnonzero(places >= 0)
    for start, end in large_table.parts((len(taken), *variable.shape[1:])):
        rows = taken[start:end]
        large_table.set_rows(variable, rows, stored[places[rows]])
