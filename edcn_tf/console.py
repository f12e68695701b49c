"""What a person at a terminal sees: progress, and nothing that is not for them."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator

from tqdm import tqdm


def interactive() -> bool:
    """Whether a person watches: progress bars are for them alone."""
    return sys.stderr.isatty()


def program() -> str:
    """How the user calls `edcn`, for commands that we propose."""
    called = sys.argv[0]
    if os.path.basename(called) != "edcn" or called == shutil.which("edcn"):
        return "edcn"
    return called


def progress_bar(what: str, total: int | None, unit: str = "B") -> tqdm:
    """A progress bar, in bytes of the logs or in rows, silent where nobody watches."""
    return tqdm(
        total=total or None,
        desc=what,
        unit=unit,
        unit_scale=True,
        disable=not interactive(),
        leave=False,
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what C++ libraries write to standard error while they start.

    TensorFlow logs a few lines before its logging can be configured. Processes that
    are started inside stay silent: what goes wrong in them comes back as exceptions.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
