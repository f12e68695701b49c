"""The notebook runs from top to bottom, as it is."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tutorial.ipynb"

# Its code cells are plain Python, so they need no kernel: one namespace is enough.
RUN = """
import json, sys
import keras
path, epochs = sys.argv[1:]
if epochs:  # at most
    fit = keras.Model.fit
    keras.Model.fit = lambda model, *args, **options: fit(
        model, *args, **{**options, "epochs": int(epochs)}
    )
namespace = {"__name__": "__main__"}
for cell in json.load(open(path, encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        name = f"<{cell['id']}>"
        exec(compile("".join(cell["source"]), name, "exec"), namespace)
"""


def cells():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def run(folder, epochs=""):
    """What its code cells print, in a working directory of their own."""
    result = subprocess.run(
        [sys.executable, "-c", RUN, str(NOTEBOOK), epochs],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    return run(tmp_path_factory.mktemp("tutorial"))


def assert_verified(printed):
    assert "movielens/1/saved_model.pb" in printed
    assert "rank, regress, serving_default" in printed
    assert float(re.search(r"differ by (\S+) at most", printed)[1]) <= 1e-4


def test_it_runs_with_an_epoch_of_each_model(tmp_path):
    printed = run(tmp_path, epochs="1")
    assert_verified(printed)
    assert figures(printed, "edcn")["AUC"] > 0.6
    assert re.search(r"Battlefield Earth +0\.\d{4}", printed)


def figures(text, name):
    """Measure -> number, of the last line that judges a model."""
    line = [line for line in text.splitlines() if line.startswith(f"{name} ")][-1]
    pairs = re.findall(r"(AUC|GAUC|log loss|calibration) ([\d.]+)", line)
    return {measure: float(number) for measure, number in pairs}


@pytest.mark.slow
def test_edcn_is_as_good_as_in_the_demo_and_beats_the_linear_model(printed):
    edcn, linear = (figures(printed, n) for n in ("edcn", "logistic_regression"))
    assert edcn["AUC"] > 0.795 and edcn["log loss"] < 0.55
    assert 0.785 < linear["AUC"] < edcn["AUC"]
    assert linear["GAUC"] < edcn["GAUC"] < edcn["AUC"]
    assert 0.95 < edcn["calibration"] < 1.05


@pytest.mark.slow
def test_the_export_is_verified_and_answers(printed):
    assert_verified(printed)
    films = "The Shawshank Redemption", "Pulp Fiction", "Battlefield Earth"
    good, better, bad = (
        float(re.search(rf"{film} +([\d.]+)", printed)[1]) for film in films
    )
    assert bad < 0.1 < min(good, better) < 1


@pytest.mark.slow
def test_what_is_saved_with_it_is_what_it_prints(printed):
    """To chance: threads add up numbers in another order each time."""
    saved = "".join(
        "".join(output.get("text", ""))
        for cell in cells()
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
    )
    for name in ("edcn", "logistic_regression"):
        assert figures(saved, name) == pytest.approx(figures(printed, name), abs=0.03)


def test_the_file_is_whole_and_says_nothing_of_a_machine():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["metadata"] == {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    counts = []
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "markdown":
            for target in re.findall(r"\]\(([^):]+)\)", "".join(cell["source"])):
                assert (NOTEBOOK.parent / target).exists(), target
            continue
        counts.append(cell["execution_count"])
        for output in cell["outputs"]:
            assert output["output_type"] in ("stream", "display_data")
            assert output.get("name") != "stderr"
            text = output.get("text") or output["data"]["text/plain"]
            text = "".join(text)
            assert not re.search(r"(^|[\s'\"(])/\w|0x[0-9a-f]{6}|\x1b", text), text
    assert counts == list(range(1, len(counts) + 1))  # run once, from top to bottom
