"""`edcn train`: a model on prepared data."""

import shlex

from edcn.options import STRATEGIES, add_settings, add_skip_corrupt, print_skipped


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "train",
        "train a model on prepared data",
        "edcn train data --out runs/first --set embedding_dim=16 --set l2=10\n"
        "  edcn train data2 --out runs/second --warm-start runs/first --set epochs=5",
    )
    parser.add_argument("data", metavar="DIR", help="directory that prepare made")
    parser.add_argument("--out", required=True, metavar="RUN", help="the run directory")
    add_settings(parser)
    parser.add_argument(
        "--deterministic",
        action="append_const",
        const="deterministic=true",
        dest="settings",
        help="the same weights each time, bit for bit, on the same machine",
    )
    parser.add_argument(
        "--warm-start",
        metavar="RUN",
        help="start from a finished run, whose settings are the defaults; what its "
        "model is made of must stay (prepare's --vocabulary-of keeps its values)",
    )
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        help="train on all GPUs of this machine, or on the workers of TF_CONFIG, each "
        "of which is given this command; batch_size is then that of all together; "
        "default: one device",
    )
    add_skip_corrupt(parser)
    parser.set_defaults(action=run)


def run(args):
    import edcn_tf
    from edcn_tf.console import program
    from edcn_tf.training.continued_config import continued_config
    from edcn_tf.training.workers import Workers, make_strategy

    if args.warm_start:
        config = continued_config(
            args.warm_start, args.data, args.config, args.settings
        )
    else:
        config = edcn_tf.TrainingConfig.load(args.config, args.settings)
    strategy = None
    if args.strategy:
        if args.strategy == "multi_worker":
            print("Waiting until all workers of TF_CONFIG have started", flush=True)
        strategy = make_strategy(args.strategy)
    result = edcn_tf.train(
        args.data,
        args.out,
        config,
        strategy=strategy,
        skip_corrupt=args.skip_corrupt,
        warm_start=args.warm_start,
    )
    if not Workers(strategy).is_chief:
        return  # the chief says it
    print(
        f"Best epoch {result['best_epoch']} of {result['epochs']}: validation AUC "
        f"{result['valid_auc']:.4f}, log loss {result['valid_log_loss']:.4f}; "
        f"{result['examples_per_second']:,} examples/s"
    )
    print_skipped(result)
    told = shlex.join([program(), "evaluate", args.out, args.data])
    print(f"Wrote {args.out}. Next:  {told}")
