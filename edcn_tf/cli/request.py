"""`edcn request`: asks a served model for probabilities."""

from edcn.options import FORMATS, above_zero, at_least_one


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "request",
        "ask a served model (TF Serving) for probabilities",
        "edcn request localhost:8500 --model clicks "
        """--row '{"user_id": "u17", "price": 59.9}'""",
    )
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        help="HOST:PORT (gRPC) or http://HOST:PORT (REST); with TLS, grpcs://HOST:PORT "
        "or https://HOST:PORT",
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="its name there")
    rows = parser.add_mutually_exclusive_group(required=True)
    rows.add_argument(
        "--row",
        action="append",
        metavar="JSON",
        help="a row's fields, null where missing; may be repeated; for rank "
        """'{"user": {...}, "candidates": [{...}, ...]}'""",
    )
    rows.add_argument("--file", help="rows in JSON, one a line (.jsonl), or a log")
    parser.add_argument("--format", choices=FORMATS, help="of a log")
    parser.add_argument(
        "--schema",
        metavar="SCHEMA",
        help="of the model, for lists not separated by | and fields with a `column`",
    )
    parser.add_argument(
        "--signature",
        choices=("serving_default", "explain", "rank"),
        default="serving_default",
        help="explain: with what each field contributes; rank: candidates of a user; "
        "default: serving_default",
    )
    parser.add_argument("--version", type=at_least_one, help="default: the newest")
    parser.add_argument(
        "--deadline",
        type=above_zero,
        default=1.0,
        metavar="SECONDS",
        help="for each request of up to 512 rows, with its retries; default: 1",
    )
    tls = parser.add_argument_group("TLS")
    tls.add_argument(
        "--ca",
        metavar="FILE",
        help="certificates (PEM) of those who may vouch for the server; default: those "
        "that gRPC, or the system, brings",
    )
    tls.add_argument(
        "--certificate", metavar="FILE", help="our own (PEM), if the server wants one"
    )
    tls.add_argument(
        "--key", metavar="FILE", help="its key, not encrypted; default: in that file"
    )
    tls.add_argument(
        "--token-file", metavar="FILE", help="bearer token, read for each request"
    )
    parser.set_defaults(action=run)


def run(args):
    from edcn_tf.export.client.request import request_probabilities

    for line in request_probabilities(
        args.address,
        args.model,
        rows=args.row,
        path=args.file,
        format=args.format,
        schema=args.schema,
        signature=args.signature,
        version=args.version,
        deadline=args.deadline,
        ca=args.ca,
        certificate=args.certificate,
        key=args.key,
        token_file=args.token_file,
    ):
        print(line)
