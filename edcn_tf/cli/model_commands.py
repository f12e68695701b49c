"""Commands that make and judge models: their arguments."""

from edcn.options import (
    FORMATS,
    add_settings,
    add_skip_corrupt,
    add_split,
    at_least_one,
    rate,
)


def add(command):
    """Adds them by `command(name, help, example)`, which gives a parser."""
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
        "--fields", type=at_least_one, help="in place of DIR: number of fields"
    )
    describe.add_argument(
        "--rows", type=at_least_one, help="in place of DIR: values of all of them"
    )
    add_settings(describe)
    describe.add_argument(
        "--figure", metavar="FILE", help="draw it into a new .svg, .png or .pdf"
    )

    train = command(
        "train",
        "train a model on prepared data",
        "edcn train data --out runs/first --set embedding_dim=16 --set l2=10\n"
        "  edcn train data2 --out runs/second --warm-start runs/first --set epochs=5",
    )
    train.add_argument("data", metavar="DIR", help="directory that prepare made")
    train.add_argument("--out", required=True, metavar="RUN", help="the run directory")
    add_settings(train)
    train.add_argument(
        "--deterministic",
        action="append_const",
        const="deterministic=true",
        dest="settings",
        help="the same weights each time, bit for bit, on the same machine",
    )
    train.add_argument(
        "--warm-start",
        metavar="RUN",
        help="start from a finished run, whose settings are the defaults; what its "
        "model is made of must stay (prepare's --vocabulary-of keeps its values)",
    )
    train.add_argument(
        "--strategy",
        choices=("mirrored", "multi_worker"),
        help="train on all GPUs of this machine, or on the workers of TF_CONFIG, each "
        "of which is given this command; batch_size is then that of all together; "
        "default: one device",
    )
    add_skip_corrupt(train)

    evaluate = command(
        "evaluate",
        "judge a run's best model on a split",
        "edcn evaluate runs/first data --split test --json figures.json",
    )
    evaluate.add_argument("run", metavar="RUN", help="directory that train made")
    evaluate.add_argument("data", metavar="DIR", help="directory that prepare made")
    add_split(evaluate)
    evaluate.add_argument("--json", metavar="FILE", help="write the figures there too")
    add_skip_corrupt(evaluate)

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
        type=rate,
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

    report = command(
        "report",
        "write a page with figures of a run, or of several beside one another",
        "edcn report runs/first\n  edcn report runs/second runs/first runs/linear",
    )
    report.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="directory that train made; the page is written into the first, which "
        "the others are compared with",
    )
    report.add_argument("--data", metavar="DIR", help="default: what it trained on")
    report.add_argument("--baseline", metavar="RUN", help="one more RUN, the last")
    report.add_argument(
        "--split",
        choices=("train", "valid", "test"),
        help="default: test, or valid where there is no test",
    )
