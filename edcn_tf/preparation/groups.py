"""Files of what belongs together, and of what was found for each row of a part.

What is counted or gathered of users, or of other keys, is done group by group (those
whose name has the same hash), so that memory follows a group and not the log; what
comes of it is sorted by row, and read along with the part of the log.
"""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa

BYTES_PER_GROUP = 1 << 28  # of logs: the users of a group are in memory together
MOST_GROUPS = 256
MOST_OPEN = 512  # files at once: a process may often have 1,024
ROW = "row"  # of its part


def number_of_groups(size, kinds=1):
    """How many groups the users, or keys, of so many bytes of logs are divided into.

    Of each kind of keys a group has a file, and all are open while they are written.
    """
    most = min(MOST_GROUPS, max(MOST_OPEN // max(kinds, 1), 1))
    return min(1 + size // BYTES_PER_GROUP, most)


class GroupWriters:
    """Files of tables, by a name each, that get their names when they are whole."""

    def __init__(self, folder):
        self.folder, self.open = Path(folder), {}

    def write(self, number, table):
        if number not in self.open:
            path = self.folder / f".{number}.partial"
            self.open[number] = pa.ipc.new_stream(str(path), table.schema)
        self.open[number].write_table(table)

    def close(self):
        for number, writer in self.open.items():
            writer.close()
            os.replace(self.folder / f".{number}.partial", self.folder / str(number))
        self.open = {}


class SortedRows:
    """A file of tables, sorted by row, read as far as it is needed."""

    def __init__(self, path):
        self.reader = pa.ipc.open_stream(pa.OSFile(str(path)))
        self.left = None

    def upto(self, end):
        """Yields tables of the rows before `end` that were not given yet."""
        while True:
            if self.left is None:
                try:
                    self.left = self.reader.read_next_batch()
                except StopIteration:
                    return
            number = int(np.searchsorted(self.left[ROW].to_numpy(), end))
            if number:
                yield pa.Table.from_batches([self.left.slice(0, number)])
            if number < self.left.num_rows:
                self.left = self.left.slice(number)
                return
            self.left = None
