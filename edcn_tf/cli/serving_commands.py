"""Commands for what is served: their arguments."""

from edcn.options import FORMATS, above_zero, at_least_one


def add(command):
    """Adds them by `command(name, help, example)`, which gives a parser."""
    export = command(
        "export",
        "publish a run's best model as a SavedModel version, verified",
        "edcn export runs/first --out models/clicks",
    )
    export.add_argument("run", metavar="RUN", help="directory that train made")
    export.add_argument(
        "--out", required=True, metavar="MODELS/NAME", help="the model's directory"
    )
    export.add_argument(
        "--version", type=at_least_one, help="default: one more than the highest"
    )
    export.add_argument(
        "--keep",
        type=at_least_one,
        metavar="K",
        help="then remove all but the K newest versions; default: keep all",
    )

    verify = command(
        "verify",
        "replay an export's recorded requests in a clean process",
        "edcn verify models/clicks/1\n"
        "  edcn verify models/clicks/1 --against served.csv --scores logged.csv",
    )
    verify.add_argument("version", metavar="MODELS/NAME/VERSION")
    verify.add_argument(
        "--against",
        nargs="+",
        metavar="LOG",
        help="then replay the rows of raw logs too, and compare with --scores",
    )
    verify.add_argument(
        "--scores",
        metavar="FILE",
        help=".csv or .parquet with the logged `probability` of each row of LOG",
    )
    verify.add_argument("--format", choices=FORMATS, help="of LOG")
    verify.add_argument(
        "--tolerance",
        type=above_zero,
        default=1e-6,
        metavar="X",
        help="scores of LOG that differ by no more are the same; default: 1e-6",
    )

    request = command(
        "request",
        "ask a served model (TF Serving) for probabilities",
        "edcn request localhost:8500 --model clicks "
        """--row '{"user_id": "u17", "price": 59.9}'""",
    )
    request.add_argument(
        "address", metavar="ADDRESS", help="HOST:PORT (gRPC) or http://HOST:PORT (REST)"
    )
    request.add_argument(
        "--model", required=True, metavar="NAME", help="its name there"
    )
    rows = request.add_mutually_exclusive_group(required=True)
    rows.add_argument(
        "--row",
        action="append",
        metavar="JSON",
        help="a row's fields, null where missing; may be repeated; for rank "
        """'{"user": {...}, "candidates": [{...}, ...]}'""",
    )
    rows.add_argument("--file", help="rows in JSON, one a line (.jsonl), or a log")
    request.add_argument("--format", choices=FORMATS, help="of a log")
    request.add_argument(
        "--schema", metavar="SCHEMA", help="of a log with lists not separated by |"
    )
    request.add_argument(
        "--signature",
        choices=("serving_default", "explain", "rank"),
        default="serving_default",
        help="explain: with what each field contributes; rank: candidates of a user; "
        "default: serving_default",
    )
    request.add_argument("--version", type=at_least_one, help="default: the newest")
    request.add_argument(
        "--deadline",
        type=above_zero,
        default=1.0,
        metavar="SECONDS",
        help="for each request of up to 512 rows, with its retries; default: 1",
    )
