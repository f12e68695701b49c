"""One addition after the other: what is tried, what it brings, and what is taken."""

import dataclasses
import itertools

import numpy as np

from edcn_tf import console
from edcn_tf.preparation.choosing.baseline import baseline_logits
from edcn_tf.preparation.choosing.candidates import Candidate, Tables
from edcn_tf.preparation.choosing.gains import Gain, Logits

MOST_ADDED = 6
LEAST_SHARE = 0.005  # of the log loss, that an addition must take off
LEAST_ERRORS = 2.0  # and so many standard errors
MOST_PAIRS = 45  # of which both kinds are tried
MOST_KEPT = 40  # that are tried again after the best was taken
SCREENED_ROWS = 60_000  # by which these are found among all pairs


@dataclasses.dataclass(frozen=True)
class Round:
    """What all candidates bring to what was taken before.

    Attributes:
        loss: Log loss of the judged rows without them.
        gains: Candidate -> its `Gain`, the largest first.
        taken: The candidate that was taken, or None.
    """

    loss: float
    gains: dict[Candidate, Gain]
    taken: Candidate | None


def choose(rows, names, present, most):
    """Goes on until nothing brings enough.

    Args:
        rows: `edcn_tf.preparation.choosing.rows.Rows`.
        names: Of the fields that are combined.
        present: Candidates that the schema has already.
        most: Number of fields that may be added.

    Returns:
        `Round`s; what the last one took is None, unless `most` were taken.
    """
    logits, usable = baseline_logits(rows)
    tables = Tables(rows, usable)
    state = Logits(rows, logits, usable)
    for candidate in present:
        state.add(tables.table(candidate))
    tried, rounds = {}, []
    with console.progress_bar("Choosing statistics", None, "") as bar:

        def offer(candidates):
            for candidate in candidates:
                if candidate not in present and tables.fits(candidate):
                    tried[candidate] = tables.table(candidate)
                    bar.update(1)

        offer(Candidate("statistic", (name,)) for name in names)
        first = {candidate: state.gain(table) for candidate, table in tried.items()}
        offer(_pairs(rows, names, first, state))
        while len(rounds) < most:
            gains = {each: state.gain(table) for each, table in tried.items()}
            gains = dict(sorted(gains.items(), key=lambda pair: -pair[1].nats))
            taken = _best(gains, state.loss)
            rounds.append(Round(state.loss, gains, taken))
            if taken is None:
                break
            state.add(tried.pop(taken))
            present = [*present, taken]
            for hopeless in list(gains)[MOST_KEPT:]:
                tried.pop(hopeless, None)
            if len(taken.of) == 2:
                offer(_triples(taken, names))
    return rounds


def enough(gain, loss):
    """Whether a gain is worth a field."""
    return gain.nats > max(LEAST_SHARE * loss, LEAST_ERRORS * gain.error)


def _best(gains, loss):
    """Of those that are as good as the best but for its error, the simplest.

    The simplest may have the larger error: what they tell is much the same.
    """
    good = [gain for gain in gains.values() if enough(gain, loss)]
    if not good:
        return None
    best = max(good, key=lambda gain: gain.nats)
    least = max(best.nats - best.error, LEAST_SHARE * loss)
    close = [each for each, gain in gains.items() if gain.nats >= least]
    return min(close, key=lambda each: (len(each.of), -gains[each].nats, each))


def _pairs(rows, names, first, state):
    """Crosses and statistics of the pairs whose crosses bring most.

    A statistic of a pair backs off to that of its first field, so this is the one that
    brings more alone.
    """
    pairs = list(itertools.combinations(names, 2))
    if len(pairs) > MOST_PAIRS:
        few = state.thinned(-(-len(rows) // SCREENED_ROWS))
        tables = Tables(few.rows, few.usable)
        found = {
            pair: few.gain(tables.table(Candidate("cross", pair))).nats
            for pair in pairs
        }
        pairs = sorted(pairs, key=lambda pair: -found[pair])[:MOST_PAIRS]
    for pair in pairs:
        yield Candidate("cross", pair)
        alone = {name: -_nats(first, name) for name in pair}
        yield Candidate("statistic", tuple(sorted(pair, key=alone.get)))


def _nats(first, name):
    gain = first.get(Candidate("statistic", (name,)))
    return gain.nats if gain else np.inf  # in the schema already


def _triples(taken, names):
    for name in names:
        if name not in taken.of:
            of = (*taken.of, name)
            yield Candidate("cross", tuple(sorted(of, key=names.index)))
            yield Candidate("statistic", of)
