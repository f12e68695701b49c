"""The most memory that a command holds."""

import subprocess
import sys


def peak_of(command):
    """Largest resident memory of a command, bytes."""
    # Started by a small process: a child's figure begins with its parent's.
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    output = subprocess.run(
        [sys.executable, "-c", measure, *command],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return 1024 * int(output.split()[-1])
