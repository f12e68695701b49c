"""A log file opened: its bytes, decompressed, and what goes wrong as one line.

A name with `://` is one of a store that Arrow reaches, such as `s3://bucket/log.csv`.
"""

import contextlib
import os
import urllib.parse

import pyarrow as pa
import pyarrow.fs

from edcn_tf.errors import InputError

BLOCK_BYTES = 1 << 23  # of text in one batch; a row must fit in it
LOG_ROWS = 1 << 16  # of Parquet and TFDS in one batch
LOG_BYTES = 1 << 26  # of Parquet in one batch, about
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "Parquet"}


@contextlib.contextmanager
def input_errors(path, format):
    """What the system and Arrow say of a file, as an `InputError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({reason})") from None
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        if "straddling" in reason:
            reason = f"a row is longer than {BLOCK_BYTES} bytes; is a quote missing?"
        if "all lists to be of size" in reason:  # GH-35692 of Arrow
            reason = (
                "this pyarrow cannot read a list of fixed size that is null; write the "
                "column as lists of any size"
            )
        raise InputError(f"{path}: is not {format} as expected: {reason}") from None


@contextlib.contextmanager
def opened(path):
    """The file's bytes, decompressed, beside the file itself (to tell how far)."""
    with _open(path) as file:
        start = file.read(4)
        held = next((k for magic, k in MAGIC.items() if start.startswith(magic)), None)
        file.seek(0)
        suffix = os.path.splitext(name_of(path).lower())[1]
        named = {".gz": "gzip", ".zst": "zstd"}.get(suffix)
        if named and held != named and file.size():
            raise InputError(f"{path}: is named {suffix} but does not hold {named}")
        if held in ("gzip", "zstd"):
            with pa.CompressedInputStream(file, held) as stream:
                yield stream, file
        else:
            yield file, file


def name_of(path):
    """A path without the options of a store, which follow a question mark."""
    return path.partition("?")[0] if is_remote(path) else path


def size(path):
    """Bytes of a file; `OSError` if there is none."""
    if not is_remote(path):
        return os.path.getsize(path)
    with _open(path) as file:
        return file.size()


def listed(path):
    """Names of all files below a directory, or None if it is none."""
    if not is_remote(path):
        if not os.path.isdir(path):
            return None
        folders = os.walk(path, followlinks=True)
        return [os.path.join(at, name) for at, _, names in folders for name in names]
    store, name = _store(path)
    with input_errors(path, "a directory"):
        if store.get_file_info(name).type != pa.fs.FileType.Directory:
            return None
        below = store.get_file_info(pa.fs.FileSelector(name, recursive=True))
    base = name_of(path)
    query = path[len(base) :]
    return [
        base.rstrip("/") + each.path[len(name.rstrip("/")) :] + query
        for each in below
        if each.is_file
    ]


def _open(path):
    if not is_remote(path):
        return pa.OSFile(path)
    store, name = _store(path)
    return store.open_input_file(name)


def is_remote(path):
    """Whether a path is the name of a file in a store."""
    return "://" in path


def _store(path):
    address = urllib.parse.urlsplit(path)
    if address.password is not None:
        # Names stand in messages and in summaries.
        raise InputError(
            f"{address.scheme}://...: a log's name must hold no password; give keys as "
            "the store's own variables (AWS_SECRET_ACCESS_KEY)"
        )
    try:
        return pa.fs.FileSystem.from_uri(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be reached ({reason})") from None
