"""`edcn demo`: the whole way on data that needs no network."""

from edcn.options import add_split_by, at_least_one


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "demo",
        "run the whole way on data that needs no network",
        "edcn demo --out demo",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="a new directory")
    parser.add_argument(
        "--data",
        choices=("movielens", "flights", "synthetic"),
        default="movielens",
        help="real data (MovieLens latest-small, or flights from New York), or a "
        "synthetic log in Criteo's format of which the best possible AUC is known; "
        "default: movielens",
    )
    parser.add_argument(
        "--rows", type=at_least_one, help="of the synthetic log; default: 200000"
    )
    add_split_by(parser, "chance")
    parser.add_argument(
        "--history",
        action="store_true",
        help="of movielens: each row also has what its user clicked before",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.set_defaults(action=run)


def run(args):
    from edcn_tf.demo.run import run_demo

    run_demo(
        args.out,
        data=args.data,
        rows=args.rows,
        split_by=args.split_by,
        history=args.history,
        seed=args.seed,
    )
