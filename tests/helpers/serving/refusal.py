"""How the server says no: the same by gRPC and REST."""

import re

HTTP_STATUS = {
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}  # any other is 500


class Refused(Exception):
    """An error answer.

    Attributes:
        code: Name of the gRPC status code.
        message: What the server says beside it.
    """

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message

    @classmethod
    def by_tensorflow(cls, error):
        """What `c_api.Session` raised: `"INVALID_ARGUMENT (3): message"`."""
        found = re.fullmatch(r"([A-Z_]+) \(\d+\): (.*)", str(error), re.DOTALL)
        return cls(*(found.groups() if found else ("INTERNAL", str(error))))


def invalid(message):
    """The most frequent kind."""
    return Refused("INVALID_ARGUMENT", message)
