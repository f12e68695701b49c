"""`edcn synthesize`: a log in Criteo's format whose best possible scores are known."""

import dataclasses
import shlex

from edcn.options import at_least_one

# Options of `edcn_tf.logs.synthetic.log.SyntheticConfig`, with its defaults.
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


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "synthesize",
        "write a log in Criteo's format of which the best possible scores are known",
        "edcn synthesize --rows 200000 --out train.tsv\n"
        "  edcn synthesize --rows 20000 --skip 200000 --out test.tsv\n"
        "  edcn prepare --train train.tsv --valid test.tsv --format criteo --out data",
    )
    parser.add_argument("--rows", required=True, type=at_least_one, help="how many")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="a new file; FILE.json gets the best possible AUC and log loss",
    )
    parser.add_argument(
        "--skip",
        type=int,
        default=0,
        metavar="ROWS",
        help="rows of the same log that come before these; default: 0",
    )
    parser.add_argument(
        "--probabilities",
        metavar="FILE",
        help="a new .csv or .parquet file for the best possible score of each row",
    )
    for name, kind, default, help in SYNTHETIC:
        parser.add_argument(
            f"--{name}", type=kind, default=default, help=f"{help}; default: {default}"
        )
    for name, example in [("pairs", "I1:C2"), ("triples", "I1:C2:C3")]:
        parser.add_argument(
            f"--{name}",
            nargs="*",
            metavar=example,
            help=f"{name} of fields that interact, in place of some of our choice",
        )
    parser.set_defaults(action=run)


def run(args):
    from edcn_tf.console import program
    from edcn_tf.logs.synthetic.log import SyntheticConfig
    from edcn_tf.logs.synthetic.writing import synthesize

    options = {
        f.name: getattr(args, f.name) for f in dataclasses.fields(SyntheticConfig)
    }
    for name in ("pairs", "triples"):
        groups = options.pop(name)
        if groups is not None:
            options[name] = [group.split(":") for group in groups]
    figures = synthesize(
        args.out,
        args.rows,
        SyntheticConfig(**options),
        skip=args.skip,
        probabilities=args.probabilities,
    )
    print(f"{figures['rows']:,} rows, {figures['click_rate']:.4f} clicks\n")
    print(f"{'scored by':<30}{'AUC':>8}{'log loss':>10}")
    for name, figure in [
        ("all that features tell", "best"),
        ("first-order effects alone", "first_order"),
    ]:
        auc, log_loss = figures[figure]["auc"], figures[figure]["log_loss"]
        print(f"{name:<30}{auc:>8.4f}{log_loss:>10.4f}")
    print(
        f"\nWrote {args.out} and {args.out}.json. Next:  {program()} prepare "
        f"{shlex.quote(args.out)} --format criteo --out data"
    )
