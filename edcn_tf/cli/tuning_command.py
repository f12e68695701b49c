"""The command that searches hyper-parameters: its arguments."""

from edcn.options import above_zero, add_settings, at_least_one, at_least_zero


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    tune = command(
        "tune",
        "search for the setting that serves prepared data best",
        "edcn tune data --out tuned --trials 30\n"
        "  edcn train data --out runs/best --config tuned/best.yaml\n"
        "  edcn tune data --out lean --objective log_loss --latency-charge 0.0005",
    )
    tune.add_argument("data", metavar="DIR", help="directory that prepare made")
    tune.add_argument(
        "--out",
        required=True,
        metavar="OUT",
        help="directory of the search; an interrupted one goes on",
    )
    tune.add_argument(
        "--space",
        default="small",
        metavar="NAME",
        help="small, full, or a YAML file of your own; default: small",
    )
    tune.add_argument(
        "--tuner",
        choices=("hyperband", "bayesian", "random"),
        default="hyperband",
        help="default: hyperband",
    )
    tune.add_argument(
        "--trials", type=at_least_one, default=30, help="at most; default: 30"
    )
    tune.add_argument(
        "--hours", type=above_zero, help="after which no further trial begins"
    )
    tune.add_argument(
        "--max-parameters",
        type=at_least_one,
        metavar="N",
        help="a trial whose model has more fails at once",
    )
    tune.add_argument(
        "--objective",
        choices=("auc", "log_loss"),
        default="auc",
        help="of the validation split; default: auc",
    )
    tune.add_argument(
        "--latency-charge",
        type=above_zero,
        default=0.0,
        metavar="C",
        help="what a millisecond of serving 512 rows costs, in the objective's unit",
    )
    tune.add_argument(
        "--parameter-charge",
        type=above_zero,
        default=0.0,
        metavar="C",
        help="what a million parameters cost, in the objective's unit",
    )
    tune.add_argument(
        "--retrain",
        type=at_least_zero,
        default=5,
        metavar="N",
        help="train the N best anew with other seeds, beside the default; default: 5",
    )
    tune.add_argument(
        "--retrain-seeds", type=at_least_one, default=3, help="default: 3"
    )
    add_settings(tune)
