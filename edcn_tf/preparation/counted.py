"""Statistics of all rows, counted on this machine, and what is known in the end."""

import dataclasses
from pathlib import Path

import numpy as np

from edcn_tf import console
from edcn_tf.errors import InputError
from edcn_tf.features.statistics.counts import Events
from edcn_tf.features.statistics.tables import write_table
from edcn_tf.logs.reading import log_bytes
from edcn_tf.preparation.groups import number_of_groups
from edcn_tf.preparation.statistics import Statistics, file_name
from edcn_tf.preparation.totals import Totals

MOST_KEYS = 1 << 27  # of all counters: their table takes 3 GB where it is read
BYTES_PER_KEY = 24


def count(plan, parts, gathered, joined, tables):
    """Counts the statistics of a `Plan`.

    Args:
        plan: The `edcn_tf.preparation.plan.Plan`.
        parts: Of each log its number and its `edcn_tf.logs.reading.LogPart`.
        gathered, joined: For each of them a directory for what is read, and one for
            what its rows knew.
        tables: A directory for what is known in the end.

    Returns:
        `Counted`.
    """
    statistics, totals, total = plan.statistics, Totals(), log_bytes(plan.logs)
    groups = number_of_groups(total, len(statistics.counters))
    with console.progress_bar("Reading statistics", total) as bar:
        for (log, part), target in zip(parts, gathered):
            totals.merge(statistics.gather(log, part, plan, groups, target, bar.update))
    if told := statistics.overlap(totals):
        print(told)
    with console.progress_bar("Counting statistics", groups) as bar:
        for group in range(groups):
            statistics.join(group, groups, totals, gathered, joined, tables)
            bar.update(1)
    return Counted(statistics, totals, tables)


@dataclasses.dataclass(frozen=True)
class Counted:
    """What is known in the end, for the FeatureSpec.

    Attributes:
        statistics: The `Statistics`.
        totals: `Totals` of all parts.
        folder: The directory `tables` of `Statistics.join`.
    """

    statistics: Statistics
    totals: Totals
    folder: Path

    @property
    def prior(self):
        """The click rate of the training rows, before negatives are left out."""
        return self.totals.clicks / max(self.totals.shown, 1e-9)

    def write(self, directory):
        """Writes the tables; returns what `features.json` says of them.

        Raises:
            InputError: If there are more keys than a table should have.
        """
        stored, total = [], 0
        for number, counter in enumerate(self.statistics.counters):
            keys, counts, waiting = [np.zeros(0, np.int64)], [np.zeros((0, 2))], []
            for path in sorted(Path(self.folder).glob(file_name(number, "*.npz"))):
                with np.load(path) as piece:
                    keys.append(piece["table"])
                    counts.append(piece["counts"])
                    waiting.append(Events(*(piece[name] for name in Events._fields)))
            kept = sum(map(len, keys))
            kept = min(kept, counter.max_size or kept)
            total += kept
            if total > MOST_KEYS:
                raise InputError(
                    f"The statistics of {' x '.join(counter.of)} have {kept:,} keys, "
                    f"with those before {total:,}, which take "
                    f"{total * BYTES_PER_KEY / 1e9:.1f} GB wherever they are served; "
                    "set their `max_size` or `hash_buckets`, or leave some out. "
                    f"Received: more than {MOST_KEYS:,}"
                )
            stored.append(
                write_table(
                    directory,
                    number,
                    counter,
                    np.concatenate(keys),
                    np.concatenate(counts),
                    Events.joined(waiting),
                    self.statistics.as_of(counter, self.totals),
                    self.statistics.known_after(counter),
                )
            )
        return {"protocol": self.statistics.protocol, "counters": stored}
