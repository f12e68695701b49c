"""The setting of a training run: `config.yaml`."""

import dataclasses
import inspect
import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from edcn_tf.checks import check_between, check_flag
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import StrPath, parse_yaml, read_yaml
from edcn_tf.models import FAMILY, PRESETS, ClickModel

OPTIMIZERS = ("sparse_adam", "adam")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What a run is made of; every key has a default.

    The keys of `config.yaml` are these and the arguments of the model (for EDCN:
    `embedding_dim`, `num_layers`, `bridge`, `gate`, `temperature`, `dropout`, ...).

    Args:
        model: One of `edcn_tf.models.FAMILY`, such as `"edcn"` or `"deepfm"`.
        preset: EDCN's choices where the sources disagree, one of `PRESETS`.
        seed: Of initial weights, dropout and the order of rows.
        epochs: At most this many passes over the training split.
        batch_size: Rows a step.
        learning_rate: That of the first step.
        optimizer: `"sparse_adam"`, or `"adam"` (Keras', which updates the whole
            table in each step).
        average_decay: Of the average of weights (`SparseAdam`), or null for none.
        patience: Epochs without a better validation AUC until the learning rate
            drops.
        learning_rate_drop: What it is then multiplied by.
        drops: Number of drops; when patience ends once more, training stops.
        deterministic: Whether the same run twice on the same machine gives the same
            weights, bit for bit. Slower, and for the whole process.
        mixed_precision: Compute in bfloat16 with float32 weights.
        pretrained: Name of a field -> file with embeddings of its values
            (`edcn_tf.training.pretrained.load_pretrained`) that its rows start from.
        checkpoint_minutes: How often a long epoch writes a checkpoint within.
        steps_per_execution: Steps that TensorFlow runs between two looks of Python,
            which cost about a millisecond each; results do not depend on it. One
            with several replicas.
        options: The model's arguments.

    Raises:
        InputError: For an unknown key or a value that does not fit it.
    """

    model: str = "edcn"
    preset: str = "default"
    seed: int = 0
    epochs: int = 50
    batch_size: int = 1024
    learning_rate: float = 1e-2
    optimizer: str = "sparse_adam"
    average_decay: float | None = 0.998
    patience: int = 2
    learning_rate_drop: float = 0.3
    drops: int = 1
    deterministic: bool = False
    mixed_precision: bool = False
    pretrained: dict | None = None
    checkpoint_minutes: float = 10.0
    steps_per_execution: int = 8
    options: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for key, choices in [
            ("model", FAMILY),
            ("preset", PRESETS),
            ("optimizer", OPTIMIZERS),
        ]:
            if getattr(self, key) not in list(choices):
                raise InputError(
                    f"{key} must be one of {list(choices)}. "
                    f"Received: {getattr(self, key)!r}"
                )
        for key, whole, low, high in [
            ("seed", True, 0, 2**31),
            ("epochs", True, 1, 2**31),
            ("batch_size", True, 1, 2**31),
            ("learning_rate", False, 1e-12, 1e30),
            ("average_decay", False, 0, 0.999999),
            ("patience", True, 1, 2**31),
            ("learning_rate_drop", False, 1e-12, 1),
            ("drops", True, 0, 2**31),
            ("checkpoint_minutes", False, 0, 1e30),
            ("steps_per_execution", True, 1, 2**31),
        ]:
            value = getattr(self, key)
            if key != "average_decay" or value is not None:
                check_between(key, value, low, high, whole=whole)
        for key in ("deterministic", "mixed_precision"):
            check_flag(key, getattr(self, key))
        files = self.pretrained or {}
        if not isinstance(files, dict) or not all(
            isinstance(text, str) for text in [*files, *files.values()]
        ):
            raise InputError(
                "pretrained must be names of fields with a file each, such as "
                f"{{item_id: vectors.csv}}. Received: {self.pretrained!r}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """From the flat keys of `config.yaml`."""
        own = {f.name for f in dataclasses.fields(cls)} - {"options"}
        values = dict(values)
        name = values.get("model", "edcn")
        if not isinstance(name, str) or name not in FAMILY:
            return cls(model=name)  # which says what there is
        member = FAMILY[name]
        known = model_options(member.model)
        unknown = sorted(set(values) - own - set(known))
        if unknown:
            raise InputError(
                f"Unknown key. Known are {sorted(own)} and, for the model, "
                f"{sorted(known)}. Received: {unknown[0]!r}"
            )
        preset = values.get("preset", "default")
        if name != "edcn" and preset != "default":
            raise InputError(
                "A preset is of EDCN: set model=edcn, or leave it out. "
                f"Received: model={name!r} and preset={preset!r}"
            )
        options = {
            **known,
            **member.options,
            **(PRESETS.get(preset, {}) if isinstance(preset, str) else {}),
            **{key: value for key, value in values.items() if key not in own},
        }
        return cls(**{k: v for k, v in values.items() if k in own}, options=options)

    @classmethod
    def load(
        cls, path: StrPath | None = None, settings: Iterable[str] = ()
    ) -> "TrainingConfig":
        """From a YAML file (all defaults without) and `KEY=VALUE` settings over it."""
        try:
            return cls.from_dict(cls.read(path, settings))
        except InputError as error:
            if path is None or str(error).startswith(f"{path}: "):
                raise
            raise InputError(f"{path}: {error}") from None

    @staticmethod
    def read(
        path: StrPath | None = None, settings: Iterable[str] = ()
    ) -> dict[str, Any]:
        """The keys that a YAML file and `KEY=VALUE` settings over it give, a dict."""
        values = {}
        if path is not None:
            values = read_yaml(path)
        for setting in settings:
            key, equals, value = setting.partition("=")
            if not equals:
                raise InputError(f"--set takes KEY=VALUE. Received: {setting!r}")
            values[key.strip()] = _scalar(value)
        return values

    def to_dict(self) -> dict[str, Any]:
        """The flat keys of `config.yaml`."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        options = values.pop("options")
        return {**values, **options}

    def build(self, spec: FeatureSpec | dict[str, Any]) -> ClickModel:
        """The model, not yet compiled; an `InputError` if an argument does not fit."""
        dtype = "mixed_bfloat16" if self.mixed_precision else "float32"
        try:
            model = FAMILY[self.model].model(spec, dtype=dtype, **self.options)
            model.build((None, model.embedding.num_slots))
        except (ValueError, TypeError) as error:
            raise InputError(" ".join(str(error).split())) from None
        return model


def model_options(model):
    """Name -> default of a model's arguments."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(model.__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def _scalar(text):
    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--set: {text!r} is not YAML ({reason})") from None
    return as_number(value)


def as_number(value):
    """1e-3, which YAML takes for a text, is the number that everybody means."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def setting_text(value):
    """A setting for people: a string as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
