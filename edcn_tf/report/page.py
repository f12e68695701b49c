"""A run as one HTML page: its figures and curves, its gates, fields and cost."""

import shlex
from html import escape
from pathlib import Path

from edcn_tf.config import setting_text
from edcn_tf.directories import Run
from edcn_tf.files import replaced
from edcn_tf.report.cost import cost
from edcn_tf.report.curves import curves, difference_chart, learning
from edcn_tf.report.gates import gates, gates_of
from edcn_tf.report.histories import histories
from edcn_tf.report.html import breakable, note, page, scrolled, table
from edcn_tf.report.importance import importance
from edcn_tf.report.runs import read_runs
from edcn_tf.report.summary import differences, figures_table, head, run_head
from edcn_tf.report.values import values


def write_report(run, data=None, *, others=(), split=None, baseline=None, path=None):
    """Writes a self-contained HTML page about a run and returns its path.

    The page needs no network, no other file and no JavaScript. A figure that cannot be
    given (no group, one class only, no history, no gates) is left out and the page
    says why.

    Args:
        run: Directory that `train` made.
        data: Directory that `prepare` made; by default the one of `result.json`.
        others: Further runs to compare this one with: their figures stand side by side
            and their curves over one another. A run whose columns the data lack is
            scored on its own data, or left out if that cannot be.
        split: The split that is scored; by default test or, where there is none, valid.
        baseline: One more of the others, such as a logistic regression.
        path: Where to write; by default `report.html` in the run directory.

    Returns:
        The `Path` of the page.

    Raises:
        InputError: If a run or the split cannot be read.
    """
    path = Path(path or Run(run).report)
    asked, directories = split, [run, *others, *([baseline] if baseline else [])]
    runs, split, left_out = read_runs(directories, data, split)
    of_first = ""
    if len(runs) > 1:
        of_first = note(f"This section is about {runs[0].label}.")
    compared, weights = differences(runs), gates_of(runs[0])
    sections = [
        head(runs, split),
        "<h2>Figures</h2>",
        figures_table(runs, compared),
        difference_chart(runs, compared) if len(runs) > 2 else "",
        *map(note, [*_about_split(asked, split), *left_out]),
        "<h2>Learning</h2>",
        learning(runs),
        "<h2>Ranking and calibration</h2>",
        curves(runs),
        "<h2>Gates</h2>" + of_first,
        gates(runs[0], weights),
        histories(runs[0]),
        "<h2>Importance of fields</h2>" + of_first,
        importance(runs[0], weights),
        "<h2>Values of fields</h2>" + of_first,
        values(runs[0]),
        "<h2>Cost</h2>" + of_first,
        cost(runs[0]),
        "<h2>Setting</h2>",
        _setting(runs),
        _commands(runs[0], split),
    ]
    text = page(f"{runs[0].name}: {runs[0].model}", sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def _about_split(asked, split):
    """What is to know of a split that nobody asked for."""
    if split == "valid" and not asked:
        yield (
            "There is no test split, so these are the rows of the validation split, by "
            "which the best epoch was chosen: figures are a little too good."
        )
    if split == "train":
        yield (
            "These are the rows that the model was trained on: figures are far too "
            "good. Prepare a test split to judge it by."
        )


def _setting(runs):
    keys = dict.fromkeys(key for run in runs for key in run.config)
    rows = [
        (breakable(key), *(_setting_cell(run.config, key) for run in runs))
        for key in keys
    ]
    rows.append(("<b>parameters</b>", *(f"{run.parameters:,}" for run in runs)))
    html = table("setting", ["", *map(run_head, runs)], rows)
    return scrolled(html)


def _setting_cell(config, key):
    return breakable(setting_text(config[key])) if key in config else "n/a"


def _commands(run, split):
    data, config = run.data, str(Run(run.directory).config)
    parts = ["edcn", "train", data], ["--out", "NEW_RUN"], ["--config", config]
    train = " \\\n  ".join(map(shlex.join, parts))
    evaluate = ["edcn", "evaluate", run.directory, data]
    if split != "test":
        evaluate += ["--split", split]
    return (
        "<p>To train the same again, and to score this run:</p>\n"
        f"<pre>{escape(train)}\n\n{escape(shlex.join(evaluate))}</pre>"
    )
