"""Clicks and impressions of keys as they were known at given times."""

from typing import NamedTuple

import numpy as np


class Events(NamedTuple):
    """What counts: of each row that is counted its key, time and amounts.

    Attributes:
        keys: `[E]` int64.
        times: `[E]` float64, or places in an order.
        amounts: `[E, 2]` float64: clicks and impressions, by the row's weight.
    """

    keys: np.ndarray
    times: np.ndarray
    amounts: np.ndarray

    @classmethod
    def none(cls):
        """No events."""
        return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 2)))

    @classmethod
    def joined(cls, several):
        """All events of several of these."""
        several = [cls.none(), *several]
        return cls(*(np.concatenate(column) for column in zip(*several)))

    def of(self, chosen):
        """Those that an index, a mask or a slice chooses."""
        return Events(*(column[chosen] for column in self))


def counts_before(events, keys, times, half_life=None):
    """Clicks and impressions of some keys, each strictly before a time of its own.

        n(k, t) = sum of 0.5^((t - t_e) / half_life) over events e of key k, t_e < t

    without the power where there is no half-life; exact then, for amounts that are
    whole numbers. One sort, whatever the number of keys.

    Args:
        events: `Events`.
        keys, times: `[Q]` each, of what is asked for.
        half_life: In the unit of the times, or None.

    Returns:
        `[Q, 2]` float64.
    """
    asked = len(keys)
    all_keys = np.concatenate([keys, events.keys])
    all_times = np.concatenate([times, events.times])
    amounts = np.concatenate([np.zeros((asked, 2)), events.amounts])
    is_event = np.arange(len(all_keys)) >= asked
    # Of one time what is asked comes first: an event is known only afterwards. Events
    # of one time are in the order of their amounts, so that no sum hangs on that of
    # the files.
    order = np.lexsort((*amounts.T, is_event, all_times, all_keys))
    all_keys, all_times, amounts = all_keys[order], all_times[order], amounts[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = all_keys[1:] != all_keys[:-1]
    found = np.empty_like(amounts)
    if half_life is None and (amounts == np.rint(amounts)).all():
        totals = np.cumsum(amounts, axis=0)
        starts = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
        found[order] = totals - (totals - amounts)[starts]
    else:  # a sum over all keys would be rounded by the weights of others
        found[order] = _aged(amounts, all_times, is_first, half_life)
    return found[:asked]


def counts_at(events, time, half_life=None):
    """Keys and counts `[K, 2]` of all events up to a time, this one included.

    Args:
        events: `Events`.
        time: As of which; infinity for all.
        half_life: As for `counts_before`.

    Returns:
        Keys, rising, and their clicks and impressions, float64.
    """
    events = events.of(events.times <= time)
    order = np.lexsort((*events.amounts.T, events.times, events.keys))
    events = events.of(order)
    amounts = events.amounts
    if half_life is not None:
        amounts = amounts * 0.5 ** ((time - events.times) / half_life)[:, None]
    keys, starts = np.unique(events.keys, return_index=True)
    if not len(keys):
        return keys, np.zeros((0, 2))
    return keys, np.add.reduceat(amounts, starts, axis=0)


def _aged(amounts, times, is_first, half_life):
    """Running sums in which what came before has aged, anew for each key.

    Without a half-life it stays as it is: d_i is 1 but at a key's first, where it is 0.
    s_i = a_i + d_i s_(i-1) by doubling the reach of the sums, log2 of the longest run
    of a key times.
    """
    decay = np.where(is_first, 0.0, 1.0)
    if half_life is not None:
        gaps = np.where(is_first, 0.0, np.diff(times, prepend=times[:1]))
        decay *= 0.5 ** (gaps / half_life)
    sums, decay, step = amounts.copy(), decay[:, None], 1
    starts = np.flatnonzero(is_first)
    longest = np.diff(starts, append=len(times)).max(initial=0)
    while step < longest:
        sums[step:] += decay[step:] * sums[:-step]
        decay[step:] = decay[step:] * decay[:-step]
        step *= 2
    return sums
