"""`edcn tune`: searches for the setting that serves best."""

import shlex

from edcn.options import (
    OBJECTIVES,
    above_zero,
    add_settings,
    at_least_one,
    at_least_zero,
)


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "tune",
        "search for the setting that serves prepared data best",
        "edcn tune data --out tuned --trials 30\n"
        "  edcn train data --out runs/best --config tuned/best.yaml\n"
        "  edcn tune data --out lean --objective log_loss --latency-charge 0.0005",
    )
    parser.add_argument("data", metavar="DIR", help="directory that prepare made")
    parser.add_argument(
        "--out",
        required=True,
        metavar="OUT",
        help="directory of the search; an interrupted one goes on",
    )
    parser.add_argument(
        "--space",
        default="small",
        metavar="NAME",
        help="small, full, or a YAML file of your own; default: small",
    )
    parser.add_argument(
        "--tuner",
        choices=("hyperband", "bayesian", "random"),
        default="hyperband",
        help="default: hyperband",
    )
    parser.add_argument(
        "--trials", type=at_least_one, default=30, help="at most; default: 30"
    )
    parser.add_argument(
        "--hours", type=above_zero, help="after which no further trial begins"
    )
    parser.add_argument(
        "--max-parameters",
        type=at_least_one,
        metavar="N",
        help="a trial whose model has more fails at once",
    )
    parser.add_argument(
        "--objective",
        choices=OBJECTIVES,
        default="auc",
        help="of the validation split; default: auc",
    )
    parser.add_argument(
        "--latency-charge",
        type=above_zero,
        default=0.0,
        metavar="C",
        help="what a millisecond of serving 512 rows costs, in the objective's unit",
    )
    parser.add_argument(
        "--parameter-charge",
        type=above_zero,
        default=0.0,
        metavar="C",
        help="what a million parameters cost, in the objective's unit",
    )
    parser.add_argument(
        "--retrain",
        type=at_least_zero,
        default=5,
        metavar="N",
        help="train the N best anew with other seeds, beside the default; default: 5",
    )
    parser.add_argument(
        "--retrain-seeds", type=at_least_one, default=3, help="default: 3"
    )
    add_settings(parser)
    parser.set_defaults(action=run)


def run(args):
    from edcn_tf.config import TrainingConfig
    from edcn_tf.console import program
    from edcn_tf.tuning import Objective, search

    config = search(
        args.data,
        args.out,
        space=args.space,
        base=TrainingConfig.read(args.config, args.settings),
        tuner=args.tuner,
        trials=args.trials,
        hours=args.hours,
        max_parameters=args.max_parameters,
        objective=Objective(args.objective, args.latency_charge, args.parameter_charge),
        retrain_trials=args.retrain,
        retrain_seeds=args.retrain_seeds,
    )
    if config is None:
        print("This worker has nothing left to do")
        return
    settings = ["--out", "runs/best", "--config", f"{args.out}/best.yaml"]
    print(
        f"Wrote {args.out}/best.yaml, trials.csv and report.html. Next:  "
        + shlex.join([program(), "train", args.data, *settings])
    )
