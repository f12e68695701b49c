"""JSON as TF Serving's parser takes it: more than JSON in some places, less in others.

Taken are `NaN`, `Inf` and `Infinity`, a name that is there twice, bytes that are no
UTF-8, and whatever follows the value. Refused are numbers that no float64 holds, and
halves of surrogate pairs.
"""

import json
import math
import re

from .refusal import invalid

SPACE = re.compile(rb"[ \t\r\n]*")
PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
HEX = re.compile(rb"[0-9A-Fa-f]{4}")
NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]*)?")
NOT_FINITE = re.compile(rb"-?(?:Infinity|Inf|NaN)")
WORDS = {b"true": True, b"false": False, b"null": None}
ESCAPED = dict(zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t'))


class Object(tuple):
    """A JSON object: its names, as text, with their values, in order."""

    def first(self, name, default=None):
        """The value of a name; of one that is there twice, the first."""
        return next((value for key, value in self if key == name), default)

    def text(self):
        return text_of(self)


def parse(body):
    """The object that a request's body is; its strings are bytes.

    Raises:
        Refused: If it is none.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    reader = _Reader(body)
    reader.skip_space()
    if reader.at == len(body):
        raise reader.error("The document is empty.")
    value = reader.value()
    if not isinstance(value, Object):
        raise invalid(f"JSON Value: {text_of(value)} Is not object")
    return value


def type_of(value):
    """What error messages call the type of a value."""
    if value is None or value is True or value is False:
        return {None: "Null", True: "True", False: "False"}[value]
    kinds = {Object: "Object", list: "Array", bytes: "String"}
    return kinds.get(type(value), "Number")


def text_of(value):
    """A value in an error message."""
    return json.dumps(_plain(value), indent=4, ensure_ascii=False)


def _plain(value):
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    if isinstance(value, Object):
        return {name: _plain(part) for name, part in value}
    return list(map(_plain, value)) if isinstance(value, list) else value


class _Reader:
    def __init__(self, body):
        self.body, self.at = body, 0

    def error(self, message, at=None):
        at = self.at if at is None else at
        return invalid(f"JSON Parse error: {message} at offset: {at}")

    def skip_space(self):
        self.at = SPACE.match(self.body, self.at).end()

    def next(self):
        """The next character, or nothing at the end; it stays the next."""
        return self.body[self.at : self.at + 1]

    def takes(self, character):
        """Whether that is the next character but for white space; it is gone then."""
        self.skip_space()
        found = self.next() == character
        self.at += found
        return found

    def value(self):
        character = self.next()
        if character == b"{":
            return self._object()
        if character == b"[":
            return self._array()
        if character == b'"':
            return self._string()
        for word, value in WORDS.items():
            if self.body.startswith(word, self.at):
                self.at += len(word)
                return value
        return self._number()

    def _object(self):
        self.at += 1
        pairs = []
        if self.takes(b"}"):
            return Object()
        while True:
            self.skip_space()
            if self.next() != b'"':
                raise self.error("Missing a name for object member.")
            name = self._string().decode(errors="surrogateescape")
            if not self.takes(b":"):
                raise self.error("Missing a colon after a name of object member.")
            self.skip_space()
            pairs.append((name, self.value()))
            if self.takes(b"}"):
                return Object(pairs)
            if not self.takes(b","):
                raise self.error("Missing a comma or } after an object member.")

    def _array(self):
        self.at += 1
        values = []
        if self.takes(b"]"):
            return values
        while True:
            self.skip_space()
            values.append(self.value())
            if self.takes(b"]"):
                return values
            if not self.takes(b","):
                raise self.error("Missing a comma or ] after an array element.")

    def _string(self):
        start, parts = self.at, []
        self.at += 1
        while True:
            plain = PLAIN.match(self.body, self.at)
            parts.append(plain[0])
            self.at = plain.end()
            character = self.next()
            self.at += 1
            if character == b'"':
                return b"".join(parts)
            if character == b"\\":
                parts.append(self._escaped())
            elif character in (b"", b"\0"):
                raise self.error("Missing a closing quotation mark in string.", start)
            else:
                raise self.error("Invalid encoding in string.", self.at - 1)

    def _escaped(self):
        start, character = self.at - 1, self.next()
        self.at += 1
        if character == b"u":
            code = self._hex(start)
            if 0xD800 <= code < 0xE000:
                broken = self.error("The surrogate pair in string is invalid.", start)
                if code >= 0xDC00 or self.body[self.at : self.at + 2] != b"\\u":
                    raise broken
                self.at += 2
                low = self._hex(start)
                if not 0xDC00 <= low < 0xE000:
                    raise broken
                code = 0x10000 + ((code - 0xD800) << 10) + low - 0xDC00
            return chr(code).encode()
        if not character or character[0] not in ESCAPED:
            raise self.error("Invalid escape character in string.", start)
        return bytes([ESCAPED[character[0]]])

    def _hex(self, start):
        found = HEX.match(self.body, self.at)
        if not found:
            raise self.error("Incorrect hex digit after \\u escape in string.", start)
        self.at += 4
        return int(found[0], 16)

    def _number(self):
        start = self.at
        if found := NOT_FINITE.match(self.body, start):
            self.at = found.end()
            return float(found[0])
        found = NUMBER.match(self.body, start)
        if not found:
            raise self.error("Invalid value.")
        self.at = found.end()
        text, (fraction, exponent) = found[0], found.groups()
        if fraction == b".":
            raise self.error("Miss fraction part in number.")
        if exponent and not exponent[-1:].isdigit():
            raise self.error("Miss exponent in number.")
        if not fraction and not exponent and -(2**63) <= int(text) < 2**64:
            return int(text)
        value = float(text)
        if math.isinf(value):
            raise self.error("Number too big to be stored in double.", start)
        return value
