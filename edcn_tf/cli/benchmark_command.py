"""The command that measures: its arguments."""

from edcn.options import at_least_one


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    benchmark = command(
        "benchmark",
        "measure speed on this machine, or the models against each other",
        "edcn benchmark input\n  edcn benchmark models --out benchmark\n"
        "  edcn benchmark quality --out quality --seeds 5 --peers peers",
    )
    benchmark.add_argument(
        "what",
        choices=(
            *("input", "prepare", "prepare-growth"),
            *("serving", "training", "training-growth", "history-growth", "limits"),
            *("models", "histories", "quality", "studies", "incremental"),
        ),
    )
    benchmark.add_argument(
        "--rows",
        type=at_least_one,
        help="of the log, default 400000; for serving and training, of the large "
        "table, default 400000 and 10000000; for models and quality, of the synthetic "
        "log, default 60000 and 200000; for incremental, of a day of it, default 20000",
    )
    benchmark.add_argument(
        "--out",
        metavar="DIR",
        help="for models, histories, quality, studies and incremental: of data, runs "
        "and tables; what was interrupted goes on",
    )
    benchmark.add_argument(
        "--seeds",
        type=at_least_one,
        help="for models, histories, quality and studies: of each; default: 3, 3, 5 "
        "and 3",
    )
    benchmark.add_argument(
        "--data",
        nargs="+",
        choices=("movielens", "flights", "synthetic"),
        help="for quality and studies: on these only; default: on all",
    )
    benchmark.add_argument(
        "--peers",
        metavar="DIR",
        help="for training: compare with DeepCTR and PyTorch, for quality and "
        "histories with DeepCTR; their virtual environments are made in DIR if they "
        "are not there yet",
    )
    benchmark.add_argument(
        "--figure", metavar="FILE", help="for growth: draw it into a new .svg or .png"
    )
