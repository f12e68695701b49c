"""`edcn predict`: scores the rows of a raw log."""

from edcn.options import FORMATS


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "predict",
        "score the rows of a raw log, in its order",
        "edcn predict runs/first clicks.csv --out scores.csv",
    )
    parser.add_argument("run", metavar="RUN", help="directory that train made")
    parser.add_argument("logs", nargs="+", metavar="LOG", help="as for prepare")
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="a new .csv or .parquet file"
    )
    parser.add_argument("--format", choices=FORMATS, help="of LOG")
    parser.set_defaults(action=run)


def run(args):
    from edcn_tf.evaluation.prediction import predict_log

    told = predict_log(args.run, args.logs, args.out, format=args.format)
    print(f"Wrote {told.rows:,} probabilities to {args.out}")
    for name, unknown in told.unknown.items():
        values = told.values[name]
        print(f"{name:<20} {unknown:>10,} of {values:>10,} values are not known")
