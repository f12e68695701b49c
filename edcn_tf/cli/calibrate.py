"""`edcn calibrate`: fits a run's probabilities to its validation split."""

from edcn.options import rate


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "calibrate",
        "fit a run's probabilities to the clicks of its validation split",
        "edcn calibrate runs/first --method isotonic",
    )
    parser.add_argument("run", metavar="RUN", help="directory that train made")
    parser.add_argument("--data", metavar="DIR", help="default: what it trained on")
    parser.add_argument(
        "--method",
        choices=("none", "platt", "isotonic"),
        default="platt",
        help="none corrects the sampling of negatives alone; default: platt",
    )
    parser.add_argument(
        "--negative-sampling-rate",
        type=rate,
        metavar="R",
        help="share of the negatives that the logs hold, if they had been sampled "
        "before prepare, all splits alike",
    )
    parser.set_defaults(action=run)


def run(args):
    from edcn_tf.directories import Run
    from edcn_tf.evaluation.calibration_fitting import calibrate_run

    figures = calibrate_run(
        args.run,
        args.data,
        method=args.method,
        negative_sampling_rate=args.negative_sampling_rate,
    )
    print(f"{'validation split':<17} {'log loss':>10} {'calibration':>12} {'ECE':>10}")
    for name, values in figures.items():
        print(
            f"{name:<17} {values['log_loss']:>10.6f} {values['calibration']:>12.4f} "
            f"{values['ece']:>10.6f}"
        )
    print(f"Wrote {Run(args.run).calibration}; export the run again to serve it")
