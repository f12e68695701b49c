"""Plots of measurements: small ones side by side."""

import matplotlib
from matplotlib.figure import Figure

from edcn_tf.errors import InputError
from edcn_tf.files import refuse_existing, replaced
from edcn_tf.report.plotting import LINES, MATPLOTLIB

COLUMNS = 3
PANEL = (3.4, 2.7)  # inches


def check_figure(path):
    """Refuses what could not be drawn, before anything is measured."""
    if not str(path).endswith((".svg", ".png")):
        raise InputError(f"{path}: a figure's name ends in .svg or .png")
    refuse_existing(path)


def draw(path, panels):
    """Draws lines over logarithmic sizes.

    Args:
        path: Name of the SVG or PNG file.
        panels: `(size's name, figure's name, {line's name: {size: figure}})` each.
    """
    draw_panels(path, panels, _draw, COLUMNS, PANEL)


def draw_panels(path, panels, draw_panel, columns, size, **options):
    """Draws panels side by side into a file, whole or not at all.

    Args:
        path: Name of the SVG or PNG file, which is replaced.
        panels: What each panel is of, a tuple each.
        draw_panel: Function of axes and what is in a panel's tuple.
        columns: How many panels stand side by side.
        size: Width and height of a panel, in inches.
        **options: Of matplotlib's `savefig`.
    """
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context(MATPLOTLIB):
        whole = (size[0] * columns, size[1] * rows)
        figure = Figure(figsize=whole, layout="constrained")
        for number, panel in enumerate(panels, 1):
            draw_panel(figure.add_subplot(rows, columns, number), *panel)
        with replaced(path) as partial:
            figure.savefig(partial, format=str(path).rpartition(".")[2], **options)


def _draw(axes, size_name, figure_name, lines):
    for (color, style), (name, line) in zip(LINES, lines.items()):
        axes.plot(
            list(line), list(line.values()), style, color=color, marker="o", label=name
        )
    sizes = sorted({size for line in lines.values() for size in line})
    axes.set_xscale("log")
    axes.set_xticks(sizes, [_short(size) for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(size_name)
    axes.set_ylabel(figure_name)
    if len(lines) > 1:
        axes.legend()


def _short(size):
    for unit, name in [(1_000_000, " M"), (1000, " k")]:
        if size >= 10 * unit or (size >= unit and size % unit == 0):
            return f"{size / unit:g}{name}"
    return str(size)
