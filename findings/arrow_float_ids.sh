#!/usr/bin/env bash
# A user id column with one missing value is float64 to pandas. Cast to text, ids of 10
# digits and of 11 are written differently: two spellings of ids in one vocabulary.
#
# Guess: 1234567890.0 and 12345678901.0 become "1234567890" and "12345678901".
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" pyarrow==25.0.0
PYTHONPATH="$folder" python3 - <<'PY'
import pyarrow as pa

seen = pa.array([1234567890.0, 12345678901.0, None]).cast(pa.string()).to_pylist()
print("pyarrow", pa.__version__, seen)
assert seen == ["1234567890", "1.2345678901e+10", None], seen
PY
