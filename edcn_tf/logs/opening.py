"""A log file opened: its bytes, decompressed, and what goes wrong as one line."""

import contextlib
import os

import pyarrow as pa

from edcn_tf.errors import InputError

BLOCK_BYTES = 1 << 23  # of text in one batch; a row must fit in it
LOG_ROWS = 1 << 16  # of Parquet and TFDS in one batch
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
        raise InputError(f"{path}: is not {format} as expected: {reason}") from None


@contextlib.contextmanager
def opened(path):
    """The file's bytes, decompressed, beside the file itself (to tell how far)."""
    with pa.OSFile(path) as file:
        start = file.read(4)
        held = next((k for magic, k in MAGIC.items() if start.startswith(magic)), None)
        file.seek(0)
        suffix = os.path.splitext(path.lower())[1]
        named = {".gz": "gzip", ".zst": "zstd"}.get(suffix)
        if named and held != named and file.size():
            raise InputError(f"{path}: is named {suffix} but does not hold {named}")
        if held in ("gzip", "zstd"):
            with pa.CompressedInputStream(file, held) as stream:
                yield stream, file
        else:
            yield file, file
