"""`edcn benchmark`: measures speed on this machine, or models against each other."""

import inspect

from edcn.options import at_least_one


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "benchmark",
        "measure speed on this machine, or the models against each other",
        "edcn benchmark input\n  edcn benchmark models --out benchmark\n"
        "  edcn benchmark serving --clients 16\n"
        "  edcn benchmark quality --out quality --seeds 5 --peers peers",
    )
    parser.add_argument(
        "what",
        choices=(
            *("input", "prepare", "prepare-growth", "statistics"),
            *("serving", "training", "training-growth", "history-growth", "limits"),
            *("models", "histories", "quality", "studies", "incremental", "bars"),
        ),
    )
    parser.add_argument(
        "--rows",
        type=at_least_one,
        help="of the log, default 400000; for serving and training, of the large "
        "table, default 400000 and 10000000; for models and quality, of the synthetic "
        "log, default 60000 and 200000; for incremental, of a day of it, default "
        "20000; for statistics, keys of each, default 1000000",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="for models, histories, quality, studies, incremental and bars: of data, "
        "runs and tables; what was interrupted goes on",
    )
    parser.add_argument(
        "--seeds",
        type=at_least_one,
        help="for models, histories, quality, studies and bars: of each; default: 3, "
        "3, 5, 3 and 1",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        choices=("movielens", "flights", "synthetic", "frappe_x1", "open_bandit"),
        help="for quality and studies: on these only; default: on all; frappe_x1 and "
        "open_bandit, for quality, where their files are in a folder of that name in "
        "downloads/manual of TFDS_DATA_DIR (by default ~/tensorflow_datasets), as bars "
        "needs frappe_x1; open_bandit also where the package obp is installed",
    )
    parser.add_argument(
        "--split-by",
        choices=("chance", "time"),
        help="for quality: only these splits; default: both",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        choices=(
            *("logistic_regression", "deepfm", "dcn", "dcn_v2", "edcn"),
            "edcn_statistics",
            *("deepctr", "catboost", "lightgbm"),
        ),
        help="for quality: only these beside EDCN, the last three with --peers; the "
        "other lines of an earlier call's table in --out stay in it; default: all",
    )
    parser.add_argument(
        "--peers",
        metavar="DIR",
        help="for training: compare with DeepCTR and PyTorch, for quality with "
        "DeepCTR, CatBoost and LightGBM, for histories with DeepCTR; their virtual "
        "environments are made in DIR if they are not there yet",
    )
    parser.add_argument(
        "--clients",
        type=at_least_one,
        metavar="N",
        help="for serving: so many clients ask a server at once, and each answer is "
        "compared with that of the request alone; needs a checkout",
    )
    parser.add_argument(
        "--requests",
        type=at_least_one,
        metavar="N",
        help="for serving with --clients: how many in all; default: 2000",
    )
    parser.add_argument(
        "--figure", metavar="FILE", help="for growth: draw it into a new .svg or .png"
    )
    parser.set_defaults(action=run)


def run(args):
    from edcn_tf import benchmarks
    from edcn_tf.errors import InputError

    names = ("rows", "peers", "figure", "out", "seeds", "data", "split_by", "models")
    names += ("clients", "requests")
    given = {name: getattr(args, name) for name in names}
    options = {name: value for name, value in given.items() if value is not None}
    known = inspect.signature(benchmarks.BENCHMARKS[args.what]).parameters
    for name in set(options) - set(known):
        option = name.replace("_", "-")
        raise InputError(f"--{option} does not go with `benchmark {args.what}`")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options:
            raise InputError(f"`benchmark {args.what}` needs --{name}")
    benchmarks.run(args.what, **options)
