"""The bins that the values of a field are counted in, and the training split's counts.

The encoder's own: a range of numbers is a bin, and so is a value that is frequent in
training. All other values of the vocabulary are one bin, "the rest".
"""

import dataclasses

import numpy as np

from edcn_tf.features.counting import SAMPLE_SIZE

FREQUENT = 0.01  # a share of the known values, of a value with a bin of its own
# It has at least so many: the share of a value that few rows made frequent falls back.
FREQUENT_COUNT = 30
EXPECTED = 5  # values that a bin has at least if nothing drifted (Cochran's rule)
ABSENT, UNSEEN, KNOWN = 0, 1, 2  # columns of counts; known values' bins from there on
REST = "the rest"


@dataclasses.dataclass
class FieldBins:
    """Where each id of a field is counted.

    Attributes:
        name: The field's name.
        slots: Which slots of a row hold its ids.
        offset: First row of its range of the table.
        place: Column of the counts of each row of the range.
        labels: What each bin of known values holds.
        is_ordered: Whether neighbours in `labels` are alike, as ranges are.
        has_unseen: Whether a value may be unseen.
        counts: Of training, `[2 + bins]` float: missing, unseen and known values; None
            where they are those of the validation split.
        drawn: Share of the known values that `counts` were taken from.
    """

    name: str
    slots: slice
    offset: int
    place: np.ndarray
    labels: list
    is_ordered: bool
    has_unseen: bool
    counts: np.ndarray | None
    drawn: float = 1.0

    @property
    def columns(self):
        """Number of columns of its counts."""
        return KNOWN + len(self.labels)


def bins_of(spec, *, sampled=False):
    """The `FieldBins` of a `FeatureSpec`, and what is left out: name -> why.

    Args:
        spec: The `FeatureSpec`.
        sampled: Whether the training split has less negatives than the log, so that
            its counts are no measure for rows of the log; neither are those of a
            vocabulary that goes on from earlier days, which are of all days together.
    """
    sampled = sampled or spec.day > 1
    found, left_out, end = [], {}, 0
    for own in spec.fields:
        start, end = end, end + own.field.slots
        if own.field.is_statistic:
            left_out[own.field.name] = (
                "a training row has it as of its own time, a request as of today"
            )
            continue
        if own.field.is_vector:
            left_out[own.field.name] = "of vectors only the share of missing ones is"
        slots = slice(start, start + 1 if own.field.is_vector else end)
        found.append(_bins_of_field(own, slots, sampled))
    return found, left_out


def _bins_of_field(own, slots, sampled):
    field, first = own.field, own.first_value - own.offset
    counts = own.row_counts().astype(float)
    known = counts[first:]
    if field.has_ranges or field.is_vector:
        places, labels = np.arange(len(known)), own.owner.row_names()[first:]
    else:
        places, labels = _frequent(own, known)
    columns = np.concatenate([[ABSENT], np.full(first - 1, UNSEEN), KNOWN + places])
    place = columns.astype(np.min_scalar_type(KNOWN + len(labels)))
    bins = FieldBins(
        field.name,
        slots,
        own.offset,
        place,
        labels,
        is_ordered=field.has_ranges,
        has_unseen=first > 1,
        counts=None,
    )
    # A list counts in training with the values after its `max_length`, too.
    if not sampled and not field.multiple:
        bins.counts = _training_counts(own, counts, bins)
        if field.has_ranges:  # which were taken of a sample
            bins.drawn = min(1.0, SAMPLE_SIZE / max(known.sum(), 1))
    return bins


def _frequent(own, known):
    """Bin of each known value, and the bins' labels."""
    frequent = known >= max(FREQUENT * known.sum(), FREQUENT_COUNT)
    rows = np.flatnonzero(frequent)
    places = np.full(len(known), len(rows))
    places[rows] = np.arange(len(rows))
    owner = own.owner
    if owner.vocabulary:
        labels = [str(value) for value in owner.values().take(rows).to_pylist()]
    else:
        labels = [f"<hash {row}>" for row in rows]
    return places, labels + [REST] * (len(rows) < len(known))


def _training_counts(own, counts, bins):
    """Counts of the training split as another sample of the same rows would have them.

    A value that training has seen `min_count` times or less would be unseen, had the
    row that counts not been among them. So these values count as unseen, which is
    Good's and Turing's estimate of what is not known yet.

    Reference:
        Good 1953, "The Population Frequencies of Species and the Estimation of
        Population Parameters".
    """
    place = bins.place
    if own.field.has_vocabulary:
        first = own.first_value - own.offset
        rare = np.arange(len(counts)) >= first
        rare &= counts <= own.field.min_count
        place = np.where(rare, UNSEEN, place)
    return np.bincount(place, counts, bins.columns)


def merged(reference, rows, is_ordered):
    """Which bins go together, so that each is large enough to be compared.

    Args:
        reference: Counts of the bins, `[K]`.
        rows: Number of values that are compared with them.
        is_ordered: Whether a small bin goes with its neighbours, or with all others
            that are small (where these are few, with the smallest of the large).

    Returns:
        New bin of each, `[K]`, from 0 on.
    """
    size = reference.sum()
    expected = reference * (min(rows, size) / size if size else 0)
    if is_ordered:
        found, held, new = np.zeros(len(expected), int), 0.0, 0
        for number, each in enumerate(expected):
            found[number] = new
            held += each
            if held >= EXPECTED:
                held, new = 0.0, new + 1
        return np.minimum(found, max(new - 1, 0))
    large = expected >= EXPECTED
    found = np.full(len(expected), large.sum())
    found[large] = np.arange(large.sum())
    if large.any() and expected[~large].sum() < EXPECTED:
        found[~large] = found[np.argmin(np.where(large, expected, np.inf))]
    return found
