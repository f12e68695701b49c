"""The steps of `edcn demo`, from the data to the answer of the served model."""

import json
import math
from pathlib import Path

import numpy as np

from edcn_tf import export
from edcn_tf.config import TrainingConfig
from edcn_tf.console import program
from edcn_tf.demo.data import DATA, ROWS
from edcn_tf.errors import InputError
from edcn_tf.evaluation.scoring import evaluate_run
from edcn_tf.export.c_api import Session
from edcn_tf.files import refuse_existing, write_json
from edcn_tf.preparation.local import prepare
from edcn_tf.report.page import write_report
from edcn_tf.training.train import train


def run_demo(
    directory,
    *,
    data="movielens",
    rows=None,
    split_by="chance",
    history=False,
    seed=0,
):
    """Prepares, trains EDCN and a logistic regression, judges, exports, reports.

    Args:
        directory: A new directory that gets `tfds/` or `logs/`, `schema.json`, `data/`,
            `runs/edcn`, `runs/logistic_regression`, `models/NAME/1` and
            `figures.json`.
        data: `"movielens"`, `"flights"` or `"synthetic"` (`edcn_tf.demo.data.DATA`).
        rows: Rows of the synthetic log; 200,000 by default.
        split_by: `"chance"` or, where the rows have a time, `"time"`.
        history: Whether each row also has what its user clicked before (MovieLens).
        seed: Of the log, of the split and of both models.

    Returns:
        Run's name -> its figures on the test split (`edcn_tf.metrics.evaluate`), with
        `examples_per_second` of training; and the best possible `auc` and `log_loss`,
        `"best_possible"`, where they are known.

    Raises:
        InputError: If the directory exists, or an option does not fit the data.
    """
    chosen = DATA[data]
    if rows is not None and data != "synthetic":
        raise InputError(f"Only the synthetic log takes a number of rows, not {data}")
    if history:
        if chosen.history is None:
            raise InputError(f"The rows of {data} are of no users with a history")
        chosen = chosen.with_history()
    if split_by == "time" and chosen.schema.timestamp is None:
        raise InputError(f"The rows of {data} have no time to split them by")
    out = Path(directory)
    refuse_existing(out)
    out.mkdir(parents=True)
    print(f"1 of 5: {chosen.title}")
    chosen.schema.save(out / "schema.json")
    logs, best = chosen.logs(out, rows or ROWS, seed)
    summary = prepare(
        logs,
        chosen.schema,
        out / "data",
        format=chosen.format,
        split_by=split_by,
        seed=seed,
        history=chosen.history if history else None,
    )
    for name, split in summary["splits"].items():
        print(
            f"   {name:<5} {split['rows']:>7,} rows, {split['click_rate']:.1%} clicks"
        )
    figures = {}
    for number, (name, settings) in enumerate(chosen.runs.items(), 2):
        print(f"{number} of 5: training {name}")
        config = TrainingConfig.from_dict({**settings, "seed": seed})
        result = train(out / "data", out / "runs" / name, config)
        figures[name] = {
            **evaluate_run(out / "runs" / name, out / "data"),
            "examples_per_second": result["examples_per_second"],
        }
    if best:
        figures["best_possible"] = best
    write_json(out / "figures.json", figures)
    print("4 of 5: drawing the report")
    page = write_report(out / "runs/edcn", baseline=out / "runs/logistic_regression")
    print("5 of 5: exporting a SavedModel and verifying it in a clean process")
    version = export.export_run(out / "runs/edcn", out / "models" / chosen.name)
    proof = export.verify_saved_model(version)
    request, answer = ask(version, *chosen.request(out))
    print(f"\nTest split ({split_by}), {figures['edcn']['rows']:,} rows\n")
    print(_table(figures))
    print(
        f"""
Run         {out}/runs/edcn
Report      {page}  (open it in a browser)
SavedModel  {version}  (verified: {proof["requests"]} requests to \
{len(proof["signatures"])} signatures)

A request: {chosen.asked}
  {json.dumps(request)}
Its answer, by TensorFlow's C++ session loader, which TF Serving uses too
  {json.dumps(answer)}

Next:
  {program()} train {out}/data --out {out}/runs/concat --set bridge=concat
  {program()} evaluate {out}/runs/concat {out}/data
  {program()} tune {out}/data --out {out}/tuned
  your own log: README.md, "Your own log"; to serve it: docs/serving.md
"""
    )
    return figures


def ask(version, signature, inputs):
    """A request, and the answer of an export to it, by way of TensorFlow's C API.

    Both as TF Serving's REST API has them.
    """
    with Session(version) as session:
        arrays = {name: _array(value) for name, value in inputs.items()}
        probability = session.run(signature, arrays)["probability"]
    rounded = [[round(float(p), 4) for p in row] for row in probability]
    return {"signature_name": signature, "inputs": inputs}, {"outputs": rounded}


def _array(value):
    numbers = isinstance(np.ravel(np.array(value, object))[0], float)
    return np.array(value, np.float32 if numbers else object)


def _table(figures):
    columns = {
        "auc": "AUC",
        "log_loss": "log loss",
        "gauc": "GAUC",
        "calibration": "calibration",
        "examples_per_second": "examples/s",
    }
    if math.isnan(figures["edcn"]["gauc"]):  # the schema has no group
        del columns["gauc"]
    lines = [f"{'':<20}" + "".join(f"{head:>13}" for head in columns.values())]
    for name, row in figures.items():
        cells = "".join(_cell(row.get(key)) for key in columns)
        lines.append(f"{name:<20}{cells}".rstrip())
    return "\n".join(lines)


def _cell(value):
    if value is None:
        return f"{'':>13}"
    return f"{value:>13,}" if isinstance(value, int) else f"{value:>13.4f}"
