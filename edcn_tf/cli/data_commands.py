"""Commands that make data: their arguments."""

from edcn.options import FORMATS, add_split_by, at_least_one, rate, shares

# Options of `edcn_tf.synthetic.SyntheticConfig`, with its defaults.
SYNTHETIC = (
    ("seed", int, 0, "of the log"),
    ("click-rate", float, 0.25, "expected share of clicks"),
    ("first-order", float, 1.0, "strength of what single values tell"),
    ("second-order", float, 1.0, "strength of what only pairs of values tell"),
    ("third-order", float, 0.5, "strength of what only triples of values tell"),
    ("noise", float, 0.5, "strength of what no feature tells"),
    ("exponent", float, 1.1, "of Zipf's law, by which strings are distributed"),
    ("values", int, 1_000_000, "the most that a field can have"),
    ("missing", float, 0.1, "average share of missing values"),
    ("rank", int, 2, "length of the hidden vectors that interact"),
)


def add(command):
    """Adds them by `command(name, help, example)`, which gives a parser."""
    demo = command(
        "demo",
        "run the whole way on data that needs no network",
        "edcn demo --out demo",
    )
    demo.add_argument("--out", required=True, metavar="DIR", help="a new directory")
    demo.add_argument(
        "--data",
        choices=("movielens", "flights", "synthetic"),
        default="movielens",
        help="real data (MovieLens latest-small, or flights from New York), or a "
        "synthetic log in Criteo's format of which the best possible AUC is known; "
        "default: movielens",
    )
    demo.add_argument(
        "--rows", type=at_least_one, help="of the synthetic log; default: 200000"
    )
    add_split_by(demo, "chance")
    demo.add_argument(
        "--history",
        action="store_true",
        help="of movielens: each row also has what its user clicked before",
    )
    demo.add_argument("--seed", type=int, default=0, help="default: 0")

    prepare = command(
        "prepare",
        "turn raw logs into TFRecord splits and a vocabulary",
        "edcn prepare clicks.csv --schema schema.json --out data\n"
        "  edcn prepare clicks.csv --schema schema.json --out data \\\n"
        "      --history user_id:movie_id:timestamp --split-by time\n"
        "  edcn prepare day2.csv --vocabulary-of data --out data2",
    )
    prepare.add_argument(
        "logs",
        nargs="*",
        metavar="LOG",
        help="CSV, TSV or Parquet file, plain or .gz or .zst, or tfds:NAME",
    )
    for split in ("train", "valid", "test"):
        prepare.add_argument(
            f"--{split}",
            nargs="+",
            default=[],
            metavar="LOG",
            help=f"logs of a {split} split of your own, in place of LOG",
        )
    prepare.add_argument(
        "--schema",
        metavar="FILE",
        help="JSON file that says what the columns are (not needed for criteo, avazu)",
    )
    prepare.add_argument("--out", required=True, metavar="DIR", help="a new directory")
    prepare.add_argument(
        "--format", choices=FORMATS, help="default: told from each file's name"
    )
    prepare.add_argument(
        "--split",
        default="0.8,0.1,0.1",
        type=shares,
        metavar="A,B,C",
        help="shares of train, valid and test; default: 0.8,0.1,0.1",
    )
    add_split_by(prepare, "chance")
    prepare.add_argument("--seed", type=int, default=0, help="default: 0")
    prepare.add_argument(
        "--history",
        metavar="USER:ITEM:TIME",
        help="names of three columns: each row gets the items that its user clicked "
        "before its time",
    )
    prepare.add_argument(
        "--negative-sampling-rate",
        type=rate,
        default=1.0,
        metavar="R",
        help="share of the training split's rows without a click to keep; default: 1",
    )
    prepare.add_argument(
        "--workers", type=at_least_one, help="processes that write; default: by size"
    )
    prepare.add_argument(
        "--runner",
        metavar="NAME",
        help="have it done by an Apache Beam runner: DirectRunner, FlinkRunner, ...",
    )
    prepare.add_argument(
        "--runner-options",
        default="",
        metavar="OPTIONS",
        help='of Beam, as one text: --runner-options="--flink_master=host:8081"',
    )
    prepare.add_argument(
        "--vocabulary-of",
        metavar="DIR",
        help="prepared data or run of the days before: values keep their rows, new "
        "ones are added (for train --warm-start); the schema is theirs unless given",
    )
    prepare.add_argument(
        "--forget-after",
        type=at_least_one,
        metavar="K",
        help="with --vocabulary-of: drop values that the last K days, this one among "
        "them, did not have; default: keep all",
    )
    prepare.add_argument(
        "--refit",
        nargs="+",
        default=[],
        metavar="FIELD",
        help="with --vocabulary-of: numeric fields whose ranges are fitted anew",
    )
    prepare.add_argument("--gzip", action="store_true", help="compress the records")

    synthesize = command(
        "synthesize",
        "write a log in Criteo's format of which the best possible scores are known",
        "edcn synthesize --rows 200000 --out train.tsv\n"
        "  edcn synthesize --rows 20000 --skip 200000 --out test.tsv\n"
        "  edcn prepare --train train.tsv --valid test.tsv --format criteo --out data",
    )
    synthesize.add_argument("--rows", required=True, type=at_least_one, help="how many")
    synthesize.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="a new file; FILE.json gets the best possible AUC and log loss",
    )
    synthesize.add_argument(
        "--skip",
        type=int,
        default=0,
        metavar="ROWS",
        help="rows of the same log that come before these; default: 0",
    )
    synthesize.add_argument(
        "--probabilities",
        metavar="FILE",
        help="a new .csv or .parquet file for the best possible score of each row",
    )
    for name, kind, default, help in SYNTHETIC:
        synthesize.add_argument(
            f"--{name}", type=kind, default=default, help=f"{help}; default: {default}"
        )
    for name, example in [("pairs", "I1:C2"), ("triples", "I1:C2:C3")]:
        synthesize.add_argument(
            f"--{name}",
            nargs="*",
            metavar=example,
            help=f"{name} of fields that interact, in place of some of our choice",
        )
