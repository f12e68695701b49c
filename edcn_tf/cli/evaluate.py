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


def run(args):
    import edcn_tf
    from edcn_tf.files import write_json

    figures = edcn_tf.evaluate_run(
        args.run, args.data, args.split, skip_corrupt=args.skip_corrupt
    )
    print_skipped(figures)
    print_statistics_of(args.data)
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
