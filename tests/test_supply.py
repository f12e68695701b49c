"""What is installed has tested bounds, and what is installed needs no network."""

import configparser
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
# Another Python may have other pins: no old release has wheels for a new Python.
PYTHON = {"python_full_version": "3.11.7", "python_version": "3.11"}


def requirements():
    """Every requirement of setup.cfg, those of extras too, but edcn-tf itself."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = [config["options"]["install_requires"]]
    lists += config["options.extras_require"].values()
    lines = [line for text in lists for line in text.splitlines() if line.strip()]
    found = [Requirement(line) for line in lines if not line.startswith("edcn-tf[")]
    assert len(found) > 20
    return found


def pins(name):
    """Package -> version of a file of `requirements/`."""
    versions = {}
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        if not line.startswith("#"):
            # No address, no path, no option of pip's.
            assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [\w.<>=!' *]+)?", line), line
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate(PYTHON):
                assert pin.name not in versions
                (version,) = pin.specifier
                versions[pin.name] = version.version
    return versions


def test_every_requirement_has_two_bounds():
    for requirement in requirements():
        operators = {bound.operator for bound in requirement.specifier}
        assert operators - {"!="} == {">=", "<"}, requirement


def test_the_lower_bounds_are_what_the_lowest_run_installs():
    lowest = pins("lowest.txt")
    for requirement in requirements():
        (lower,) = (one for one in requirement.specifier if one.operator == ">=")
        name = canonicalize_name(requirement.name)
        assert lowest[name] == lower.version, requirement


def test_the_lock_is_within_the_bounds():
    newest = pins("newest.txt")
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        assert newest[name] in requirement.specifier, requirement


PROGRAM = """
import errno, pathlib, socket, subprocess, sys

from edcn import main

import edcn_tf
from edcn_tf.logs.datasets import movielens

def refused():
    # Packets, of these and all child processes, for which there was no way out.
    lines = pathlib.Path("/proc/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Ip:"))
    six = dict(map(str.split, pathlib.Path("/proc/net/snmp6").read_text().splitlines()))
    return int(values[names.index("OutNoRoutes")]) + int(six["Ip6OutNoRoutes"])

read = movielens.read_frame  # all of it takes too long
movielens.read_frame = lambda: read().head(1000)
program = [sys.executable, "-c", "import edcn; edcn.main()"]
subprocess.run([*program, "--help"], check=True)
for command in sys.argv[1:]:
    assert main(command.split()) == 0, command
assert refused() == 0, "the network was asked for"

# It is off, and this would have been seen.
with socket.socket() as one:
    assert one.connect_ex(("127.0.0.1", 9)) == errno.ENETUNREACH
assert refused() == 1
"""


def test_nothing_asks_for_the_network(tmp_path):
    alone = ("unshare", "--map-root-user", "--net")
    try:
        subprocess.run([*alone, "true"], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the kernel gives no network namespace: {error.stderr.strip()}")
    lines = ["click,user,item"]
    lines += [f"{i * 7 % 3 == 0:d},u{i % 15},i{i % 20}" for i in range(300)]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    schema = {"label": "click", "fields": [{"name": "user"}, {"name": "item"}]}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    films = {"label": "click", "fields": [{"name": "movie_id"}]}
    (tmp_path / "films.json").write_text(json.dumps(films))
    commands = [
        "prepare log.csv --schema schema.json --out data",
        "train data --out run --set epochs=1 --set num_layers=1",
        "export run --out models/clicks",  # verified by a process of its own
        "prepare tfds:movielens_latest_small --schema films.json --out films",
    ]
    result = subprocess.run(
        [*alone, sys.executable, "-c", PROGRAM, *commands],
        cwd=tmp_path,
        env={**os.environ, "TFDS_DATA_DIR": str(tmp_path / "tfds")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
