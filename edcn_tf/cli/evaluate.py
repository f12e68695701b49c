"""`edcn evaluate`: judges a run's best model on a split."""

from edcn.options import (
    add_skip_corrupt,
    add_split,
    print_skipped,
    print_statistics_of,
)


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "evaluate",
        "judge a run's best model on a split",
        "edcn evaluate runs/first data --split test --json figures.json",
    )
    parser.add_argument("run", metavar="RUN", help="directory that train made")
    parser.add_argument("data", metavar="DIR", help="directory that prepare made")
    add_split(parser)
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    add_skip_corrupt(parser)
    parser.set_defaults(action=run)


def print_updated(run):
    """That a run's tables know later logs; nothing where they do not."""
    from edcn_tf.directories import Run
    from edcn_tf.features.spec import FeatureSpec

    updated = FeatureSpec.load(Run(run).features).counted.get("updated")
    if updated:
        print(
            f"The run's tables hold all rows of {', '.join(updated)}: where they are "
            "looked up, figures of these rows, or of earlier ones, are too good"
        )


def run(args):
    import edcn_tf
    from edcn_tf.files import write_json

    figures = edcn_tf.evaluate_run(
        args.run, args.data, args.split, skip_corrupt=args.skip_corrupt
    )
    print_skipped(figures)
    print_statistics_of(args.data)
    print_updated(args.run)
    for name, value in figures.items():
        if name in ("skipped", "lost_rows"):
            continue
        print(
            f"{name:<25} {value:>12,}"
            if isinstance(value, int)
            else f"{name:<25} {value:>12.6f}"
        )
    if args.json:
        write_json(args.json, figures)
