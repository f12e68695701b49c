"""Streams of text that pass on what Arrow can read.

With one delimiter, no comments, and quotes inside values written twice.
"""

import re

from edcn_tf.errors import InputError

UNIT_SEPARATOR = "\x1f"  # stands for a delimiter of several characters
RECORD_SEPARATOR = "\x1e"  # stands around values, where the log has no quotes


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
            self.left, self.is_last = data[end:], not chunk
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
        delimiter: What separates values.
        quote: What values may stand in, and begin lines within; none if empty.
    """

    def __init__(self, stream, comment, delimiter, quote):
        super().__init__(stream)
        self.comment, self.quote = comment.encode(), quote.encode()
        c, d, q = (re.escape(each.encode()) for each in (comment, delimiter, quote))
        pattern = rb"(?<![^\r\n])(?P<comment>%s)[^\r\n]*(?:\r\n?|\n)?" % c
        if quote:  # a value in quotes, or the begin of one
            pattern += rb"|(?<![^\r\n%s])%s[^%s]*(?:%s%s[^%s]*)*%s?" % (d, *[q] * 6)
        self.token, self.held = re.compile(pattern), b""

    def passed(self, lines):
        lines, self.held = self.held + lines, b""
        if self.comment not in lines and (not self.quote or self.quote not in lines):
            return lines
        kept, done = [], 0
        for found in self.token.finditer(lines):
            if found["comment"]:
                kept.append(lines[done : found.start()])
                done = found.end()
            elif found.end() == len(lines) and not self.is_last:  # not whole, perhaps
                self.held = found.group()
        kept.append(lines[done : len(lines) - len(self.held)])
        return b"".join(kept)


class WithoutEscapes(_Lines):
    """With quotes inside values written twice, where a character was before them.

    That character means itself before any but itself, a quote (also `"`), a delimiter
    and a line's end: `C:\\dir` is what Spark writes for it.

    Args:
        stream: With `read`.
        path: The log's name.
        delimiter: What separates values, one character.
        quote: What values may stand in; none if empty, then `RECORD_SEPARATOR` comes
            to stand around those that need it.
        escape: The character.
    """

    def __init__(self, stream, path, delimiter, quote, escape):
        super().__init__(stream)
        self.path, self.escape, self.held = path, escape.encode(), b""
        self.quote, self.has_quotes = (quote or RECORD_SEPARATOR).encode(), bool(quote)
        d, q, e = (re.escape(c) for c in (delimiter.encode(), self.quote, self.escape))
        self.value = re.compile(
            rb"(?s)(?P<quoted>%s[^%s%s]*(?:(?:%s.|%s%s)[^%s%s]*)*%s)"
            rb"|(?:[^%s\r\n%s]|%s.)+" % (q, q, e, e, q, q, q, e, q, d, e, e)
        )
        self.escaped = re.compile(rb"%s([%s%s%s\"\r\n])" % (e, e, q, d))
        self.escaped_or_twice = re.compile(rb"%s|%s(%s)" % (self.escaped.pattern, q, q))

    def passed(self, lines):
        if not self.has_quotes and self.quote in lines:
            raise InputError(
                f"{self.path}: holds the character 0x1E, which no log may that has an "
                "`escape` and no quotes"
            )
        lines, self.held = self.held + lines, b""
        if self.escape not in lines and self.quote not in lines:
            return lines
        written, done = [], 0
        for found in self.value.finditer(lines):
            if found.end() == len(lines) and not self.is_last:
                self.held = found.group()
                break
            if not found["quoted"] and found.group().startswith(self.quote):
                # Begins in quotes, and does not end.
                if not self.is_last:
                    self.held = lines[found.start() :]
                break
            if self.escape in found.group():
                written += [lines[done : found.start()], self._written(found)]
                done = found.end()
        written.append(lines[done : len(lines) - len(self.held)])
        return b"".join(written)

    def _written(self, found):
        if found["quoted"]:  # in which quotes may be written twice all the same
            value = self.escaped_or_twice.sub(rb"\1\2", found.group()[1:-1])
        else:
            value = self.escaped.sub(rb"\1", found.group())
        return self.quote + value.replace(self.quote, self.quote * 2) + self.quote
