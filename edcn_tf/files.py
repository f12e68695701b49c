"""Files and directories that come to be whole or not at all."""

import contextlib
import fcntl
import filecmp
import functools
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from edcn_tf.errors import InputError

LARGEST_FILE = 1 << 20  # bytes
# No `os.PathLike`: names are made of it, f"{run}/features".
StrPath = str | Path
# Nanoseconds, within which a file may change without another time: those of file
# systems go by ticks of the clock, on FAT of two seconds.
TIME_GRAIN = 3_000_000_000
Found = TypeVar("Found")


@contextlib.contextmanager
def new_directory(directory: StrPath) -> Iterator[Path]:
    """A directory under a temporary name beside `directory`, renamed at the end.

    On an error, or when the process is killed, `directory` does not come to be.

    Raises:
        InputError: If `directory` exists, at the start or at the end.
    """
    refuse_existing(directory)
    with partial_directory(directory) as partial:
        yield partial
        refuse_existing(directory)  # os.rename would replace an empty one
        flush(partial)
        os.rename(partial, directory)
        flush_names(Path(directory).absolute().parent)


@contextlib.contextmanager
def partial_directory(directory: StrPath) -> Iterator[Path]:
    """A directory under a temporary name beside `directory`, removed at the end.

    Unless it was renamed by then. The name starts with a dot and is no number, so
    that TF Serving, which polls for numbers, does not see it.
    """
    directory = Path(directory).absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(
        tempfile.mkdtemp(
            prefix=f".{directory.name}.", suffix=".partial", dir=directory.parent
        )
    )
    try:
        partial.chmod(0o777 & ~_umask())  # mkdtemp makes it private
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def flush(directory: Path) -> None:
    """Has everything in a directory on the disk before it gets its name."""
    for path in directory.rglob("*"):
        flush_names(path)
    flush_names(directory)


def flush_names(path: StrPath) -> None:
    """`fsync` of a file, or of the names in a directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(path: StrPath, what: str) -> Iterator[None]:
    """Holds a lock on a file that exists, which ends with the process at the latest.

    Args:
        path: The file.
        what: What is going on, `"runs/first: another process trains there"`.

    Raises:
        InputError: If another process holds it.
    """
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{what}; wait for it, or choose another --out") from None
        yield


def refuse_existing(path: StrPath) -> None:
    """Nothing is ever overwritten: an `InputError` if there is something."""
    if os.path.lexists(path):
        raise InputError(f"{path}: exists already; remove it or choose another name")


def refuse_unwritable(path: StrPath) -> None:
    """An `InputError` if a file exists, or its folder does not: before long work."""
    refuse_existing(path)
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise InputError(f"{path}: its folder {folder} is not there; make it first")


def same_content(one: Path, other: Path) -> bool:
    """Whether two directories hold files of the same names and bytes."""
    names = [
        {path.relative_to(folder) for path in Path(folder).rglob("*")}
        for folder in (one, other)
    ]
    return names[0] == names[1] and all(
        (one / name).is_dir() or filecmp.cmp(one / name, other / name, shallow=False)
        for name in names[0]
    )


@contextlib.contextmanager
def replaced(path: StrPath) -> Iterator[Path]:
    """A temporary name beside `path`, which it replaces at once at the end.

    The suffix is kept, for libraries that go by it.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remembered(function: Callable[[str], Found]) -> Callable[[str], Found]:
    """A function of a file's path that is not called again while the file stays as is.

    By its size and its time. Of a file that was only just written, or that lies on no
    file system of the machine, nothing is remembered.
    """
    known: dict[tuple[str, int, int], Found] = {}

    @functools.wraps(function)
    def remembering(path: str) -> Found:
        try:
            state = os.stat(path)
        except OSError:
            return function(path)
        key = (path, state.st_size, state.st_mtime_ns)
        if key not in known:
            now = time.time_ns()
            found = function(path)
            if now - state.st_mtime_ns < TIME_GRAIN:
                return found
            known[key] = found
        return known[key]

    return remembering


def write_json(path: StrPath, value: Any) -> None:
    """Writes JSON, readable, whole or not at all; a NaN becomes null."""
    with replaced(path) as partial:
        text = json.dumps(_without_nan(value), indent=1, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")


def _without_nan(value: Any) -> Any:
    """JSON has no NaN; what cannot be given is null there."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_json(path: StrPath) -> Any:
    """Reads a JSON file; what goes wrong is an `InputError` that names the file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # too long a number, or too deep
        raise InputError(f"{path}: is not JSON ({error})") from None


def read_value(path: StrPath, *keys: str) -> Any:
    """A value in a JSON file of objects in objects, by the keys that lead to it."""
    value = read_json(path)
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise InputError(f"{path}: is damaged (it lacks {'.'.join(keys)})")
        value = value[key]
    return value


def read_yaml(path: StrPath, hint: str = "") -> dict[str, Any]:
    """The `KEY: VALUE` lines of a YAML file, a dict.

    Args:
        path: Name of the file.
        hint: What to do if it cannot be read.

    Raises:
        InputError: If it cannot be read, is no such lines, or repeats itself (`*NAME`),
            by which a few lines can stand for more than memory holds.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise InputError(f"{path}: is larger than {LARGEST_FILE:,} bytes")
        values = parse_yaml(content.decode("utf-8")) or {}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}{hint}") from None
    except (yaml.YAMLError, ValueError, RecursionError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is not YAML ({reason})") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"{path}: must hold KEY: VALUE lines")
    return values


def parse_yaml(text: str) -> Any:
    """The value of a YAML text, which is data and repeats nothing (`*NAME`)."""
    return yaml.load(text, _Loader)  # a safe one


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("write it out in place of *NAME")
        return super().compose_node(parent, index)
