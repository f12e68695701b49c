"""What EDCN is ahead by, drawn: models against 95 % intervals, a panel a split."""

import matplotlib
from matplotlib.figure import Figure

from edcn_tf.files import replaced
from edcn_tf.plotting import LINES, MATPLOTLIB

COLUMNS = 2
PANEL = (4.6, 2.2)  # inches


def draw(path, results, titles):
    """Draws the differences of test AUC with their intervals.

    Args:
        path: Name of the SVG file, which is replaced.
        results: Of `quality.json`: data and split -> a dict with `models`.
        titles: Name -> title of a model.
    """
    rows = -(-len(results) // COLUMNS)
    with matplotlib.rc_context(MATPLOTLIB):
        size = (PANEL[0] * COLUMNS, PANEL[1] * rows)
        figure = Figure(figsize=size, layout="constrained")
        for number, (part, result) in enumerate(results.items(), 1):
            axes = figure.add_subplot(rows, COLUMNS, number)
            axes.set_title(part.replace("-", ", split by "))
            _draw(axes, result["models"], titles)
        with replaced(path) as partial:
            figure.savefig(partial, format="svg", metadata={"Date": None})


def _draw(axes, models, titles):
    ahead = {
        titles[name]: figures["edcn_ahead"]
        for name, figures in models.items()
        if "edcn_ahead" in figures
    }
    centres = [each["auc"] for each in ahead.values()]
    axes.hlines(
        list(ahead),
        [each["low"] for each in ahead.values()],
        [each["high"] for each in ahead.values()],
        color=LINES[0][0],
    )
    axes.plot(centres, list(ahead), "o", color=LINES[0][0])
    axes.axvline(0, color="gray", linewidth=0.8)
    axes.invert_yaxis()  # the table's order
    axes.margins(y=0.2)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("EDCN's AUC minus the model's")
