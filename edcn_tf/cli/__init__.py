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
        "run the whole way on real data (MovieLens latest-small), offline",
        "edcn demo --out demo",
    )
    demo.add_argument("--out", required=True, metavar="DIR", help="a new directory")
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
        "--workers", type=_at_least_one, help="processes that write; default: by size"
    )
    prepare.add_argument("--gzip", action="store_true", help="compress the records")

    train = command(
        "train",
        "train a model on prepared data",
        "edcn train data --out runs/first --set embedding_dim=16 --set l2=10",
    )
    train.add_argument("data", metavar="DIR", help="directory that prepare made")
    train.add_argument("--out", required=True, metavar="RUN", help="the run directory")
    train.add_argument("--config", metavar="FILE", help="YAML file of settings")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="a setting over the file's; any key of a run's config.yaml",
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

    verify = command(
        "verify",
        "replay an export's recorded requests in a clean process",
        "edcn verify models/clicks/1",
    )
    verify.add_argument("version", metavar="MODELS/NAME/VERSION")

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
        "measure speed on this machine",
        "edcn benchmark input",
    )
    benchmark.add_argument("what", choices=("input", "prepare"))
    benchmark.add_argument(
        "--rows", type=_at_least_one, default=400_000, help="default: 400000"
    )
    return parser


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


def _at_least_one(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1: {text!r}")
    return int(text)
