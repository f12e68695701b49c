"""The one exception of the library that is meant for the person who runs it."""


class InputError(ValueError):
    """A mistake in what the user gave, told in one line that says what to do."""
