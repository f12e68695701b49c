"""What EDCN is ahead by, drawn: models against 95 % intervals, a panel a split."""

from edcn_tf.report.plotting import LINES

from ..figures import draw_panels

COLUMNS = 2
PANEL = (4.6, 2.2)  # inches


def draw(path, results, titles):
    """Draws the differences of test AUC with their intervals.

    Args:
        path: Name of the SVG file, which is replaced.
        results: Of `quality.json`: data and split -> a dict with `models`.
        titles: Name -> title of a model.
    """
    panels = [(part, result["models"], titles) for part, result in results.items()]
    without_date = {"metadata": {"Date": None}}
    draw_panels(path, panels, _draw, COLUMNS, PANEL, **without_date)


def _draw(axes, part, models, titles):
    axes.set_title(part.replace("-", ", split by "))
    ahead = {
        titles[name]: figures["ahead"]
        for name, figures in models.items()
        if "ahead" in figures
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
