"""A plan whose schema has what was chosen: what `edcn_tf.prepare` calls."""

import dataclasses

from edcn_tf import console
from edcn_tf.errors import InputError
from edcn_tf.features.counting import ValueCounts
from edcn_tf.field import FIELD_NAME, Field
from edcn_tf.logs.reading import LogPart, log_bytes
from edcn_tf.preparation.choosing import report
from edcn_tf.preparation.choosing.candidates import Candidate
from edcn_tf.preparation.choosing.greedy import MOST_ADDED, choose
from edcn_tf.preparation.choosing.rows import read_rows
from edcn_tf.preparation.plan import Plan
from edcn_tf.preparation.statistics import DELAY, Statistics

MOST_FIELDS = 16  # up to which embeddings are wide by default: not to be passed


def with_chosen(plan: Plan, protocol: str) -> Plan:
    """Looks at the training rows, adds fields to the schema, and prints which and why.

    Args:
        plan: The `Plan`, whose vocabulary goes on from none.
        protocol: Of the statistics, `"frozen"` or `"running"`.

    Returns:
        The plan with the longer schema, how its statistics are counted, and `chosen`.

    Raises:
        InputError: If the rows are too few, or statistics cannot be counted so.
    """
    splitter, schema = plan.splitter, plan.schema
    drawn = splitter.by_chance and protocol == "frozen"
    by_time = schema.timestamp is not None and not drawn
    if protocol == "running" and not by_time:
        raise InputError(
            "Running statistics need the rows' times, to choose some or to count them: "
            f"a timestamp in the schema. Received: {protocol!r}"
        )
    if splitter.needs_times:
        plan = plan.with_times(_times(plan))
    rows = read_rows(plan, protocol, by_time)
    names, present = _combined(schema)
    rounds = choose(rows, names, present, _most(schema))
    delay = DELAY if splitter.by_chance and by_time else None  # else by default
    taken = [each.taken for each in rounds if each.taken]
    added: list[Field] = []
    for candidate in taken:
        added.append(_field(candidate, [*schema.fields, *added], delay))
    told = report.as_json(rows, rounds, added, protocol)
    report.show(told)
    schema = dataclasses.replace(schema, fields=(*schema.fields, *added))
    splitter = dataclasses.replace(plan.splitter, schema=schema)
    return dataclasses.replace(
        plan,
        splitter=splitter,
        statistics=Statistics.of(splitter, protocol),
        chosen=told,
    )


def _times(plan):
    counts = ValueCounts()
    with console.progress_bar("Reading timestamps", log_bytes(plan.logs)) as bar:
        for path in plan.logs:
            plan.count_times(LogPart(path), counts, bar.update)
    return counts


def _combined(schema):
    """Names of the fields to combine, and what the schema has of them already."""
    categorical = (f for f in schema.inputs if f.kind == "categorical")
    names = [field.name for field in categorical if not field.multiple]
    present = [
        Candidate(field.kind, field.parts or field.counted)
        for field in schema.fields
        if field.kind in ("cross", "statistic")
        and set(field.parts or field.counted) <= set(names)
    ]
    return names, present


def _most(schema):
    fields = len(schema.fields)
    return (
        min(MOST_ADDED, MOST_FIELDS - fields) if fields <= MOST_FIELDS else MOST_ADDED
    )


def _field(candidate, fields, delay):
    """A field of a name that none has, in small and capital letters alike."""
    ending = "rate" if candidate.kind == "statistic" else "cross"
    stem = "_".join(candidate.of)[: 100 - len(f"_{ending}_99")]
    used = {field.name.lower() for field in fields}
    used |= {field.column.lower() for field in fields if field.column}
    names = [f"{stem}_{ending}", *(f"{stem}_{ending}_{n}" for n in range(2, 100))]
    name = next(name for name in names if name.lower() not in used)
    assert FIELD_NAME.fullmatch(name)
    timed = {"delay": delay} if candidate.kind == "statistic" else {}
    return Field(name=name, kind=candidate.kind, of=candidate.of, **timed)
