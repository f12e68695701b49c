"""Version numbers: each is given once, to a whole directory, and never again."""

import os
import re
import shutil
import uuid
from pathlib import Path

from edcn_tf.errors import InputError
from edcn_tf.files import flush, flush_names


def versions(directory):
    """Published version numbers under a model's base directory, ascending."""
    return sorted({int(path.name) for path in _numbered(directory) if path.is_dir()})


def _numbered(directory):
    """What bears a number for a name, which no version can then get.

    By whatever zeros before it: to TF Serving `00000123` is version 123.
    """
    paths = Path(directory).iterdir() if Path(directory).is_dir() else ()
    return [path for path in paths if re.fullmatch(r"[0-9]+", path.name)]


def refuse_published(directory, version):
    """Raises an `InputError` if something bears the number of a version already."""
    for path in _numbered(directory):
        if int(path.name) == version:
            raise InputError(f"{path}: exists already; choose another --version")


def refuse_version_as_base(directory):
    """Raises an `InputError` for a version where a base directory is expected."""
    path = Path(directory).absolute()
    if path.name.isdecimal() and (path / "saved_model.pb").exists():
        raise InputError(
            f"{directory}: is a version, in which no others can be; give the base "
            f"directory: {Path(directory).parent}"
        )


def publish_version(partial, directory, version=None):
    """Gives a finished directory its number; it is visible whole or not at all.

    Args:
        partial: The finished directory, on the same file system.
        directory: The model's base directory.
        version: Its number, or one more than the highest there is. If another
            process takes that at the same moment, the next.

    Returns:
        The published directory.

    Raises:
        InputError: If `version` is given and exists.
    """
    directory = Path(directory)
    flush(partial)
    if version is not None:
        refuse_published(directory, version)
    while True:
        taken = [int(path.name) for path in _numbered(directory)]
        number = version or max(taken, default=0) + 1
        target = directory / str(number)
        try:
            os.rename(partial, target)  # fails if the target exists and is not empty
        except OSError as error:
            if not target.exists():
                raise
            if version is not None:
                raise InputError(f"{target}: exists already") from error
            continue
        flush_names(directory)
        return target


def keep_newest(directory, number, named=()):
    """Removes all but the newest versions, each at once: none is seen half removed.

    Args:
        directory: The model's base directory.
        number: How many stay.
        named: Numbers of versions that stay too.

    Returns:
        The removed version numbers.
    """
    removed = [each for each in versions(directory)[:-number] if each not in named]
    for path in _numbered(directory):
        if path.is_dir() and int(path.name) in removed:
            # Not a number any more, so TF Serving unloads it before its files go.
            hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex}.removed")
            os.rename(path, hidden)
            shutil.rmtree(hidden)
    return removed
