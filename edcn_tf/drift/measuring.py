"""A run and a later log compared: `edcn drift`."""

import numpy as np

from edcn_tf.directories import Run
from edcn_tf.drift.bins import ABSENT, KNOWN, UNSEEN, bins_of, merged
from edcn_tf.drift.divergences import (
    UNKNOWN,
    compared,
    design_effect,
    same_share,
)
from edcn_tf.drift.findings import Drift, FieldDrift, Limits, Share
from edcn_tf.drift.ranking import auc, figure, log_calibration
from edcn_tf.drift.rows import (
    check_there,
    count_logs,
    count_served,
    count_validation,
)
from edcn_tf.drift.tally import Tally, score_of
from edcn_tf.errors import InputError
from edcn_tf.evaluation.calibration import load_calibration
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.logs.served.reading import hold_predictions

SCORE_RANGES = 10  # of as many scores of the validation split each
HISTOGRAM = 40  # bars of equal width
SHOWN = 12  # bins of a field that differ most
NO_ROWS = 1e-12


def measure_drift(
    run, logs, data=None, *, format=None, limits=None, ignore=(), version=None
):
    """Compares later rows with the training split of a run, and their scores.

    Values are compared with the training split's counts, which a run holds; scores,
    calibration and AUC with the validation split, which is scored for that, in one
    pass, and so are the values of fields with `multiple`, of which training counts
    more than a row uses. Where `prepare` kept a part of the rows without a click alone,
    or went on from the vocabulary of earlier days, all values are compared with the
    validation split. Memory is that of counts.

    Args:
        run: Directory of a finished run.
        logs: Names of raw logs, with or without labels, or of TFRecord files with the
            requests that TF Serving logged (`edcn_tf.logs.served`), whose logged
            scores count then.
        data: The prepared data of the run; by default where it was when it trained.
        format: Format of the logs, or told from their names.
        limits: `Limits`, from where on a difference is an alarm.
        ignore: Names of fields that give none, such as the weekday.
        version: Of logged requests those alone that the version of this number, which
            the run was exported as, answered; of any by default.

    Returns:
        A `Drift`.

    Raises:
        InputError: If something cannot be read, or a log has no rows.
    """
    data = str(data or Run(run).data())
    check_there(run, data)
    model, spec = load_run(run)
    names = [field.name for field in spec.schema.fields]
    for name in ignore:
        if name not in names:
            raise InputError(f"ignore must name fields of {names}. Received: {name!r}")
    calibration = load_calibration(run)
    bins, left_out = bins_of(spec, sampled=calibration.negative_sampling_rate < 1)
    if spec.schema.weight:
        left_out[spec.schema.weight] = "the weight of rows: each counts once here"
    own, before = Tally(bins), Tally(bins)
    is_served = hold_predictions(logs, format)
    there = set()
    if version is not None and not is_served:
        raise InputError(
            f"version {version} is of logged requests, which logs of rows are not"
        )
    if is_served:
        told = count_served(own, spec, logs, version)
        left_out |= {why: f"{told[why]:,}" for why in sorted(told)}
    else:
        there = count_logs(own, run, model, spec, logs, format)
    if not own.rows:
        told = "; ".join(f"{name} ({why})" for name, why in left_out.items())
        raise InputError(
            f"{', '.join(map(str, logs))}: no rows to compare"
            + (f"; left out: {told}" if is_served and told else "")
        )
    count_validation(before, run, model, spec, data)
    weights = np.ones(2)
    if calibration.splits_sampled:
        weights[0] = 1 / calibration.negative_sampling_rate
    return Drift(
        run=str(run),
        logs=[str(log) for log in logs],
        data=data,
        labels=spec.schema.label in there,
        independent=not is_served and spec.schema.group not in there,
        left_out=left_out,
        limits=limits or Limits(),
        **figures_of(
            own, before, spec.schema.label in there, weights=weights, ignore=ignore
        ),
    )


def figures_of(own, before, labels, *, weights=(1.0, 1.0), ignore=()):
    """The figures of a `Drift`, a dict of its attributes.

    Args:
        own, before: `Tally` of the log and of the validation split.
        labels: Whether the log has them.
        weights: What a validation row without and with a click counts.
        ignore: Names of fields that give no alarm.
    """
    weights = np.asarray(weights, float)
    # Of all bins of scores, a day has few.
    there = own.scores.any(axis=(0, 1)) | before.scores.any(axis=(0, 1))
    least = score_of(np.flatnonzero(there)).astype(float)
    new, old = own.scores[..., there], before.scores[..., there]
    scores, histogram = _scores(new, old, weights, least)
    calibration, ranks = None, None
    if labels:
        pairs = (new, own.predicted.sum(axis=1)), (old, before.predicted @ weights)
        calibration, ranks = _with_labels(*pairs)
    return {
        "rows": own.rows,
        "validation_rows": before.rows,
        "largest_group": float(new.sum(axis=(1, 2)).max() / own.rows),
        "fields": [
            _field(bins, *counts, weights, bins.name in ignore)
            for bins, *counts in zip(own.bins, own.values, before.values)
        ],
        "scores": scores,
        "histogram": histogram,
        "mean": (_mean(own, np.ones(2)), _mean(before, weights)),
        "calibration": calibration,
        "auc": ranks,
    }


def _field(bins, new, old, weights, ignored):
    groups = new.sum(axis=1)
    reference, drawn, split = bins.counts, bins.drawn, "train"
    if reference is None:
        reference, split = _weighted(old.sum(axis=0), weights), "valid"
    values = int(groups.sum())
    known, known_before = groups[:, KNOWN:], reference[KNOWN:] * drawn
    places = merged(known_before, known.sum(), bins.is_ordered)
    unseen = _share(groups, reference, UNSEEN) if bins.has_unseen else None
    return FieldDrift(
        name=bins.name,
        split=split,
        values=values,
        missing=_share(groups, reference, ABSENT),
        unseen=unseen,
        known=compared(_summed(known, places), _summed(known_before, places)),
        changes=_changes(bins.labels, known.sum(axis=0), known_before),
        ignored=ignored,
    )


def _weighted(counts, weights):
    """Counts `[2, K]` by label as so many rows that each count alike would be."""
    total = weights @ counts
    size = total.sum()
    effective = (weights**2) @ counts.sum(axis=1)
    return total * (size / effective if effective else 1.0)


def _share(groups, reference, column):
    """The `Share` of one column among all."""
    counts = np.column_stack(
        [groups[:, column], groups.sum(axis=1) - groups[:, column]]
    )
    before = np.array([reference[column], reference.sum() - reference[column]])
    rows, size = counts.sum(), before.sum()
    if not rows or not size:
        return Share(np.nan, np.nan, np.nan, 1.0)
    value = counts[:, 0].sum() / rows
    variance = design_effect(counts) * value * (1 - value) / rows
    return Share(
        value=float(value),
        error=float(np.sqrt(variance)),
        reference=float(before[0] / size),
        p=same_share(counts, before),
    )


def _summed(counts, places):
    """Counts `[..., K]` of bins that go together as `places` says."""
    together = places[:, np.newaxis] == np.arange(places.max(initial=-1) + 1)
    return counts.astype(float) @ together.astype(float)


def _changes(labels, own, before):
    if not own.sum() or not before.sum():
        return []
    own, before = own / own.sum(), before / before.sum()
    apart = (own - before) * np.log((own + NO_ROWS) / (before + NO_ROWS))
    order = np.argsort(-apart, kind="stable")[:SHOWN]
    return [(labels[i], float(own[i]), float(before[i])) for i in order if apart[i] > 0]


def _scores(own, before, weights, least):
    """`Comparison` of scores in ranges of the reference's quantiles, and histograms."""
    groups = own.sum(axis=1)
    counts = before.sum(axis=0)
    reference = _weighted(counts, weights)
    upto = np.cumsum(reference) / reference.sum()
    cuts = np.searchsorted(upto, np.arange(1, SCORE_RANGES) / SCORE_RANGES)
    starts = np.unique([0, *(cuts + 1)])
    starts = starts[starts < len(reference)]
    places = np.zeros(len(reference), int)
    places[starts[1:]] = 1
    ranges = _summed(reference, np.cumsum(places))
    of_ranges = _summed(groups, np.cumsum(places))
    together = merged(ranges, of_ranges.sum(), True)
    found = UNKNOWN
    if len(ranges) > 1:
        found = compared(_summed(of_ranges, together), _summed(ranges, together))
    return found, _histogram(groups.sum(axis=0), reference, least)


def _histogram(own, before, least):
    edges = np.linspace(least[0], max(least[-1], least[0] + 1e-6), HISTOGRAM + 1)
    bars = np.clip(np.searchsorted(edges, least, "right") - 1, 0, HISTOGRAM - 1)
    shares = [np.bincount(bars, c, HISTOGRAM) / c.sum() for c in (own, before)]
    return tuple(each.tolist() for each in (edges, *shares))


def _with_labels(own, before):
    """`Figure`s of calibration and AUC, of two pairs of scores and predicted clicks."""
    groups = min(int(scores.any(axis=(1, 2)).sum()) for scores, _ in (own, before))
    ratios = [
        log_calibration(predicted, scores[:, 1].sum(axis=1))
        for scores, predicted in (own, before)
    ]
    return figure(*ratios, groups), figure(auc(own[0]), auc(before[0]), groups)


def _mean(tally, weights):
    counts = tally.scores.sum(axis=(0, 2))
    return float(tally.predicted.sum(axis=0) @ weights / (counts @ weights))
