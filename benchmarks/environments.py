"""Virtual environments of libraries that are compared with this one."""

import subprocess
import sys
from pathlib import Path


def python_of(directory, name, needed):
    """The Python of a peer's environment, which is made if it is not there yet.

    One that was made for other versions is made anew.

    Args:
        directory: Where environments are.
        name: What people call the peer.
        needed: What `pip install` is to install, versions and all.
    """
    home = Path(directory) / name.lower().replace(" ", "-")
    python, done = home / "bin/python", home / "installed"
    if not done.exists() or done.read_text().split() != needed:
        print(f"Installing {name} in {home} (once; some minutes)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *needed], check=True)
        done.write_text("\n".join(needed))
    return python
