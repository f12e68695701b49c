"""`edcn verify`: replays an export's recorded requests in a clean process."""

from edcn.options import FORMATS, above_zero


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "verify",
        "replay an export's recorded requests in a clean process",
        "edcn verify models/clicks/1\n"
        "  edcn verify models/clicks/1 --against served.csv --scores logged.csv\n"
        "  edcn verify models/clicks/1 --against requests.tfrecord",
    )
    parser.add_argument("version", metavar="MODELS/NAME/VERSION")
    parser.add_argument(
        "--against",
        nargs="+",
        metavar="LOG",
        help="then replay the rows of raw logs too, and compare with --scores; or of "
        "TFRecord files of the PredictionLogs that TF Serving writes, with theirs",
    )
    parser.add_argument(
        "--scores",
        metavar="FILE",
        help=".csv or .parquet with the logged `probability` of each row of LOG",
    )
    parser.add_argument("--format", choices=FORMATS, help="of LOG")
    parser.add_argument(
        "--tolerance",
        type=above_zero,
        default=1e-6,
        metavar="X",
        help="scores of LOG that differ by no more are the same; default: 1e-6",
    )
    parser.set_defaults(action=run)


def run(args):
    from edcn_tf.errors import InputError
    from edcn_tf.export import verify_saved_model
    from edcn_tf.export.skew import check_scores

    if args.scores and not args.against:
        raise InputError("--against LOG and --scores FILE go together")
    if args.against:
        check_scores(args.against, args.scores, args.format)
    proof = verify_saved_model(args.version)
    print(
        f"{args.version}: verified: {proof['requests']} requests to "
        f"{len(proof['signatures'])} signatures, by two ways to load it; largest "
        f"difference {proof['largest_difference']:.1e}"
    )
    if proof["tolerance"] > 1e-6:
        print(
            f"Differences up to {proof['tolerance']:.1e} were allowed: in float32 this "
            "model's own scores differ by an eighth of that between batch sizes"
        )
    if args.against:
        _compare_scores(args)


def _compare_scores(args):
    from edcn_tf.errors import InputError
    from edcn_tf.export.skew import compare_scores

    skew = compare_scores(
        args.version,
        args.against,
        args.scores,
        format=args.format,
        tolerance=args.tolerance,
    )
    for reason, number in sorted(skew.left_out.items()):
        print(f"Left out: {number:,} {reason}")
    if not skew.differing:
        print(
            f"{skew.rows:,} logged scores: the same; largest difference "
            f"{skew.largest:.1e}"
        )
        return
    print(f"\n{'rows that differ score as if':<30}{'missing':>10}{'unseen':>10}")
    for field in skew.fields:
        missing, unseen = field.as_if_missing, field.as_if_unseen
        where = f"{field.differing:,} of {field.rows:,} rows with {field.value!r}"
        if not field.rows:
            where = "no frequent value"
        print(f"{field.name:<30}{missing:>10,}{unseen:>10,}   {where}")
    where = f"row {skew.worst_row} of {args.scores}"
    if skew.worst_file:
        where = f"record {skew.worst_row} of {skew.worst_file}"
    raise InputError(
        f"{skew.differing:,} of {skew.rows:,} logged scores differ by more than "
        f"{args.tolerance:g}; most in {where}: logged {skew.logged:.6f}, "
        f"answered {skew.answered:.6f}"
    )
