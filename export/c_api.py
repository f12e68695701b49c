"""A SavedModel answered through TensorFlow's C API: the session loader of TF Serving.

    with Session("models/clicks/1") as session:
        session.run("ids", {"ids": np.zeros([1, 39], np.int32)})["probability"]

Python's own loader also answers for models that TF Serving cannot serve; this one
does not. It needs the standard library, NumPy and TensorFlow's wheel: a program
without Keras and without this package can load this file by its path.
"""

import ctypes
import os
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import error_codes_pb2, meta_graph_pb2

_DTYPES = {
    types_pb2.DT_FLOAT: np.dtype(np.float32),
    types_pb2.DT_DOUBLE: np.dtype(np.float64),
    types_pb2.DT_INT32: np.dtype(np.int32),
    types_pb2.DT_INT64: np.dtype(np.int64),
    types_pb2.DT_BOOL: np.dtype(np.bool_),
    types_pb2.DT_STRING: np.dtype(object),
}
_NUMBERS = {dtype: number for number, dtype in _DTYPES.items()}
_TSTRING_BYTES = 24  # sizeof(TF_TString), an element of a string tensor


class _Buffer(ctypes.Structure):  # TF_Buffer
    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))


class _Output(ctypes.Structure):  # TF_Output: a tensor of the graph
    _fields_ = (("operation", c_void_p), ("index", c_int))


def _load_library():
    types = {"p": c_void_p, "s": c_char_p, "i": c_int, "l": c_int64, "n": c_size_t}
    functions = {  # types of the result (v: void) and of the arguments: names
        "p": "TF_NewStatus TF_NewBuffer TF_NewGraph TF_NewSessionOptions",
        "vp": "TF_DeleteStatus TF_DeleteBuffer TF_DeleteGraph TF_DeleteSessionOptions "
        "TF_DeleteTensor",
        "ip": "TF_GetCode TF_TensorType TF_NumDims",
        "sp": "TF_Message",
        "np": "TF_StringGetSize",
        "pp": "TF_StringGetDataPointer TF_TensorData",
        "lpi": "TF_Dim",
        "pps": "TF_GraphOperationByName",
        "pipin": "TF_AllocateTensor",
        "vppp": "TF_TensorFromProto",
        "vpp": "TF_DeleteSession",
        "pppspippp": "TF_LoadSessionFromSavedModel",
        "vppppippipipp": "TF_SessionRun",
    }
    folder = Path(find_spec("tensorflow").origin).parent
    files = sorted(folder.glob("libtensorflow_cc*"))
    if not files:
        raise OSError(f"{folder}: holds no libtensorflow_cc")
    # Finds what libtensorflow_framework defines too, which it is linked with.
    library = ctypes.CDLL(str(files[0]))
    for letters, names in functions.items():
        for function in (getattr(library, name) for name in names.split()):
            function.restype, *function.argtypes = map(types.get, letters)
    return library


_tf = _load_library()


class Session:
    """A loaded SavedModel. Threads may share it; close it after their last run.

    Args:
        directory: The SavedModel's directory.
        tags: Which of its graphs.

    Attributes:
        signatures: Name -> `{"inputs": {key: (tensor name, NumPy dtype, shape)},
            "outputs": ...}`. The dtype of strings is `object`, one that is not
            supported is None. A dimension of any size is None, and so is the shape if
            the rank is not known.

    Raises:
        RuntimeError: If TensorFlow does not load it, with its code and message.
    """

    def __init__(self, directory, tags=("serve",)):
        self._prepared = {}
        self._session, self._graph = None, _tf.TF_NewGraph()
        options, meta_graph = _tf.TF_NewSessionOptions(), _tf.TF_NewBuffer()
        names = (c_char_p * len(tags))(*[tag.encode() for tag in tags])
        model = (os.fsencode(directory), names, len(tags), self._graph, meta_graph)
        try:
            load = _tf.TF_LoadSessionFromSavedModel
            self._session = _checked(load, options, None, *model)
            buffer = _Buffer.from_address(meta_graph)
            data = ctypes.string_at(buffer.data, buffer.length)
            signatures = meta_graph_pb2.MetaGraphDef.FromString(data).signature_def
        except BaseException:
            self.close()
            raise
        finally:
            _tf.TF_DeleteBuffer(meta_graph)
            _tf.TF_DeleteSessionOptions(options)
        self.signatures = {
            name: {"inputs": _specs(s.inputs), "outputs": _specs(s.outputs)}
            for name, s in signatures.items()
            if not name.startswith("__saved_model_")  # the loader's own
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Frees the model; not while a thread runs it."""
        session, graph = self._session, self._graph
        self._session = self._graph = None
        if session:
            _checked(_tf.TF_DeleteSession, session)
        if graph:
            _tf.TF_DeleteGraph(graph)

    def run(self, signature, inputs, outputs=None, checked=True):
        """Answers a request.

        Args:
            signature: Its name.
            inputs: Name -> array of the signature's dtype and shape. Strings are bytes,
                or str for UTF-8; NumPy's own `S` and `U` arrays drop NULs at a
                string's end, lists and arrays of objects keep them.
            outputs: Names of the outputs wanted; all by default.
            checked: Whether types and shapes are looked at here. TF Serving does not:
                False asks what the model itself answers to other arrays.

        Returns:
            Output name -> array; strings as an array of bytes objects.

        Raises:
            ValueError: If the signature, an input or an output is unknown, or an input
                is missing or has another dtype or shape.
            RuntimeError: If TensorFlow answers with an error, with its code and
                message, or the session is closed.
        """
        if not self._session:
            raise RuntimeError("The session is closed.")
        key = signature, outputs if outputs is None else tuple(outputs)
        if key not in self._prepared:
            self._prepared[key] = self._prepare(*key)
        where, needed, feeds, asked, fetches = self._prepared[key]
        _check_names(f"{where}, inputs", inputs, needed)
        fed, fetched = (c_void_p * len(feeds))(), (c_void_p * len(fetches))()
        try:
            for i, (name, (_, *spec)) in enumerate(needed.items()):
                value = inputs[name]
                fed[i] = _to_tensor(
                    f"{where}, {name!r}", value, *(spec if checked else _own(value))
                )
            fetch = fetches, fetched, len(fetched)
            arguments = (None, feeds, fed, len(fed), *fetch, None, 0, None)
            _checked(_tf.TF_SessionRun, self._session, *arguments)
            return {name: _to_array(tensor) for name, tensor in zip(asked, fetched)}
        finally:
            for tensor in filter(None, (*fed, *fetched)):
                _tf.TF_DeleteTensor(tensor)

    def _prepare(self, signature, wanted):
        """What `run` needs to know, found once for each signature."""
        where = f"signature {signature!r}"
        if signature not in self.signatures:
            raise ValueError(f"{where}: expected one of {list(self.signatures)}")
        inputs, outputs = self.signatures[signature].values()
        if wanted is not None:
            _check_names(f"{where}, outputs", {*outputs, *wanted}, outputs)
            outputs = {name: outputs[name] for name in wanted}
        feeds, fetches = self._places(where, inputs), self._places(where, outputs)
        return where, inputs, feeds, outputs, fetches

    def _places(self, where, tensors):
        """The `TF_Output`s of inputs or of outputs, in their order."""
        places = (_Output * len(tensors))()
        for place, (key, (name, dtype, _)) in zip(places, tensors.items()):
            operation, _, index = name.partition(":")
            found = _tf.TF_GraphOperationByName(self._graph, operation.encode())
            if dtype is None or not found:
                raise ValueError(f"{where}, {key!r}: not a tensor of a supported dtype")
            place.operation, place.index = found, int(index)
        return places


def _checked(function, *arguments):
    """Calls a function whose last argument is a `TF_Status`."""
    status = _tf.TF_NewStatus()
    try:
        result = function(*arguments, status)
        if code := _tf.TF_GetCode(status):
            message = _tf.TF_Message(status).decode(errors="replace")
            raise RuntimeError(f"{error_codes_pb2.Code.Name(code)} ({code}): {message}")
        return result
    finally:
        _tf.TF_DeleteStatus(status)


def _check_names(where, names, expected):
    if names := set(names) ^ set(expected):
        missing, unknown = sorted(names & set(expected)), sorted(names - set(expected))
        raise ValueError(f"{where}: missing: {missing}, unknown: {unknown}")


def _specs(tensors):
    """Key -> (tensor name, NumPy dtype, shape), of TensorInfos."""
    specs = {}
    for key, info in tensors.items():
        sizes = tuple(d.size if d.size >= 0 else None for d in info.tensor_shape.dim)
        shape = None if info.tensor_shape.unknown_rank else sizes
        specs[key] = info.name, _DTYPES.get(info.dtype), shape
    return specs


def _own(value):
    """The dtype and shape that an array has itself."""
    return np.dtype(object) if value.dtype.kind in "SU" else value.dtype, value.shape


def _to_tensor(where, value, dtype, shape):
    """A new `TF_Tensor` that holds a copy, so that a kernel may keep it."""
    is_text = dtype.kind == "O"
    if not isinstance(value, np.ndarray):
        value = np.asarray(value, dtype if is_text else None)
    if value.dtype.kind not in "OSU" if is_text else value.dtype != dtype:
        wanted = "strings" if is_text else dtype
        raise ValueError(f"{where}: expected {wanted}. Received: {value.dtype}")
    sizes = value.shape if shape is None else shape
    if len(sizes) != value.ndim or any(
        size not in (None, n) for size, n in zip(sizes, value.shape)
    ):
        raise ValueError(f"{where}: expected shape {shape}. Received: {value.shape}")
    if is_text:
        return _to_string_tensor(where, value)
    value = np.asarray(value, order="C")
    dims = (c_int64 * value.ndim)(*value.shape)
    tensor = _tf.TF_AllocateTensor(_NUMBERS[dtype], dims, value.ndim, value.nbytes)
    ctypes.memmove(_tf.TF_TensorData(tensor), value.ctypes.data, value.nbytes)
    return tensor


def _to_string_tensor(where, value):
    """By a message: faster than two calls a string, and TensorFlow owns the strings."""
    strings = [s.encode() if isinstance(s, str) else s for s in value.ravel().tolist()]
    if other := [s for s in strings if not isinstance(s, bytes)]:
        raise ValueError(f"{where}: expected bytes or str. Received: {other[0]!r}")
    message = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        tensor_shape={"dim": [{"size": size} for size in value.shape]},
        string_val=strings,
    ).SerializeToString()
    buffer = _Buffer(ctypes.cast(message, c_void_p), len(message))
    tensor = _tf.TF_AllocateTensor(types_pb2.DT_STRING, (c_int64 * 1)(0), 1, 0)
    _checked(_tf.TF_TensorFromProto, ctypes.byref(buffer), tensor)
    return tensor


def _to_array(tensor):
    shape = [_tf.TF_Dim(tensor, axis) for axis in range(_tf.TF_NumDims(tensor))]
    array = np.empty(shape, _DTYPES[_tf.TF_TensorType(tensor)])
    data = _tf.TF_TensorData(tensor)
    if array.dtype.kind != "O":
        ctypes.memmove(array.ctypes.data, data, array.nbytes)
        return array
    for i in range(array.size):
        string = data + i * _TSTRING_BYTES
        text, size = _tf.TF_StringGetDataPointer(string), _tf.TF_StringGetSize(string)
        array.flat[i] = ctypes.string_at(text, size)
    return array
