"""The command `edcn`: arguments only; each command's work is in the library.

Installed as a package of its own, `edcn`, because importing `edcn_tf` imports
TensorFlow, which takes seconds: `edcn --help` and a mistyped option answer at once.
"""

import argparse
import importlib
import os
import sys
import traceback

FORMATS = ("csv", "tsv", "parquet", "criteo", "avazu")
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


def main(arguments=None):
    """Runs a command; returns its exit status."""
    args = _parser().parse_args(arguments)
    debug = args.debug or "EDCN_DEBUG" in os.environ
    commands = _commands(debug)
    try:
        commands.RUN[args.command](args)
    except KeyboardInterrupt:
        print("edcn: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"edcn {args.command}: {commands.one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _commands(debug):
    """The library, imported without what TensorFlow logs while it starts."""
    if debug:
        return importlib.import_module("edcn_tf.commands")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        return importlib.import_module("edcn_tf.commands")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _parser():
    parser = argparse.ArgumentParser(
        prog="edcn",
        description="From click logs to a click-through-rate model behind TF Serving.",
        epilog="Start with:  edcn demo --out demo",
    )
    parser.set_defaults(debug=False)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, title="commands"
    )

    def command(name, help, example):
        added = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=f"Example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.add_argument(
            "--debug", action="store_true", help="show the traceback of an error"
        )
        return added

    demo = command(
        "demo",
        "run the whole way on data that needs no network",
        "edcn demo --out demo",
    )
    demo.add_argument("--out", required=True, metavar="DIR", help="a new directory")
    demo.add_argument(
        "--data",
        choices=("movielens", "synthetic"),
        default="movielens",
        help="real data (MovieLens latest-small), or a synthetic log in Criteo's "
        "format of which the best possible AUC is known; default: movielens",
    )
    demo.add_argument(
        "--rows", type=_at_least_one, help="of the synthetic log; default: 200000"
    )
    _add_split_by(demo, "chance")
    demo.add_argument("--seed", type=int, default=0, help="default: 0")

    prepare = command(
        "prepare",
        "turn raw logs into TFRecord splits and a vocabulary",
        "edcn prepare clicks.csv --schema schema.json --out data",
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
        type=_shares,
        metavar="A,B,C",
        help="shares of train, valid and test; default: 0.8,0.1,0.1",
    )
    _add_split_by(prepare, "chance")
    prepare.add_argument("--seed", type=int, default=0, help="default: 0")
    prepare.add_argument(
        "--negative-sampling-rate",
        type=_rate,
        default=1.0,
        metavar="R",
        help="share of the training split's rows without a click to keep; default: 1",
    )
    prepare.add_argument(
        "--workers", type=_at_least_one, help="processes that write; default: by size"
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
    prepare.add_argument("--gzip", action="store_true", help="compress the records")

    synthesize = command(
        "synthesize",
        "write a log in Criteo's format of which the best possible scores are known",
        "edcn synthesize --rows 200000 --out train.tsv\n"
        "  edcn synthesize --rows 20000 --skip 200000 --out test.tsv\n"
        "  edcn prepare --train train.tsv --valid test.tsv --format criteo --out data",
    )
    synthesize.add_argument(
        "--rows", required=True, type=_at_least_one, help="how many"
    )
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

    describe = command(
        "describe",
        "list a model's layers, their parameters and operations, and draw it",
        "edcn describe data --set model=xdeepfm --figure xdeepfm.svg\n"
        "  edcn describe --fields 23 --rows 212000 --set embedding_dim=40",
    )
    describe.add_argument(
        "path", nargs="?", metavar="DIR", help="of prepared data, or of a run"
    )
    describe.add_argument(
        "--fields", type=_at_least_one, help="in place of DIR: number of fields"
    )
    describe.add_argument(
        "--rows", type=_at_least_one, help="in place of DIR: values of all of them"
    )
    _add_settings(describe)
    describe.add_argument(
        "--figure", metavar="FILE", help="draw it into a new .svg, .png or .pdf"
    )

    train = command(
        "train",
        "train a model on prepared data",
        "edcn train data --out runs/first --set embedding_dim=16 --set l2=10",
    )
    train.add_argument("data", metavar="DIR", help="directory that prepare made")
    train.add_argument("--out", required=True, metavar="RUN", help="the run directory")
    _add_settings(train)
    train.add_argument(
        "--strategy",
        choices=("mirrored", "multi_worker"),
        help="train on all GPUs of this machine, or on the workers of TF_CONFIG, each "
        "of which is given this command; batch_size is then that of all together; "
        "default: one device",
    )

    evaluate = command(
        "evaluate",
        "judge a run's best model on a split",
        "edcn evaluate runs/first data --split test --json figures.json",
    )
    evaluate.add_argument("run", metavar="RUN", help="directory that train made")
    evaluate.add_argument("data", metavar="DIR", help="directory that prepare made")
    _add_split(evaluate)
    evaluate.add_argument("--json", metavar="FILE", help="write the figures there too")

    calibrate = command(
        "calibrate",
        "fit a run's probabilities to the clicks of its validation split",
        "edcn calibrate runs/first --method isotonic",
    )
    calibrate.add_argument("run", metavar="RUN", help="directory that train made")
    calibrate.add_argument("--data", metavar="DIR", help="default: what it trained on")
    calibrate.add_argument(
        "--method",
        choices=("none", "platt", "isotonic"),
        default="platt",
        help="none corrects the sampling of negatives alone; default: platt",
    )
    calibrate.add_argument(
        "--negative-sampling-rate",
        type=_rate,
        metavar="R",
        help="share of the negatives that the logs hold, if they had been sampled "
        "before prepare, all splits alike",
    )

    predict = command(
        "predict",
        "score the rows of a raw log, in its order",
        "edcn predict runs/first clicks.csv --out scores.csv",
    )
    predict.add_argument("run", metavar="RUN", help="directory that train made")
    predict.add_argument("logs", nargs="+", metavar="LOG", help="as for prepare")
    predict.add_argument(
        "--out", required=True, metavar="FILE", help="a new .csv or .parquet file"
    )
    predict.add_argument("--format", choices=FORMATS, help="of LOG")

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
        "--version", type=_at_least_one, help="default: one more than the highest"
    )
    export.add_argument(
        "--keep",
        type=_at_least_one,
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
        type=_above_zero,
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
    request.add_argument("--version", type=_at_least_one, help="default: the newest")
    request.add_argument(
        "--deadline",
        type=_above_zero,
        default=1.0,
        metavar="SECONDS",
        help="for each request of up to 512 rows, with its retries; default: 1",
    )

    report = command(
        "report",
        "write a page with figures of a run",
        "edcn report runs/first",
    )
    report.add_argument("run", metavar="RUN", help="directory that train made")
    report.add_argument("--data", metavar="DIR", help="default: what it trained on")
    report.add_argument("--baseline", metavar="RUN", help="another run to compare with")
    _add_split(report)

    benchmark = command(
        "benchmark",
        "measure speed on this machine, or the models against each other",
        "edcn benchmark input\n  edcn benchmark models --out benchmark",
    )
    benchmark.add_argument(
        "what",
        choices=(
            *("input", "prepare", "prepare-growth"),
            *("serving", "training", "training-growth", "models"),
        ),
    )
    benchmark.add_argument(
        "--rows",
        type=_at_least_one,
        help="of the log, default 400000; for serving and training, of the large "
        "table, default 400000 and 10000000; for models, of the synthetic log, "
        "default 60000",
    )
    benchmark.add_argument(
        "--out",
        metavar="DIR",
        help="for models: of data, runs and the table; an interrupted one goes on",
    )
    benchmark.add_argument(
        "--seeds", type=_at_least_one, help="for models: of each; default: 3"
    )
    benchmark.add_argument(
        "--peers",
        metavar="DIR",
        help="for training: compare with DeepCTR and PyTorch, whose virtual "
        "environments are made in DIR if they are not there yet",
    )
    benchmark.add_argument(
        "--figure", metavar="FILE", help="for growth: draw it into a new .svg or .png"
    )
    return parser


def _add_settings(parser):
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="a setting over the file's; any key of a run's config.yaml",
    )


def _add_split_by(parser, default):
    parser.add_argument(
        "--split-by",
        choices=("chance", "time"),
        default=default,
        help=f"each row by chance, or the oldest to train; default: {default}",
    )


def _add_split(parser):
    parser.add_argument(
        "--split", choices=("train", "valid", "test"), default="test", help="or test"
    )


def _shares(text):
    try:
        return tuple(float(share) for share in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected three numbers such as 0.8,0.1,0.1, not {text!r}"
        ) from None


def _rate(text):
    try:
        rate = float(text)
    except ValueError:
        rate = 0
    if not 0 < rate <= 1:
        raise argparse.ArgumentTypeError(
            f"expected a share above 0 and at most 1, not {text!r}"
        )
    return rate


def _above_zero(text):
    try:
        if (number := float(text)) > 0:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a number above 0: {text!r}")


def _at_least_one(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1: {text!r}")
    return int(text)
