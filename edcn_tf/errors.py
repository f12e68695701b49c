"""The one exception of the library that is meant for the person who runs it."""

LONGEST = 2000  # characters


class InputError(ValueError):
    """A mistake in what the user gave, told in one line that says what to do.

    Names and values from files stand in it: what would break the line, or mean
    something to a terminal, is written as an escape, and the middle of what is very
    long left out.
    """

    def __init__(self, message: object) -> None:
        text = str(message)
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
        super().__init__(
            "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        )
