"""Files of probabilities, one a row of a log, in its order."""

import contextlib
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from edcn_tf.errors import InputError
from edcn_tf.files import refuse_existing, replaced

WRITERS = {".csv": pyarrow.csv.CSVWriter, ".parquet": pyarrow.parquet.ParquetWriter}
SCHEMA = pa.schema([("probability", pa.float32())])


@contextlib.contextmanager
def probability_writer(path):
    """A function that appends an array to a file, which comes to be when it is whole.

    Args:
        path: A new `.csv` or `.parquet` file.

    Raises:
        InputError: If the file exists, or is to be of another kind.
    """
    path = Path(path)
    refuse_existing(path)
    if path.suffix not in WRITERS:
        raise InputError(
            f"Probabilities are written as {' or '.join(WRITERS)}. Received: {path}"
        )
    with replaced(path) as partial:
        with WRITERS[path.suffix](partial, SCHEMA) as writer:
            yield lambda values: writer.write_batch(
                pa.record_batch([pa.array(values, pa.float32())], schema=SCHEMA)
            )
