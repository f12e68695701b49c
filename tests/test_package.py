"""The built wheel, installed elsewhere, is whole and leaves nothing beside itself."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel in an empty virtual environment that borrows the dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, for setuptools leaves build/ and *.egg-info where it builds.
    source = folder / "source"
    run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(source)])
    tracked = run(["git", "-C", str(ROOT), "ls-files", "-com", "--exclude-standard"])
    for name in tracked.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(source)]
    )
    wheel = next(folder.glob("*.whl"))
    run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")])
    python = folder / "venv" / "bin" / "python"
    site = Path(run([python, "-c", "import site; print(site.getsitepackages()[0])"]))
    # Only third-party packages: the checkout's editable install must not be seen.
    borrowed = sysconfig.get_paths()["purelib"]
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            wheel,
        ]
    )
    (site / "borrowed.pth").write_text(f"import sys; sys.path.append({borrowed!r})\n")
    return wheel, python, site


def run(command, **kwargs):
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, **kwargs
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()


def test_only_our_packages_land_in_site_packages(installed):
    wheel, _, _ = installed
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "edcn",
        "edcn_tf",
    }
    parts = ("layers/explicit/cross.py", "layers/gates/gate.py", "models/family.py")
    parts += ("tuning/spaces/small.yaml", "tuning/spaces/full.yaml", "py.typed")
    for part in (*parts, "export/verification.py", "logs/datasets/movielens.py"):
        assert f"edcn_tf/{part}" in names


def test_the_installed_wheel_imports_and_trains_outside_the_checkout(
    installed, tmp_path
):
    _, python, site = installed
    program = (
        "import edcn_tf, numpy as np; "
        f"assert edcn_tf.__file__.startswith({str(site)!r}), edcn_tf.__file__; "
        f"assert edcn_tf.export.__file__.startswith({str(site)!r}); "
        "spec = {'fields': [{'name': 'a', 'slots': 1, 'pooling': 'mean'}],"
        " 'num_rows': 9}; "
        "model = edcn_tf.EDCN(spec, l2=0.0); "
        "model.compile(edcn_tf.SparseAdam(), 'binary_crossentropy'); "
        "model.fit(np.array([[1], [2]]), np.array([0.0, 1.0]), verbose=0); "
        "print(edcn_tf.__version__)"
    )
    assert run([python, "-c", program], cwd=tmp_path) == "0.1.0"


def test_the_command_answers_without_importing_tensorflow(installed, tmp_path):
    _, python, _ = installed
    edcn = Path(python).with_name("edcn")
    # A TensorFlow that fails to import would be noticed.
    (tmp_path / "tensorflow.py").write_text("raise ImportError('imported')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert "SavedModel version" in run([edcn, "--help"], cwd=tmp_path, env=env)
    for command in ("prepare", "train", "evaluate", "predict", "export", "verify"):
        assert "Example:" in run([edcn, command, "--help"], cwd=tmp_path, env=env)
