"""How the figures of reports look: their colours, their style, and SVG of them."""

import contextlib
import io
import warnings

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, VERMILLION, ORANGE, GREY = "#0072B2", "#D55E00", "#E69F00", "#666666"
LINES = (  # the run's, and those of the runs that it is compared with
    (BLUE, "-"),
    (VERMILLION, "--"),
    ("#009E73", "-."),
    ("#CC79A7", ":"),
    (ORANGE, "-"),
    ("black", "--"),
)
MARKERS = "os^Dv*"
SIZE = (5, 3.7)  # inches; a figure is as wide as a phone, and two fit a screen
MATPLOTLIB = {
    "svg.fonttype": "none",  # text stays text: small, sharp, in the reader's fonts
    "svg.hashsalt": "edcn_tf",  # the same run gives the same page
    "text.parse_math": False,  # a name may hold a $
    "font.size": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "legend.frameon": False,
}


@contextlib.contextmanager
def style():
    """Draws in the style of reports; a decorator, or for a `with`."""
    with matplotlib.rc_context(MATPLOTLIB), warnings.catch_warnings():
        # Matplotlib measures with its own font; the browser has the missing glyphs.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def subplots(count, height=SIZE[1], **options):
    """A figure of `count` axes, one above the other, outside of pyplot's state."""
    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    return figure, figure.subplots(count, squeeze=False, **options)[:, 0]


def svg(figure):
    """The same bytes for the same figure."""
    file = io.BytesIO()
    nothing = dict.fromkeys(["Creator", "Date", "Format", "Type"])
    figure.savefig(file, format="svg", metadata=nothing)
    return file.getvalue()
