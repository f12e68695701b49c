"""The writer of a synthetic log, and of how well its clicks can be told at best."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.csv

from edcn_tf import console
from edcn_tf.checks import check_whole
from edcn_tf.files import refuse_existing, replaced, write_json
from edcn_tf.logs.probabilities import probability_writer
from edcn_tf.logs.synthetic.log import SyntheticLog

BINS = 1 << 17


def synthesize(path, rows, config=None, *, skip=0, probabilities=None):
    """Writes rows of a `SyntheticLog` as Criteo's log is: tab-separated, no header.

    Beside it comes `PATH.json` with the configuration, the intercept and the figures
    that are returned.

    Args:
        path: A new file, read by `edcn prepare --format criteo`.
        rows: Number of rows.
        config: `SyntheticConfig`.
        skip: Rows of the same log that come before these: so that a test log can
            follow on a training log.
        probabilities: A new `.csv` or `.parquet` file, or none, for the probability of
            a click of each row given its features.

    Returns:
        A dict: `rows`, `click_rate`, and the `auc`, its largest `auc_error`, and the
        `log_loss` of three scorings: `"best"` by the probability given all features,
        judged by the labels that were drawn; `"expected_best"` the same over all
        labels that could have been drawn; `"first_order"` by the first-order
        effects alone, which is about what a linear model can reach.

    Raises:
        InputError: If a file exists or an argument is out of its range.
    """
    path = Path(path)
    figures_path = path.with_name(f"{path.name}.json")
    for each in (path, figures_path):
        refuse_existing(each)
    for name, number, least in [("rows", rows, 1), ("skip", skip, 0)]:
        check_whole(name, number, least)
    log = SyntheticLog(config)
    best, expected, first_order = _Judge(), _Judge(), _Judge()
    with contextlib.ExitStack() as stack:
        partial = stack.enter_context(replaced(path))
        writer = stack.enter_context(_text_writer(partial, log.schema))
        write_probabilities = (
            stack.enter_context(probability_writer(probabilities))
            if probabilities
            else lambda values: None
        )
        bar = stack.enter_context(console.progress_bar("Drawing", rows, " rows"))
        for part in log.read(rows, skip):
            writer.write_batch(part.columns)
            write_probabilities(part.probabilities)
            labels = part.columns["label"].to_numpy()
            best.add(part.probabilities, labels)
            expected.add(part.probabilities, part.probabilities)
            first_order.add(part.first_order, labels)
            bar.update(len(labels))
        figures = {
            "rows": rows,
            "click_rate": float(best.clicks.sum() / rows),
            "best": best.figures(),
            "expected_best": expected.figures(),
            "first_order": first_order.figures(),
        }
        write_json(  # before the log gets its name
            figures_path,
            {
                **figures,
                "skip": skip,
                "config": dataclasses.asdict(log.config),
                "intercept": log.intercept,
            },
        )
    return figures


def _text_writer(path, schema):
    options = pyarrow.csv.WriteOptions(
        include_header=False, delimiter="\t", quoting_style="none"
    )
    return pyarrow.csv.CSVWriter(path, schema, write_options=options)


class _Judge:
    """AUC and log loss of probabilities, in memory that does not grow with the rows.

    Probabilities fall into bins of equal width; the AUC counts pairs within a bin as
    half, so it is wrong by at most half of the share of these pairs.
    """

    def __init__(self):
        self.clicks = np.zeros(BINS)
        self.others = np.zeros(BINS)
        self.loss = 0.0

    def add(self, probabilities, clicks):
        """With the click of each row, or the expected number of clicks."""
        bins = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
        np.add.at(self.clicks, bins, clicks)
        np.add.at(self.others, bins, 1 - clicks)
        likely = np.clip(probabilities, 1e-7, 1 - 1e-7)
        self.loss -= clicks @ np.log(likely) + (1 - clicks) @ np.log1p(-likely)

    def figures(self):
        """The figures; NaN for an AUC of one class only."""
        clicks, others = self.clicks.sum(), self.others.sum()
        pairs = clicks * others or np.nan
        lower = np.cumsum(self.others) - self.others
        undecided = self.clicks @ self.others / 2
        return {
            "auc": float((self.clicks @ lower + undecided) / pairs),
            "auc_error": float(undecided / pairs),
            "log_loss": float(self.loss / (clicks + others)),
        }
