"""`edcn statistics`: brings what statistics know up to another day."""

from edcn.options import FORMATS


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "statistics",
        "copy a run, or prepared data, with new logs in its statistics, untrained",
        "edcn statistics runs/first --update day2.csv --out runs/day2\n"
        "  edcn export runs/day2 --out models/ctr",
    )
    parser.add_argument("directory", metavar="RUN", help="a run, or prepared data")
    parser.add_argument(
        "--update",
        nargs="+",
        required=True,
        metavar="LOG",
        help="logs of the days after, all of whose rows count",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="a new directory")
    parser.add_argument(
        "--format", choices=FORMATS, help="default: told from each file's name"
    )
    parser.set_defaults(action=run)


def run(args):
    import shlex

    from edcn_tf.console import program
    from edcn_tf.directories import Run
    from edcn_tf.preparation.updating import update_statistics

    from .prepare import print_statistics

    summary = update_statistics(
        args.directory, args.update, args.out, format=args.format
    )
    print_statistics(summary)
    told = ""
    if Run(args.out).model.exists():
        words = [program(), "export", args.out, "--out", "models/ctr"]
        told = f" Next:  {shlex.join(words)}"
    print(f"Wrote {args.out}.{told}")
