"""The data sets that models are compared on."""

import contextlib
import dataclasses
import os
from collections.abc import Callable

from edcn_tf.choices import SPLITS
from edcn_tf.demo.data import DATA as DEMO_DATA
from edcn_tf.logs.datasets import frappe, open_bandit
from edcn_tf.schema import Schema

TFDS_DATA_DIR = "TFDS_DATA_DIR"


@dataclasses.dataclass(frozen=True, kw_only=True)
class UsersData:
    """A data set of files that the user has.

    Args:
        title: What tables call it.
        schema: The `Schema`.
        format: Of the logs, or none.
        logs: As that of `edcn_tf.demo.data.DemoData`.
        is_there: Whether this machine has its files.
    """

    title: str
    schema: Schema
    format: str | None = None
    logs: Callable
    is_there: Callable


def _frappe_logs(directory, rows, seed):
    return {split: [f"tfds:frappe_x1[{split}]"] for split in SPLITS}, None


def _open_bandit_logs(directory, rows, seed):
    return ["tfds:open_bandit"], None


USERS_DATA = {
    "frappe_x1": UsersData(
        title="Frappe_x1, apps that were used, and others; BARS' own splits",
        schema=frappe.SCHEMA,
        logs=_frappe_logs,
        is_there=lambda: frappe.is_there(os.environ.get(TFDS_DATA_DIR)),
    ),
    "open_bandit": UsersData(
        title="Open Bandit's small logs, clothes that ZOZOTOWN showed; few clicks",
        schema=open_bandit.SCHEMA,
        logs=_open_bandit_logs,
        is_there=lambda: open_bandit.is_there(os.environ.get(TFDS_DATA_DIR)),
    ),
}
DATA = {**DEMO_DATA, **USERS_DATA}


@contextlib.contextmanager
def data_directory_kept():
    """Leaves the user's directory of data sets what it was: some logs set another."""
    before = os.environ.get(TFDS_DATA_DIR)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(TFDS_DATA_DIR, None)
        else:
            os.environ[TFDS_DATA_DIR] = before
