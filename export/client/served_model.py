"""What a server tells of a model: the same by gRPC and REST."""

from typing import Any, NamedTuple

DTYPES = {  # of TensorFlow -> ours
    "DT_STRING": "string",
    "DT_FLOAT": "float32",
    "DT_INT64": "int64",
    "DT_INT32": "int32",
}


class Model(NamedTuple):
    """Which model of the server is asked; its newest version if none is named."""

    name: str
    version: int | None = None
    version_label: str | None = None


class TensorInfo(NamedTuple):
    """Type of an input or output of a signature; -1 in `shape` is any size."""

    dtype: str
    shape: tuple[int, ...]


class Signature(NamedTuple):
    """Names and `TensorInfo` of what a signature takes and gives."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


def read_signatures(found: dict[str, Any]) -> dict[str, Signature]:
    """Name -> `Signature`, from a `SignatureDefMap` as JSON."""
    return {
        name: Signature(
            _tensor_infos(signature.get("inputs", {})),
            _tensor_infos(signature.get("outputs", {})),
        )
        for name, signature in found["signature_def"].items()
        if not name.startswith("__")
    }


def _tensor_infos(found: dict[str, Any]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(
            DTYPES.get(info["dtype"], info["dtype"]),
            tuple(int(dim["size"]) for dim in info["tensor_shape"].get("dim", [])),
        )
        for name, info in found.items()
    }
