"""A small log that trains in seconds, and the command line as a process."""

import csv
import sys

import numpy as np

import edcn_tf

COMMAND_LINE = "import sys; from edcn import main; sys.exit(main())"


def prepare_small_log(folder, rows, *, weight=False):
    """Prepares a log in which user and item together decide; returns the data.

    Args:
        folder: An empty directory.
        rows: Number of rows.
        weight: Whether the log has a weight, and the schema a group too.
    """
    random = np.random.default_rng(7)
    lines = ["click,user,item,weight"]
    for _ in range(rows):
        user, item = random.integers(0, 15), random.integers(0, 20)
        click = int(random.random() < (0.9 if (user + item) % 2 else 0.1))
        lines.append(f"{click},u{user},i{item},{1 + user % 2}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    schema = {"label": "click", "fields": [{"name": "user"}, {"name": "item"}]}
    if weight:
        schema.update(group="user", weight="weight")
    edcn_tf.prepare(
        folder / "log.csv", edcn_tf.Schema.from_dict(schema), folder / "data"
    )
    return folder / "data"


def edcn_command(*arguments):
    """`edcn ARGUMENTS` as a list for `subprocess`."""
    return [sys.executable, "-c", COMMAND_LINE, *map(str, arguments)]


def set_options(settings):
    """`--set=KEY=VALUE` for each setting."""
    return [f"--set={key}={value}" for key, value in settings.items()]


def history(run):
    """The rows of a run's `history.csv`, a dict each."""
    with open(run / "history.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
