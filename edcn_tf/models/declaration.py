"""How an option of a model is declared, and shown where the model takes it."""

import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from edcn_tf.checks import are_whole, is_number, is_whole

T = TypeVar("T", bound=type)
PLACE = "    **options: As `Options` declares them."  # in the docstring of a model


class Kind(NamedTuple):
    """The values that an option may have.

    Args:
        fits: Whether a value is one of them.
        expected: What a message says that they are.
    """

    fits: Callable[[Any], bool]
    expected: str


@dataclasses.dataclass(frozen=True, eq=False)
class Option:
    """What is declared of an option.

    Args:
        default: Its value where none is given.
        kind: The values that it may have; by default those of `KINDS` for its type.
        most: The largest, of a number.
        of: The option whose named parts take it as an argument, such as `"gate"`. Where
            that is a part that does not take it, it must be left at its default.
        idle_without: What else it has a meaning with alone, though it may be set
            without: another option, and some of its values.
        annotation: Its type.
        meaning: What it does, for whoever reads it.
    """

    default: Any
    kind: Kind | None = None
    most: int | None = None
    of: str | None = None
    idle_without: tuple[str, tuple] | None = None
    annotation: Any = None
    meaning: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raises a `ValueError` for a value that the option cannot have."""
        kind = self.kind or kind_of(self.annotation)
        if not kind.fits(value):
            raise ValueError(f"`{name}` must be {kind.expected}. Received: {value!r}")
        if self.most is not None and value is not None and value > self.most:
            raise ValueError(
                f"`{name}` must be at most {self.most}. Received: {value!r}"
            )


def one_of(*choices: Any) -> Kind:
    return Kind(choices.__contains__, f"one of {list(choices)}")


def or_none(kind: Kind) -> Kind:
    return Kind(lambda value: value is None or kind.fits(value), kind.expected)


WHOLE = Kind(lambda value: is_whole(value, 1), "a whole number, at least 1")
KINDS = {
    bool: Kind(lambda value: isinstance(value, bool), "true or false"),
    int: WHOLE,
    int | None: or_none(WHOLE),
    float: Kind(lambda value: is_number(value, 0), "a number, at least 0"),
}
SHARE = Kind(
    lambda value: is_number(value, 0) and value < 1, "a number of at least 0, below 1"
)
POSITIVE = Kind(lambda value: is_number(value) and value > 0, "a number > 0")
HIDDEN_LAYERS = or_none(
    Kind(
        lambda value: are_whole(value, 1) and len(value) > 0,
        "a list of whole numbers of at least 1",
    )
)
LAYERS = or_none(
    Kind(
        lambda value: is_whole(value, 1) or are_whole(value, 1),
        "a whole number of at least 1, or a list of them",
    )
)
JUDGED_LATER = Kind(lambda value: True, "")  # by the fields, or by Keras


def kind_of(annotation: Any) -> Kind:
    """The values of a type: a `Literal`, or one of `KINDS`."""
    if get_origin(annotation) is Literal:
        return one_of(*get_args(annotation))
    return KINDS[annotation]


def declared_by(table: type) -> dict[str, Option]:
    """The options of a `TypedDict` of `Annotated[type, Option, meaning]`."""
    options = {}
    for name, hint in get_type_hints(table, include_extras=True).items():
        if get_origin(hint) is Annotated:
            annotation, option, meaning = get_args(hint)
            options[name] = dataclasses.replace(
                option, annotation=annotation, meaning=meaning
            )
    return options


def shows(options: Mapping[str, Option]) -> Callable[[T], T]:
    """Puts options into a class's docstring, and the signature of its `__init__`.

    So `help` and editors show them as if they stood there. The class must have an
    `__init__` of its own with `**options`.
    """

    def show(cls: T) -> T:
        lines = [
            textwrap.fill(
                f"{name}: {option.meaning}",
                width=84,
                initial_indent=" " * 4,
                subsequent_indent=" " * 8,
                break_on_hyphens=False,
            )
            for name, option in options.items()
        ]
        # Compiled with -OO, it has none.
        cls.__doc__ = inspect.cleandoc(cls.__doc__ or "").replace(
            PLACE, "\n".join(lines)
        )
        init = vars(cls)["__init__"]
        positional = [
            parameter
            for parameter in inspect.signature(init).parameters.values()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        keywords = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=option.default,
                annotation=option.annotation,
            )
            for name, option in options.items()
        ]
        others = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
        init.__signature__ = inspect.Signature([*positional, *keywords, others])
        return cls

    return show
