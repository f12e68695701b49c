#!/usr/bin/env bash
# Models give float32 probabilities, and some are 0 or 1. scikit-learn's log_loss clips
# them by the epsilon of their type, so the figure hangs on the type and not on the
# model: compare log losses only of one type.
#
# Guess: both 34.54, of clipping at 1e-15 as older versions did.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" scikit-learn==1.9.1 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PY'
import numpy as np
import sklearn
from sklearn.metrics import log_loss

seen = {
    kind: round(float(log_loss([1, 0], np.array([0.0, 1.0], kind))), 2)
    for kind in ("float32", "float64")
}
print("scikit-learn", sklearn.__version__, seen)
assert seen == {"float32": 15.94, "float64": 36.04}, seen
PY
