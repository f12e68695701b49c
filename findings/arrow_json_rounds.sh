#!/usr/bin/env bash
# JSON lines of an event collector. Ids that are whole numbers in the text come out as
# their neighbours where another row has a fraction, or where they have 64 bits; dates
# of one column are times as soon as one row has a time, so that "2026-03-01" cannot be
# told from "2026-03-01 00:00:00"; and a line with two objects is two rows.
#
# Guess: an error, or text, where a number does not fit; text that stays text; an error
# for more than one object a line.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" pyarrow==25.0.1
PYTHONPATH="$folder" python3 - <<'PY'
import io

import pyarrow as pa
import pyarrow.json


def seen(*lines):
    table = pa.json.read_json(io.BytesIO("\n".join(lines).encode()))
    return str(table.schema.field("a").type), table["a"].to_pylist()


found = {
    "beside a fraction": seen('{"a": 9007199254740993}', '{"a": 2.5}'),
    "64 bits": seen('{"a": 12345678901234567890}'),
    "days": seen('{"a": "2026-03-01"}', '{"a": "2026-03-02 08:15:02"}')[0],
    "objects": seen('{"a": 1} {"a": 2}'),
}
print("pyarrow", pa.__version__, found)
assert found == {
    "beside a fraction": ("double", [9007199254740992.0, 2.5]),
    "64 bits": ("double", [1.2345678901234567e19]),
    "days": "timestamp[s]",
    "objects": ("int64", [1, 2]),
}, found
PY
