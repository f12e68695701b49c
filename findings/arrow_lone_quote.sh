#!/usr/bin/env bash
# In a TSV, where quotes are letters like others, a title may begin with one: `"Heroes`.
# Read with the CSV reader's default quote and line ends allowed in values, as logs
# with free text need, two such titles take the rows between them for one value.
#
# Guess: an error at the first quote, since text follows the one that closes it.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" pyarrow==25.0.0
PYTHONPATH="$folder" python3 - <<'PY'
import io

import pyarrow as pa
import pyarrow.csv

log = b'title\tclick\n"Heroes\t0\nAliens\t1\n"Batman\t1\nCarol\t0\n'
options = pa.csv.ParseOptions(delimiter="\t", newlines_in_values=True)
seen = pa.csv.read_csv(io.BytesIO(log), parse_options=options).to_pylist()
print("pyarrow", pa.__version__, len(seen), "rows of 4:", seen)
assert [row["title"] for row in seen] == ["Heroes\t0\nAliens\t1\nBatman", "Carol"], seen
PY
