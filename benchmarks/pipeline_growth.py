"""How time and memory of `edcn prepare` grow with the log."""

import os
import sys
import tempfile

from edcn_tf.logs.synthetic.writing import synthesize

from .figures import check_figure, draw
from .serving import measured_command

SIZES = (100_000, 500_000, 1_000_000, 2_000_000, 5_000_000)


def benchmark_prepare_growth(rows=SIZES[-1], figure=None):
    """Seconds and peak memory of preparing synthetic logs of growing size.

    Memory is that of the largest process, which reads, counts and holds the
    vocabularies: one entry a distinct value.

    Args:
        rows: Rows of the largest log.
        figure: Name of a new SVG or PNG file for the plot.
    """
    if figure:
        check_figure(figure)
    print(f"40 columns, {os.cpu_count()} processors\n")
    print(f"{'rows':<14}{'seconds':>10}{'rows/s':>10}{'peak, MiB':>12}")
    seconds, peaks = {}, {}
    for size in sorted({*(size for size in SIZES if size < rows), rows}):
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "log.tsv")
            synthesize(log, size)
            edcn = os.path.join(os.path.dirname(sys.executable), "edcn")
            data = os.path.join(folder, "data")
            taken, peak = measured_command(
                [edcn, "prepare", log, "--format", "criteo", "--out", data]
            )
        seconds[size], peaks[size] = taken, peak / (1 << 20)
        print(f"{size:<14,}{taken:>10.1f}{size / taken:>10,.0f}{peaks[size]:>12,.0f}")
    if figure:
        panels = [("rows of the log", "seconds", {"": seconds})]
        panels.append(("rows of the log", "peak memory, MiB", {"": peaks}))
        draw(figure, panels)
