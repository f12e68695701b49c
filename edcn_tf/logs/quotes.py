"""The check that quotes of a CSV log are balanced, while it is read."""

import re

import numpy as np

from edcn_tf.errors import InputError


class BalancedQuotes:
    """A stream of CSV, passed on as it is, or an error that names the row.

    A quote at the begin of a value opens it, two are one quote inside it, and after
    the one that closes it a delimiter or the line's end must follow. Arrow takes
    anything else there for more of the value, so that a single quote before a value
    would swallow the rows up to the next one.

    Args:
        stream: With `read`, as `pyarrow.csv` takes it.
        path: The log's name.
        delimiter: What separates values, one byte.
        quote: What values stand in, one byte.
        first_row: Number of the row that the stream begins with: 0 for a header.
    """

    closed = False

    def __init__(self, stream, path, delimiter, quote, first_row):
        self.stream, self.path, self.row = stream, path, first_row
        self.ends = np.zeros(256, bool)  # of a value
        self.ends[[*delimiter.encode(), ord("\r"), ord("\n")]] = True
        self.quote = quote.encode()
        d, q = re.escape(delimiter.encode()), re.escape(self.quote)
        self.opening = re.compile(rb"(?<=[\r\n%s])%s" % (d, q))
        # Of a value, after the quote that opens it.
        self.rest = re.compile(rb"[^%s]*(?:%s%s[^%s]*)*%s" % (q, q, q, q, q))
        self.left = b"\n"  # what was not looked at, with the byte before it

    def read(self, size=-1):
        chunk = self.stream.read(size)
        if len(self.left) > 1 or self.quote in chunk:
            self._look(self.left + chunk, is_last=not chunk)
        elif chunk:
            self.row += chunk.count(b"\n")
            self.left = chunk[-1:]
        return chunk

    def close(self):
        self.closed = True

    def _look(self, data, is_last):
        text = np.frombuffer(data, np.uint8)
        places = np.flatnonzero(text[1:] == ord(self.quote)) + 1
        opening, closing = places[::2], places[1::2]
        # The quotes of a value alternate; the second of two opens it again.
        begins = self.ends[text[opening - 1]]
        begins[1:] |= opening[1:] == closing[: len(opening) - 1] + 1
        after = closing + 1
        known = after < len(text)
        ends = np.ones(len(closing), bool)
        follows = text[after[known]]
        ends[known] = self.ends[follows] | (follows == ord(self.quote))
        if not (begins.all() and ends.all()):
            self._look_at_each(data, is_last)
            return
        start = len(data)
        if len(places) % 2 or (len(closing) and closing[-1] == start - 1):
            # What comes next decides what the last value is: look at it again then.
            last = len(opening) - 1
            while last and opening[last] == closing[last - 1] + 1:
                last -= 1
            start = int(opening[last])
        lines = np.flatnonzero(text[1:] == ord("\n")) + 1
        pairs = opening[: len(closing)][closing < start], closing[closing < start]
        begins, ends = (np.searchsorted(lines, each) for each in pairs)
        self.row += int(np.searchsorted(lines, start) - (ends - begins).sum())
        if is_last and len(places) % 2:
            self._refuse(data, start, "is never closed")
        self.left = data[start - 1 :]

    def _look_at_each(self, data, is_last):
        """The same for data with quotes inside values that have none around them."""
        place, inside = 1, 0  # inside: line ends within values
        while (found := self.opening.search(data, place - 1)) is not None:
            begin = found.start()
            rest = self.rest.match(data, begin + 1)
            if rest is None:
                if is_last:
                    self.row += data.count(b"\n", 1, begin) - inside
                    self._refuse(data, begin, "is never closed")
                break
            end = rest.end()
            if end == len(data):
                if not is_last:
                    break
                place = end
                continue
            if data[end] == ord(self.quote):
                break  # of two, which the data ends before; looked at again
            if not self.ends[data[end]]:
                self.row += data.count(b"\n", 1, begin) - inside
                self._refuse(data, begin, "is closed before the value ends")
            place, inside = end, inside + data.count(b"\n", begin, end)
        else:
            begin = len(data)
        self.row += data.count(b"\n", 1, begin) - inside
        self.left = data[begin - 1 :]

    def _refuse(self, data, begin, what):
        row = self.row
        shown = data[begin : begin + 40].decode("utf-8", "replace")
        spark = ' (Spark: option("escape", "\\"") when writing)' * ('\\"' in shown)
        raise InputError(
            f"{self.path}: {f'row {row}' if row else 'the header'}: the quote that a "
            f"value begins with {what}; write quotes inside a value twice, and quotes "
            f"around it{spark}. Received: {shown!r}"
        )
