"""What was counted of all keys, on disk: for serving, and for the days after.

Of each counter `NNN-keys.npy` `[K]` int64, rising, `NNN-counts.npy` `[K, 2]` float32
and `NNN-waiting.npz`: events whose labels were not known yet at the end of the log.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from edcn_tf.errors import InputError
from edcn_tf.features.statistics.counter import Counter
from edcn_tf.features.statistics.counts import Events

FOLDER = "statistics"  # of the FeatureSpec's directory
FILES = ("keys.npy", "counts.npy", "waiting.npz")


@dataclasses.dataclass(frozen=True)
class CounterTable:
    """The keys of a counter, with their clicks and impressions as of a time.

    Attributes:
        counter: The `Counter`.
        keys, counts, waiting: Its files.
        as_of: Labels of rows up to this time are counted; None for all, where rows
            have no order in time.
        known_after: How long after its row a label is known, as the schema or the
            default says it; None where rows have no order in time.
    """

    counter: Counter
    keys: Path
    counts: Path
    waiting: Path
    as_of: float | None
    known_after: float | str | None

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys `[K]` int64, rising, and counts `[K, 2]` float32.

        Raises:
            InputError: If a file is damaged, or does not fit the other.
        """
        keys, counts = _loaded(self.keys), _loaded(self.counts)
        if (
            (keys.dtype, counts.dtype) != (np.int64, np.float32)
            or counts.shape != (len(keys), 2)
            or (np.diff(keys) <= 0).any()
            or not (np.isfinite(counts).all() and (counts >= 0).all())
        ):
            raise InputError(f"{self.keys}: does not fit {self.counts.name}, or is cut")
        return keys, counts

    def before(self) -> Events:
        """All that was counted, as events of the past: what the days after start from.

        What was known is of one event a key, at `as_of`.
        """
        keys, counts = self.load()
        time = -np.inf if self.as_of is None else self.as_of
        known = Events(keys, np.full(len(keys), time), counts.astype(np.float64))
        waiting = _loaded(self.waiting)
        columns = (waiting[name] for name in Events._fields)
        return Events.joined([known, Events(*columns)])


def write_table(
    directory: Path,
    number: int,
    counter: Counter,
    keys: np.ndarray,
    counts: np.ndarray,
    waiting: Events,
    as_of: float | None,
    known_after: float | str | None,
) -> dict[str, Any]:
    """Writes a counter's table; returns what `features.json` says of it.

    Args:
        directory: The FeatureSpec's.
        number: The counter's among those of the schema.
        counter: The `Counter`, whose `max_size` is respected.
        keys, counts: `[K]` int64 in any order, `[K, 2]` float64.
        waiting: `Events`.
        as_of, known_after: See `CounterTable`.
    """
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    if counter.max_size is not None and len(keys) > counter.max_size:
        # Of equally many impressions, the lower key: the same wherever it is chosen.
        most = np.lexsort((keys, -counts[:, 1]))[: counter.max_size]
        keys, counts = keys[most], counts[most]
    order = np.argsort(keys)
    base = folder / f"{number:03d}"
    np.save(f"{base}-keys.npy", keys[order])
    np.save(f"{base}-counts.npy", counts[order].astype(np.float32))
    waiting = waiting.of(np.lexsort((*waiting.amounts.T, waiting.keys, waiting.times)))
    np.savez(f"{base}-waiting.npz", **waiting._asdict())
    return {**counter.to_dict(), "as_of": as_of, "known_after": known_after}


def stored_tables(directory: Path, stored: Any) -> tuple[CounterTable, ...]:
    """The `CounterTable`s of what `features.json` says of them."""
    tables = []
    for number, own in enumerate(stored):
        options = (option.name for option in dataclasses.fields(Counter))
        rest = {name: own[name] for name in options if name != "of"}
        base = directory / FOLDER / f"{number:03d}"
        keys, counts, waiting = (Path(f"{base}-{name}") for name in FILES)
        for path in (keys, counts, waiting):
            if not path.is_file():
                raise InputError(f"{path}: is not there; was it removed?")
        times = own["as_of"], own["known_after"]
        counter = Counter(of=tuple(own["of"]), **rest)
        tables.append(CounterTable(counter, keys, counts, waiting, *times))
    return tuple(tables)


def _loaded(path: Path) -> Any:
    try:
        loaded = np.load(path)
        if path.suffix == ".npz":
            with loaded:
                return {name: loaded[name] for name in Events._fields}
        return loaded
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise InputError(f"{path}: is damaged ({error})") from None
