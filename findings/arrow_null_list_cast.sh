#!/usr/bin/env bash
# A column of lists in which no value was ever set has the type list<null>. Cast to its
# own type, as code does that brings all lists to one form, it becomes an array that is
# not valid: it has as many values as lists.
#
# Guess: a cast to the type that a column has changes nothing.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" pyarrow==25.0.1
PYTHONPATH="$folder" python3 - <<'PY'
import pyarrow as pa

lists = pa.array([[None, None], [None]])
lists.validate()
cast = lists.cast(pa.list_(pa.null()))
try:
    cast.validate()
    said = "valid"
except pa.ArrowInvalid as error:
    said = str(error)
print("pyarrow", pa.__version__, lists.type, "->", cast.type, said)
assert lists.type == cast.type and "larger than values array (length 2)" in said, said
PY
