"""How a server says no, by gRPC and REST alike: an error for each status."""


class ServingError(RuntimeError):
    """The server could not be asked, or refused to answer; in one line.

    The line says what to do. Each status has a class of its own below; an error of this
    class itself comes of an HTTP status that has no gRPC code.

    Attributes:
        code: Name of the gRPC status code, such as `"NOT_FOUND"`. HTTP statuses are
            given the code that they mean: 503 is `"UNAVAILABLE"`, and 400
            `"INVALID_ARGUMENT"`, which is what TF Serving's REST interface answers for
            `"FAILED_PRECONDITION"` and `"OUT_OF_RANGE"` too.
        advice: What to do about it.
        passes: Whether it may pass by itself, so that the client asks again.
        is_of_model: Whether the model may have been replaced by one with other inputs,
            so that the client asks anew what it takes.
    """

    advice = "see the server's log, or that of what stands before it"
    passes = False
    is_of_model = False

    def __init__(self, message: str, code: str) -> None:
        told = " ".join(f"{code}: {message}".split())[:1000].rstrip(".;")
        super().__init__(f"{told}; {self.advice}")
        self.code = code
        self._given = message, code

    def __reduce__(self) -> tuple[type["ServingError"], tuple[str, str]]:
        return type(self), self._given  # as another process makes it anew


class CancelledError(ServingError):
    """CANCELLED: broken off by the server."""

    advice = "ask again; the server may be stopping, or unloading the version"


class UnknownError(ServingError):
    """UNKNOWN: what came back was no answer of TF Serving."""

    advice = "check that address and port are TF Serving's"


class InvalidArgumentError(ServingError):
    """INVALID_ARGUMENT: the model does not take this request."""

    advice = "compare what was sent with `client.signatures()`, which is asked anew now"
    is_of_model = True


class DeadlineExceededError(ServingError):
    """DEADLINE_EXCEEDED: no answer in time."""

    advice = "allow the whole call a longer `deadline`, or ask for fewer rows in it"


class NotFoundError(ServingError):
    """NOT_FOUND: the server has no such model or version."""

    advice = (
        "check the names of model and version, and what the server has loaded "
        "(http://HOST:8501/v1/models/NAME)"
    )
    is_of_model = True


class AlreadyExistsError(ServingError):
    """ALREADY_EXISTS: no answer that TF Serving gives to a request for scores."""


class PermissionDeniedError(ServingError):
    """PERMISSION_DENIED: who asks is known, and may not."""

    advice = "have the owner of `token` or `certificate` allowed to ask this model"


class ResourceExhaustedError(ServingError):
    """RESOURCE_EXHAUSTED: too many requests wait, or one is too large."""

    advice = "ask later, from fewer clients or for fewer rows, or add servers"
    passes = True


class FailedPreconditionError(ServingError):
    """FAILED_PRECONDITION: not in this state of the server or the model."""

    advice = (
        "check that the version has this signature, and that what is batched together "
        "has one shape"
    )
    is_of_model = True


class AbortedError(ServingError):
    """ABORTED: given up within the model."""


class OutOfRangeError(ServingError):
    """OUT_OF_RANGE: a value that the model has no place for."""

    advice = InvalidArgumentError.advice
    is_of_model = True


class UnimplementedError(ServingError):
    """UNIMPLEMENTED: the server has no such method, or the model no such operation."""

    advice = "check that address and port are TF Serving's, and its version"


class InternalError(ServingError):
    """INTERNAL: a fault of the server or the model.

    Also of a request that was in one batch with another whose deadline had passed.
    """

    passes = True


class UnavailableError(ServingError):
    """UNAVAILABLE: the server cannot be reached, or takes no requests now."""

    advice = (
        "check that the server runs at this address and port, and has TLS where the "
        "address begins with grpcs:// or https://, and only there, with a certificate "
        "that `ca` vouches for"
    )
    passes = True


class DataLossError(ServingError):
    """DATA_LOSS: what the server read or received is damaged."""


class UnauthenticatedError(ServingError):
    """UNAUTHENTICATED: who asks is not known."""

    advice = "give a `token` that has not expired, or a `certificate` with its `key`"


BY_CODE: dict[str, type[ServingError]] = {
    "CANCELLED": CancelledError,
    "UNKNOWN": UnknownError,
    "INVALID_ARGUMENT": InvalidArgumentError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": AlreadyExistsError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,
    "FAILED_PRECONDITION": FailedPreconditionError,
    "ABORTED": AbortedError,
    "OUT_OF_RANGE": OutOfRangeError,
    "UNIMPLEMENTED": UnimplementedError,
    "INTERNAL": InternalError,
    "UNAVAILABLE": UnavailableError,
    "DATA_LOSS": DataLossError,
    "UNAUTHENTICATED": UnauthenticatedError,
}


def serving_error(code: str, message: str | None) -> ServingError:
    """The error of a status: of its class, and in one line."""
    return BY_CODE.get(code, ServingError)(message or "no reason given", code)
