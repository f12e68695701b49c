"""What a model consists of and costs: `edcn describe`."""

from edcn_tf.config import TrainingConfig
from edcn_tf.directories import Run
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.models.flops import count_flops, parameters_by_layer


def described_model(path=None, config=None, settings=(), *, fields=None, rows=None):
    """The model that a setting makes, not trained.

    Args:
        path: A run directory, whose setting it is, or a directory that `prepare` made.
        config: A YAML file with another setting (`TrainingConfig.load`).
        settings: `KEY=VALUE` settings over it.
        fields: Without a path: the number of fields, each of one value a row.
        rows: Without a path: the rows of all fields together.

    Returns:
        The model, built.

    Raises:
        InputError: If there is neither a path nor a size, or the setting does not fit.
    """
    if (path is None) != (fields is not None and rows is not None):
        raise InputError(
            "give either a directory of data or of a run, or both --fields and --rows"
        )
    if path is None:
        spec = _made_up(fields, rows)
    else:
        run = Run(path)  # or prepared data, which have no setting
        spec = FeatureSpec.load(run.features)
        config = config or (run.config if run.config.exists() else None)
    return TrainingConfig.load(config, settings).build(spec)


def _made_up(fields, rows):
    """Fields of about equally many rows each, as a model takes them for a spec."""
    if rows < fields:
        raise InputError(
            f"--rows must be at least --fields. Received: {rows} and {fields}"
        )
    shares = [rows * (i + 1) // fields - rows * i // fields for i in range(fields)]
    layout = [
        {"name": f"field_{i}", "slots": 1, "rows": share, "pooling": "mean"}
        for i, share in enumerate(shares)
    ]
    return {"fields": layout, "num_rows": rows + 1}


def description(model):
    """A table of the model's layers, their parameters and operations, a text.

    Operations are those of one example at inference (`models.flops.count_flops`).
    """
    flops, parameters = count_flops(model), parameters_by_layer(model)
    tables = {embedding.name for embedding in model.embeddings}
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    lines = [f"{'layer':<24}{'kind':<24}{'parameters':>14}{'FLOPs':>14}"]
    for name, operations in flops.items():
        kind = kinds.get(name, "")
        if name == model.name:
            name, kind = "outside of layers", ""
        count = parameters[model.name if not kind else name]
        if count or operations:
            lines.append(f"{name:<24}{kind:<24}{count:>14,}{operations:>14,}")
    total = sum(parameters.values())
    embedded = sum(parameters[name] for name in tables)
    operations = sum(flops.values())
    lines += [
        "",
        f"{'all':<48}{total:>14,}{operations:>14,}",
        f"{'without embeddings':<48}{total - embedded:>14,}",
    ]
    return "\n".join(lines)
