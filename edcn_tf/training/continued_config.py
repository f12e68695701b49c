"""The setting of a run that starts from another: what of it may change."""

from edcn_tf.config import TrainingConfig
from edcn_tf.directories import Run
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import read_yaml
from edcn_tf.models.widths import widths

# All other keys of `config.yaml` say what the weights and the optimizer's slots are.
MAY_CHANGE = (
    *("seed", "epochs", "batch_size", "learning_rate", "patience", "drops"),
    *("learning_rate_drop", "average_decay", "mixed_precision", "pretrained"),
    *("steps_per_execution", "deterministic", "checkpoint_minutes"),
    *("dropout", "unseen_rate", "l2", "linear_l2", "embeddings_initializer"),
)


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
    stored = read_yaml(Run(run).config)
    given = TrainingConfig.read(path, settings)
    values = {**stored, **given}
    _check_key("model", stored.get("model"), values.get("model"))
    if "embedding_dim" in stored and stored["embedding_dim"] == values["embedding_dim"]:
        values["embedding_dim"] = _written_out(stored["embedding_dim"], run, data)
    return TrainingConfig.from_dict(values)


def _written_out(width, run, data):
    """The `embedding_dim` by which fields stay as wide as they are in a run."""
    earlier, layout = (
        FeatureSpec.load(Run(folder).features).layout() for folder in (run, data)
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


def check_config(old, new, before, model):
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


def check_lengths(earlier, schema):
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
