"""A directory as a log: its files, and the columns that its folders' names tell.

As Hive, Spark and pyarrow write them: `log/day=2026-03-01/part-0.parquet`.
"""

import os
import urllib.parse

from edcn_tf.errors import InputError
from edcn_tf.logs import opening

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # of a folder whose value is missing


def files_of(path):
    """The files of a log in the order of their names: itself, or those below it.

    What begins with `_` or `.` is no part of the log: `_SUCCESS`, checksums, what is
    being written.

    Raises:
        InputError: If a directory holds no file.
    """
    found = opening.listed(path)
    if found is None:
        return [path]
    above = len(opening.name_of(path))
    files = sorted(name for name in found if not _is_hidden(_below(name, above)))
    if not files:
        raise InputError(f"{path}: the directory holds no files of a log")
    return files


def _below(name, above):
    return opening.name_of(name)[above:]


def _is_hidden(below):
    return any(part.startswith(("_", ".")) for part in below.split("/") if part)


def refuse_both(path, told, present):
    """Raises an `InputError` for a column that a file has, though its folder tells it.

    Args:
        path: The file's name.
        told: What its folders tell.
        present: Names of the file's columns.
    """
    for name in told:
        if name in present:
            raise InputError(
                f"{path}: has the column {name!r}, which the folder {name}=... tells "
                "too; which is meant? Rename one of them"
            )


def told_by(path):
    """Column -> text, or None where it is missing, that a path's folders tell."""
    told = {}
    for part in os.path.dirname(opening.name_of(path)).split("/"):
        name, is_column, value = part.partition("=")
        if is_column and name:
            value = urllib.parse.unquote(value)
            told[urllib.parse.unquote(name)] = None if value == NO_VALUE else value
    return told
