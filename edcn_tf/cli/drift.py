"""`edcn drift`: whether a later log has drifted from what a run was trained on."""

import os
import sys

from edcn.options import FORMATS, above_zero, at_least_one

ALARM = 3  # exit status; 1 is an error, 2 a mistyped option
LIMITS = {  # the defaults of `edcn_tf.drift.findings.Limits`, and what each is
    "psi": (0.2, "an index so much above chance"),
    "share": (0.05, "a share of missing or unseen values so far off"),
    "calibration": (0.1, "predicted over true clicks 1 + X times as high or as low"),
    "auc": (0.02, "an AUC so much lower"),
    "level": (0.01, "if p, corrected for the number of figures, is below"),
}


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
    parser.add_argument("--json", metavar="FILE", help="a new file, the figures")
    parser.add_argument("--format", choices=FORMATS, help="of LOG")
    parser.add_argument(
        "--version",
        type=at_least_one,
        metavar="N",
        help="of logged requests those that this version answered; default: all",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="FIELD",
        help="that gives no alarm, such as the weekday; may be given several times",
    )
    for option, (default, what) in LIMITS.items():
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
    from edcn_tf.files import refuse_unwritable

    limits = Limits(**{key: getattr(args, key) for key in LIMITS})
    for path in (args.out, args.json):
        if path:
            refuse_unwritable(path)  # not when all is counted
    drift = measure_drift(
        args.run,
        args.logs,
        args.data,
        format=args.format,
        limits=limits,
        ignore=args.ignore,
        version=args.version,
    )
    _write(drift, args.out, args.json)
    try:
        _print(drift, args.out)
    except OSError:  # such as a reader of our output that has gone
        if not drift.alarms:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ALARM if drift.alarms else 0


def _write(drift, page, figures):
    """Writes both files, or none."""
    from edcn_tf.drift.page import write_drift
    from edcn_tf.drift.telling import to_dict
    from edcn_tf.files import refuse_existing, write_json

    if figures:
        refuse_existing(figures)
        write_json(figures, to_dict(drift))
    if page:
        try:
            write_drift(drift, page)
        except BaseException:
            if figures:
                os.remove(figures)
            raise


def _print(drift, page):
    from edcn_tf.drift.telling import lines_of

    for line in lines_of(drift):
        print(line)
    if page:
        print(f"Wrote {page}")
    sys.stdout.flush()  # what cannot be printed is known now
