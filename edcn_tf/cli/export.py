"""`edcn export`: publishes a run's best model as a SavedModel version, verified."""

from edcn.options import at_least_one


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "export",
        "publish a run's best model as a SavedModel version, verified",
        "edcn export runs/first --out models/clicks",
    )
    parser.add_argument("run", metavar="RUN", help="directory that train made")
    parser.add_argument(
        "--out", required=True, metavar="MODELS/NAME", help="the model's directory"
    )
    parser.add_argument(
        "--version", type=at_least_one, help="default: one more than the highest"
    )
    parser.add_argument(
        "--keep",
        type=at_least_one,
        metavar="K",
        help="then remove all but the K newest versions, and those that models.config "
        "names; default: keep all",
    )
    parser.add_argument(
        "--max-batch-size",
        type=at_least_one,
        metavar="N",
        help="have requests that arrive together scored as one, of N rows at most (for "
        "a GPU, or many small requests); default: each alone",
    )
    parser.set_defaults(action=run)


def run(args):
    from edcn_tf.export import export_run
    from edcn_tf.export.publishing import versions

    version = export_run(
        args.run,
        args.out,
        version=args.version,
        keep=args.keep,
        max_batch_size=args.max_batch_size,
    )
    print(f"Wrote {version}, verified: a clean process answers as the model did")
    newest = versions(args.out)[-1]
    if newest > int(version.name):
        print(
            f"TF Serving serves the highest version unless told otherwise, {newest}; "
            "its models.config says how"
        )
    print(f"How to serve it: {args.out}/models.config")
