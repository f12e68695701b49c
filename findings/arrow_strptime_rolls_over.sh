#!/usr/bin/env bash
# Day-first times of a log, parsed by a column operation. A typing error in the day is
# another day of the next month, a year of two digits one of the first century, and a
# zone's name is read over: an order by time that nobody sees is wrong.
#
# Guess: null for 31/02/2026 and for a year of two digits under %Y, since
# error_is_null=True asks for it; 07:50 CET is 06:50 UTC, or refused.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" pyarrow==25.0.1
PYTHONPATH="$folder" python3 - <<'PY'
import pyarrow as pa
import pyarrow.compute as pc


def seen(text, format):
    times = pc.strptime(pa.array([text]), format=format, unit="s", error_is_null=True)
    return str(times[0])


found = [
    seen("31/02/2026", "%d/%m/%Y"),
    seen("01/03/26", "%d/%m/%Y"),
    seen("01/03/2026 07:50 CET", "%d/%m/%Y %H:%M %Z"),
    seen("32/01/2026", "%d/%m/%Y"),
]
print("pyarrow", pa.__version__, found)
assert found == [
    "2026-03-03 00:00:00",
    "0026-03-01 00:00:00",
    "2026-03-01 07:50:00",
    "None",
], found
PY
