"""A `Drift` as text for a terminal, and as JSON."""

import dataclasses
import math

NAME, CELL = 24, 9  # characters of a column


def to_dict(drift):
    """Everything that was found, as JSON (`edcn drift --json`)."""
    return {
        **{key: getattr(drift, key) for key in ("run", "logs", "data", "rows")},
        "validation_rows": drift.validation_rows,
        "independent": drift.independent,
        "largest_group": drift.largest_group,
        "dominated": drift.dominated,
        "alarms": [alarm._asdict() for alarm in drift.alarms],
        "fields": {field.name: _field(field) for field in drift.fields},
        "scores": {
            **_comparison(drift.scores),
            "mean": drift.mean[0],
            "mean_before": drift.mean[1],
            "histogram": dict(
                zip(("edges", "shares", "shares_before"), drift.histogram)
            ),
        },
        "calibration": drift.calibration and _figure(drift.calibration, math.exp),
        "auc": drift.auc and _figure(drift.auc, float),
        "left_out": drift.left_out,
        "limits": dataclasses.asdict(drift.limits),
    }


def _field(field):
    return {
        "split": field.split,
        "values": field.values,
        "missing": field.missing._asdict(),
        "unseen": field.unseen and field.unseen._asdict(),
        **_comparison(field.known),
        "changes": [
            {"value": label, "share": own, "before": before}
            for label, own, before in field.changes
        ],
        "ignored": field.ignored,
    }


def _comparison(found):
    return {
        "psi": found.psi,
        "psi_by_chance": found.by_chance,
        "jensen_shannon": found.divergence,
        "p": found.p,
    }


def _figure(figure, scale):
    (low, high), before = figure.interval(), figure.interval(of_reference=True)
    return {
        "value": scale(figure.value),
        "low": scale(low),
        "high": scale(high),
        "before": scale(figure.reference),
        "before_low": scale(before[0]),
        "before_high": scale(before[1]),
        "p": figure.p,
    }


def lines_of(drift):
    """Lines for a terminal: figures by field, then what is left out, then alarms."""
    yield (
        f"{drift.rows:,} rows against the training split of {drift.run}; scores "
        f"against {drift.validation_rows:,} validation rows"
    )
    heads = ("missing", "before", "unseen", "before", "PSI", "chance", "JS", "p")
    yield ""
    yield f"{'':<{NAME}}" + "".join(f"{head:>{CELL}}" for head in heads)
    for field in drift.fields:
        cells = [*_shares(field.missing), *_shares(field.unseen)]
        cells += _cells(field.known)
        star = "*" * (field.split == "valid") + " (ignored)" * field.ignored
        yield _line(field.name + star, cells)
    yield _line("scores", [""] * 4 + _cells(drift.scores))
    if any(field.split == "valid" for field in drift.fields):
        yield "* compared with the validation split"
    yield ""
    yield f"{'mean score':<{NAME}} {drift.mean[0]:.4g}, before {drift.mean[1]:.4g}"
    for name, figure, scale in (
        ("predicted / true clicks", drift.calibration, math.exp),
        ("AUC", drift.auc, float),
    ):
        if figure:
            yield f"{name:<{NAME}} {told(figure, scale)}"
    yield from unjudged(drift)
    if not drift.labels:
        yield "No labels, so neither AUC nor calibration"
    for name, why in drift.left_out.items():
        yield f"Left out: {name} ({why})"
    if drift.independent:
        yield independent()
    if drift.dominated:
        yield dominated(drift)
    yield ""
    alarms = drift.alarms
    for alarm in alarms:
        yield f"ALARM {alarm.name}: {alarm.told} (p {alarm.p:.1g})"
    if not alarms:
        yield "No alarm"


def independent():
    """What is to know where nothing tells which rows go together."""
    return (
        "Rows are taken to be drawn each by itself, since the log has no group column: "
        "where users have many rows, chance makes for more than is said"
    )


def dominated(drift):
    """What is to know where one group has very many of the rows."""
    return (
        f"One group, such as one user, has {drift.largest_group:.0%} of the rows or "
        "nearly so: chance makes much of that, so less is an alarm"
    )


def unjudged(drift):
    """What is to know of figures whose errors are not known."""
    for name, figure in (("Calibration", drift.calibration), ("AUC", drift.auc)):
        if figure and not figure.is_judged:
            whose = "the log" if math.isnan(figure.error) else "the validation split"
            yield (
                f"{name} gives no alarm: its error is not known, as too few groups of "
                f"rows of {whose}, such as users, have clicks"
            )


def told(figure, scale):
    """A `Figure` in words; `scale` makes of it what people read."""
    value, before = scale(figure.value), scale(figure.reference)
    if math.isnan(value):
        return "n/a"
    low, high = map(scale, figure.interval())
    text = f"{value:.4f}"
    if not math.isnan(low):
        text += f" ({low:.4f} to {high:.4f})"
    return f"{text}, before " + ("n/a" if math.isnan(before) else f"{before:.4f}")


def _line(name, cells):
    return f"{name:<{NAME}}" + "".join(f"{cell:>{CELL}}" for cell in cells)


def _shares(share):
    if share is None or math.isnan(share.value):
        return ["", ""]
    return [f"{share.value:.1%}", f"{share.reference:.1%}"]


def _cells(found):
    if math.isnan(found.psi):
        return ["n/a"] * 3 + [""]
    cells = [f"{each:.3f}" for each in (found.psi, found.by_chance, found.divergence)]
    return [*cells, f"{found.p:.1g}"]
