"""`edcn report`: a page with figures of a run, or of several."""

from edcn.options import SPLITS


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "report",
        "write a page with figures of a run, or of several beside one another",
        "edcn report runs/first\n  edcn report runs/second runs/first runs/linear",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="directory that train made; the page is written into the first, which "
        "the others are compared with",
    )
    parser.add_argument("--data", metavar="DIR", help="default: what it trained on")
    parser.add_argument("--baseline", metavar="RUN", help="one more RUN, the last")
    parser.add_argument(
        "--split",
        choices=SPLITS,
        help="default: test, or valid where there is no test",
    )
    parser.set_defaults(action=run)


def run(args):
    from edcn_tf.report.page import write_report

    run, *others = args.runs
    path = write_report(
        run, args.data, others=others, split=args.split, baseline=args.baseline
    )
    print(f"Wrote {path}")
