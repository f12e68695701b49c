"""Streams of text that pass on what Arrow can read: one delimiter, no comments."""

import re

from edcn_tf.errors import InputError

UNIT_SEPARATOR = "\x1f"  # stands for a delimiter of several characters


class _Lines:
    """A stream that is read through another, whole lines at a time."""

    closed = False

    def __init__(self, stream):
        self.stream, self.left = stream, b""

    def read(self, size=-1):
        """Bytes; none only at the end."""
        while True:
            chunk = self.stream.read(size)
            data = self.left + chunk
            end = data.rfind(b"\n") + 1 if chunk else len(data)
            self.left = data[end:]
            if (passed := self.passed(data[:end])) or not chunk:
                return passed

    def close(self):
        self.closed = True


class OneDelimiter(_Lines):
    """With one character, `UNIT_SEPARATOR`, for a delimiter of several.

    Args:
        stream: With `read`.
        path: The log's name.
        delimiter: Such as `"::"`.
    """

    def __init__(self, stream, path, delimiter):
        super().__init__(stream)
        self.path, self.delimiter = path, delimiter.encode()

    def passed(self, lines):
        if UNIT_SEPARATOR.encode() in lines:
            raise InputError(
                f"{self.path}: holds the character 0x1F, which no log may that is "
                f"delimited by {self.delimiter.decode()!r}"
            )
        return lines.replace(self.delimiter, UNIT_SEPARATOR.encode())


class WithoutComments(_Lines):
    """Without the lines that begin with a character, outside of quotes.

    Args:
        stream: With `read`.
        comment: The character.
        quote: What values may stand in, and begin lines within; none if empty.
    """

    def __init__(self, stream, comment, quote):
        super().__init__(stream)
        self.line = re.compile(rb"^%s.*\n?" % re.escape(comment.encode()), re.M)
        self.comment, self.quote, self.inside = comment.encode(), quote.encode(), False

    def passed(self, lines):
        kept, done = [], 0
        for found in self.line.finditer(lines) if self.comment in lines else ():
            kept.append(self._looked_at(lines[done : found.start()]))
            done = found.end()
            if self.inside:  # a line of a value
                kept.append(self._looked_at(found.group()))
        kept.append(self._looked_at(lines[done:]))
        return b"".join(kept)

    def _looked_at(self, data):
        if self.quote:
            self.inside ^= data.count(self.quote) % 2 == 1
        return data
