"""`edcn drift`: whether a later log has drifted from what a run was trained on."""

from edcn.options import FORMATS, above_zero

ALARM = 3  # exit status; 1 is an error, 2 a mistyped option


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "drift",
        "compare a later log with what a run was trained on",
        "edcn drift runs/first day.csv --out drift.html\n"
        "  edcn drift runs/first served.tfrecord --ignore weekday\n\n"
        f"Exit status: 0 without an alarm, {ALARM} with one, 1 for an error.",
    )
    parser.add_argument("run", metavar="RUN", help="directory that train made")
    parser.add_argument(
        "logs",
        nargs="+",
        metavar="LOG",
        help="as for predict, with or without labels; or TFRecord files of the "
        "PredictionLogs that TF Serving writes",
    )
    parser.add_argument("--data", metavar="DIR", help="default: what it trained on")
    parser.add_argument("--out", metavar="FILE", help="a new .html file, the page")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--format", choices=FORMATS, help="of LOG")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="FIELD",
        help="that gives no alarm, such as the weekday; may be given several times",
    )
    for option, default, what in (
        ("psi", 0.2, "an index so much above chance"),
        ("share", 0.05, "a share of missing or unseen values so far off"),
        ("calibration", 0.1, "predicted over true clicks so far off, relatively"),
        ("auc", 0.02, "an AUC so much lower"),
        ("level", 0.01, "if p, corrected for the number of figures, is below"),
    ):
        parser.add_argument(
            f"--{option}",
            type=above_zero,
            default=default,
            metavar="X",
            help=f"alarm: {what}; default: {default:g}",
        )
    parser.set_defaults(action=run)


def run(args):
    from edcn_tf.drift.findings import Limits
    from edcn_tf.drift.measuring import measure_drift
    from edcn_tf.drift.page import write_drift
    from edcn_tf.drift.telling import lines_of, to_dict
    from edcn_tf.files import refuse_existing, write_json

    keys = ("psi", "share", "calibration", "auc", "level")
    limits = Limits(**{key: getattr(args, key) for key in keys})
    if args.out:
        refuse_existing(args.out)  # not when all is counted
    drift = measure_drift(
        args.run,
        args.logs,
        args.data,
        format=args.format,
        limits=limits,
        ignore=args.ignore,
    )
    for line in lines_of(drift):
        print(line)
    if args.out:
        write_drift(drift, args.out)
        print(f"Wrote {args.out}")
    if args.json:
        write_json(args.json, to_dict(drift))
    return ALARM if drift.alarms else 0
