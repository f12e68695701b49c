"""What was tried, what each adds and what was taken: for people, and as JSON."""

from edcn_tf.preparation.choosing.greedy import LEAST_ERRORS, LEAST_SHARE

SHOWN = 8  # of what was not taken
STORED = 40  # of each round


def as_json(rows, rounds, added, protocol):
    """All of it, as JSON.

    Args:
        rows: `edcn_tf.preparation.choosing.rows.Rows`.
        rounds: `edcn_tf.preparation.choosing.greedy.Round`s.
        added: The `Field`s that came of those that were taken.
        protocol: Of the statistics.
    """
    names = iter([field.name for field in added])
    return {
        "rows": len(rows),
        "of_rows": rows.total,
        "judged": len(rows) - rows.fitted,
        "order": "time" if rows.by_time else "drawn",
        "protocol": protocol,
        "least_share": LEAST_SHARE,
        "least_errors": LEAST_ERRORS,
        "rounds": [
            {
                "log_loss": float(each.loss),
                "tried": len(each.gains),
                "gains": _gains(each),
                "taken": next(names) if each.taken else None,
            }
            for each in rounds
        ],
        "added": [field.to_dict() for field in added],
    }


def _gains(one):
    """The best of a round, and what was taken: it may be simpler than the best."""
    best = list(one.gains)[:STORED]
    if one.taken and one.taken not in best:
        best.append(one.taken)
    return [
        {
            "kind": each.kind,
            "of": list(each.of),
            "gain": float(one.gains[each].nats),
            "error": float(one.gains[each].error),
        }
        for each in best
    ]


def show(told):
    """Prints it as a table: what was taken, and the best of what was not."""
    rounds = told["rounds"]
    if not rounds:
        print("No statistics were looked for: the schema has as many fields as it may.")
        return
    first, last = rounds[0], rounds[-1]
    print(
        f"Statistics and crosses, fitted on {told['rows'] - told['judged']:,} training "
        f"rows and judged on the {told['judged']:,} after them "
        f"({told['order']} order, {told['protocol']}); log loss without any "
        f"{first['log_loss']:.4f}, {first['tried']} tried:"
    )
    print(f"{'adds nats':>10} {'error':>8}  what")
    for one, field in zip(rounds, told["added"]):
        found = next(g for g in one["gains"] if _same(g, field))
        print(f"{_line(found)}: taken as {field['name']}")
    if last["taken"] is None:
        for gain in last["gains"][:SHOWN]:
            print(_line(gain))
        print(_why_no_more(told, last))


def _same(gain, field):
    return (gain["kind"], gain["of"]) == (field["kind"], field["of"])


def _line(gain):
    what = f"{gain['kind']} of {', '.join(gain['of'])}"
    return f"{gain['gain']:>10.5f} {gain['error']:>8.5f}  {what}"


def _why_no_more(told, last):
    least = told["least_share"] * last["log_loss"]
    what = "more was" if told["added"] else "was"
    return (
        f"Nothing {what} taken: it must add {least:.5f} nats, "
        f"{told['least_share']:.1%} of the log loss, and "
        f"{told['least_errors']:g} times its error."
    )
