"""What a user had clicked before each impression, from the log alone: `--history`.

Three steps, of which each reads and writes in a stream:

    parts of the logs -> their rows' users, times and items, a file for each group of
                         users (those whose name has the same hash)
    a group of users  -> the history of each of its rows, sorted by row, a file a part
    a part again      -> its rows, each with its history, in the log's order

So the memory that it takes follows the users of a group and not the log; the log may
be in any order, of its rows and of its files.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.errors import InputError
from edcn_tf.features.counting import value_buckets
from edcn_tf.field import MISSING, Field
from edcn_tf.logs.normalizing import ARROW_TYPES
from edcn_tf.preparation.groups import ROW, GroupWriters, SortedRows

HISTORY_ROWS = 1 << 12  # of the files of histories
USER, TIME, CLICK = "user", "time", "click"


@dataclasses.dataclass(frozen=True)
class History:
    """Which histories a log gets.

    Attributes:
        text: As it was given, `USER:ITEM:TIME`.
        user: The column that tells users apart.
        fields: The schema's sequence `of` the item, and those along it.
    """

    text: str
    user: str
    fields: tuple[Field, ...]

    @classmethod
    def parse(cls, text, schema):
        """From `USER:ITEM:TIME`, the names of three columns.

        Returns:
            The `History`, and the schema: it names TIME as its timestamp, and has a
            sequence of ITEM, `ITEM_history` if it had none.

        Raises:
            InputError: If a name is missing or does not fit the schema.
        """
        names = text.split(":")
        if len(names) != 3 or not all(names):
            raise InputError(
                "A history is USER:ITEM:TIME, the names of three columns. "
                f"Received: {text!r}"
            )
        user, item, time = map(schema.named, names)
        if schema.timestamp not in (None, time):
            raise InputError(
                f"The schema's timestamp is {schema.timestamp!r}; histories go by the "
                f"same. Received: {time!r}"
            )
        if user in (schema.label, time):
            raise InputError(f"{user!r} is no user: it is the label or the timestamp")
        if not any(field.name == item for field in schema.fields):
            raise InputError(
                "Items are values of a field of the schema: "
                f"{[field.name for field in schema.fields]}. Received: {item!r}"
            )
        found = [group for group in schema.sequences if group[0].of == item]
        if len(found) > 1:
            raise InputError(
                f"The schema has more than one sequence of {item!r}: "
                f"{[group[0].name for group in found]}; leave one"
            )
        fields = schema.fields
        if not found:
            name = f"{item}_history"
            fields = (*fields, Field(name=name, kind="sequence", of=item))
        schema = dataclasses.replace(schema, timestamp=time, fields=fields)
        [group] = [group for group in schema.sequences if group[0].of == item]
        for field in group[1:]:
            if field.of is None and not field.has_ranges:
                raise InputError(
                    f"Field {field.name!r}: what goes along a history that is built is "
                    "`of` a field, or has `buckets` (of the time since)"
                )
        return cls(text, user, tuple(group)), schema

    @property
    def names(self):
        """Of the columns that it makes."""
        return [field.name for field in self.fields]

    @property
    def values(self):
        """The columns whose values it holds."""
        return list(dict.fromkeys(f.of for f in self.fields if f.of))

    def gather(self, part, plan, groups, folder, progress=None):
        """Writes who did what when, of a part of a log: a file for each group of users.

        Args:
            part: `edcn_tf.logs.reading.LogPart`.
            plan: The `edcn_tf.preparation.plan.Plan`.
            groups: Number of groups.
            folder: A directory for the files.
            progress: As for `edcn_tf.logs.reading.read_log`.
        """
        schema = plan.schema
        columns = [self.user, schema.timestamp, schema.label, *self.values]
        columns = list(dict.fromkeys(columns))
        writers = GroupWriters(folder)
        batches = plan.read(part, columns, progress)
        for first_row, batch in batches:
            user = batch.column(self.user).cast(pa.string())
            rows = pa.table(
                {
                    USER: user,
                    ROW: np.arange(first_row, first_row + batch.num_rows),
                    TIME: batch.column(schema.timestamp),
                    CLICK: batch.column(schema.label),
                    **{f"of {name}": batch.column(name) for name in self.values},
                }
            )
            buckets = value_buckets(user.fill_null(""), groups)
            for group in np.unique(buckets):
                writers.write(int(group), rows.filter(pa.array(buckets == group)))
        writers.close()

    def join(self, group, sources, folders):
        """Writes the histories of a group of users, a file for each part.

        Args:
            group: The group's number.
            sources: Of each part the directory that `gather` filled.
            folders: Of each part a directory for the file.
        """
        tables, parts = [], []
        for number, source in enumerate(sources):
            path = Path(source, str(group))
            if path.exists():
                with pa.memory_map(str(path)) as file:
                    tables.append(pa.ipc.open_stream(file).read_all())
                parts.append(np.full(tables[-1].num_rows, number))
        if not tables:
            return
        rows, parts = pa.concat_tables(tables).combine_chunks(), np.concatenate(parts)
        ends, lengths, events = self._places(rows)
        row_numbers = rows[ROW].to_numpy()
        for number in np.unique(parts):
            mine = np.flatnonzero(parts == number)
            mine = mine[np.argsort(row_numbers[mine], kind="stable")]
            writers = GroupWriters(folders[number])
            for start in range(0, len(mine), HISTORY_ROWS):
                chosen = mine[start : start + HISTORY_ROWS]
                lists = self._lists(rows, chosen, ends, lengths, events)
                lists[ROW] = pa.array(row_numbers[chosen])
                writers.write(group, pa.table(lists))
            writers.close()

    def _places(self, rows):
        """Where each row's history is: up to `ends`, `lengths` of the `events`."""
        users = rows[USER].combine_chunks().dictionary_encode()
        users = users.indices.fill_null(-1).to_numpy()
        times = rows[TIME].to_numpy()
        order = np.lexsort((times, users))
        users, times = users[order], times[order]
        items = rows[f"of {self.fields[0].of}"].combine_chunks()
        clicked = (rows[CLICK].to_numpy() == 1) & items.is_valid().to_numpy(False)
        clicked = clicked[order]
        before = np.concatenate([[0], np.cumsum(clicked)])
        new_user = np.concatenate([[True], users[1:] != users[:-1]])
        new_time = new_user | np.concatenate([[True], times[1:] != times[:-1]])
        places = np.arange(len(order))
        # Strictly earlier: what is of the same time is not known yet.
        upto = before[np.maximum.accumulate(np.where(new_time, places, 0))]
        first = before[np.maximum.accumulate(np.where(new_user, places, 0))]
        number = np.minimum(upto - first, self.fields[0].max_length)
        number[users < 0] = 0  # nobody has no history
        ends, lengths = np.empty_like(upto), np.empty_like(number)
        ends[order], lengths[order] = upto, number
        return ends, lengths, order[clicked]

    def _lists(self, rows, chosen, ends, lengths, events):
        """The histories of some rows: name -> array of lists."""
        lengths = lengths[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        starts = ends[chosen] - lengths
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        of = events[places]
        lists = {}
        for field in self.fields:
            kind = ARROW_TYPES[field.dtype]
            if field.of:
                values = rows[f"of {field.of}"].combine_chunks().take(pa.array(of))
                values = values.fill_null(MISSING[field.dtype])
            else:
                times = rows[TIME].to_numpy()
                since = np.repeat(times[chosen], lengths) - times[of]
                values = pc.cast(pa.array(since), kind, safe=False)
            lists[field.name] = pa.ListArray.from_arrays(
                pa.array(offsets, pa.int32()), values
            )
        return lists

    def added(self, batches, folder, schema):
        """Adds the histories to the batches of a part, which come in the log's order.

        Args:
            batches: Yields a batch's first row and the batch.
            folder: The directory that `join` filled for the part.
            schema: The `Schema`, whose columns come out, in its order.
        """
        streams = [SortedRows(path) for path in sorted(Path(folder).iterdir())]
        for first_row, batch in batches:
            end = first_row + batch.num_rows
            tables = [table for s in streams for table in s.upto(end)]
            lists = pa.concat_tables(tables).sort_by(ROW).combine_chunks()
            columns = [
                lists[name].combine_chunks()
                if name in self.names
                else batch.column(name)
                for name in schema.columns
            ]
            yield (
                first_row,
                pa.RecordBatch.from_arrays(columns, names=schema.columns),
            )
