"""`edcn prepare`: raw logs to TFRecord splits and a vocabulary."""

import contextlib
import shlex

from edcn.options import (
    CHOOSING,
    FORMATS,
    PROTOCOLS,
    SPLITS,
    add_split_by,
    at_least_one,
    rate,
    shares,
)


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "prepare",
        "turn raw logs into TFRecord splits and a vocabulary",
        "edcn prepare clicks.csv --schema schema.json --out data\n"
        "  edcn prepare clicks.csv --schema schema.json --out data \\\n"
        "      --history user_id:movie_id:timestamp --split-by time\n"
        "  edcn prepare day2.csv --vocabulary-of data --out data2",
    )
    parser.add_argument(
        "logs",
        nargs="*",
        metavar="LOG",
        help="CSV, TSV, JSON lines (.gz and .zst too), Parquet or TFRecord file, a "
        "directory of such files, or tfds:NAME",
    )
    for split in SPLITS:
        parser.add_argument(
            f"--{split}",
            nargs="+",
            default=[],
            metavar="LOG",
            help=f"logs of a {split} split of your own, in place of LOG",
        )
    parser.add_argument(
        "--schema",
        metavar="FILE",
        help="JSON file that says what the columns are (not needed for criteo, avazu)",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="a new directory")
    parser.add_argument(
        "--format", choices=FORMATS, help="default: told from each file's name"
    )
    parser.add_argument(
        "--split",
        default="0.8,0.1,0.1",
        type=shares,
        metavar="A,B,C",
        help="shares of train, valid and test; default: 0.8,0.1,0.1",
    )
    add_split_by(parser, "chance")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--history",
        metavar="USER:ITEM:TIME",
        help="names of three columns: each row gets the items that its user clicked "
        "before its time",
    )
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="frozen",
        help="what statistics know in the validation and the test split: frozen, what "
        "training rows tell in the end (default); or running, what all rows before "
        "each tell",
    )
    parser.add_argument(
        "--negative-sampling-rate",
        type=rate,
        default=1.0,
        metavar="R",
        help="share of the training split's rows without a click to keep; default: 1",
    )
    parser.add_argument(
        "--workers", type=at_least_one, help="processes that write; default: by size"
    )
    parser.add_argument(
        "--runner",
        metavar="NAME",
        help="have it done by an Apache Beam runner: DirectRunner, FlinkRunner, ...",
    )
    parser.add_argument(
        "--runner-options",
        default="",
        metavar="OPTIONS",
        help='of Beam, as one text: --runner-options="--flink_master=host:8081"',
    )
    parser.add_argument(
        "--vocabulary-of",
        metavar="DIR",
        help="prepared data or run of the days before: values keep their rows, new "
        "ones are added (for train --warm-start); the schema is theirs unless given",
    )
    parser.add_argument(
        "--forget-after",
        type=at_least_one,
        metavar="K",
        help="with --vocabulary-of: drop values that the last K days, this one among "
        "them, did not have; default: keep all",
    )
    parser.add_argument(
        "--refit",
        nargs="+",
        default=[],
        metavar="FIELD",
        help="with --vocabulary-of: numeric fields whose ranges are fitted anew",
    )
    parser.add_argument(
        "--statistics",
        choices=CHOOSING,
        help="auto: add the statistics and crosses that help on training rows that "
        "they were not counted on; default: those of the schema",
    )
    parser.add_argument("--gzip", action="store_true", help="compress the records")
    parser.set_defaults(action=run)


def run(args):
    import edcn_tf
    from edcn_tf import InputError
    from edcn_tf.console import program, quiet
    from edcn_tf.directories import PreparedData
    from edcn_tf.logs.formats import SCHEMAS

    own = {name: getattr(args, name) for name in SPLITS}
    own = {name: logs for name, logs in own.items() if logs}
    if bool(args.logs) == bool(own):
        raise InputError("give either LOG... or --train LOG... --valid LOG... ...")
    if args.schema:
        schema = edcn_tf.Schema.load(args.schema)
    elif args.vocabulary_of:
        schema = edcn_tf.FeatureSpec.load(
            PreparedData(args.vocabulary_of).features
        ).schema
    elif args.format in SCHEMAS:
        schema = SCHEMAS[args.format]
    else:
        raise InputError("--schema FILE is needed: a JSON file that names the columns")
    # Beam logs the whole traceback of what we tell in one line.
    silent = args.runner and not args.debug
    with quiet() if silent else contextlib.nullcontext():
        summary = edcn_tf.prepare(
            own or args.logs,
            schema,
            args.out,
            format=args.format,
            split=args.split,
            split_by=args.split_by,
            seed=args.seed,
            negative_sampling_rate=args.negative_sampling_rate,
            workers=args.workers,
            runner=args.runner,
            runner_options=shlex.split(args.runner_options),
            compression="GZIP" if args.gzip else None,
            vocabulary_of=args.vocabulary_of,
            forget_after=args.forget_after,
            refit=args.refit,
            history=args.history,
            protocol=args.protocol,
            statistics=args.statistics,
        )
    print_summary(summary)
    goes_on = ["--warm-start", "RUN"] if args.vocabulary_of else []
    run = "runs/next" if args.vocabulary_of else "runs/first"
    told = shlex.join([program(), "train", args.out, "--out", run, *goes_on])
    print(f"Wrote {args.out}. Next:  {told}")


def print_summary(summary):
    """The splits and fields of prepared data, as a table."""
    for name, split in summary["splits"].items():
        print(f"{name:>6} {split['rows']:>12,} rows  {split['click_rate']:.4f} clicks")
    grows = "day" in summary
    heads = f"{'new':>10} {'forgotten':>10}" if grows else ""
    head = f"\n{'field':<20} {'kept':>10} {'unseen':>8} {'missing':>8} {heads}"
    print(head.rstrip())
    for field in summary["fields"]:
        line = (
            f"{field['name']:<20} {field['values']:>10,} {field['unseen']:>8.2%} "
            f"{field['missing']:>8.2%}"
        )
        if grows:
            line += f" {field['new']:>10,} {field['forgotten']:>10,}"
        print(line)
    if "statistics" in summary:
        print_statistics(summary["statistics"])


def print_statistics(summary):
    """How statistics were counted, and how many keys of what."""
    print(f"\nStatistics {summary['told']}")
    for counter in summary["counters"]:
        print(f"{counter['keys']:>12,} keys of {' x '.join(counter['of'])}")
