"""`edcn describe`: a model's layers, parameters and operations."""

from edcn.options import add_settings, at_least_one


def add(command):
    """Adds it by `command(name, help, example)`, which gives a parser."""
    parser = command(
        "describe",
        "list a model's layers, their parameters and operations, and draw it",
        "edcn describe data --set model=xdeepfm --figure xdeepfm.svg\n"
        "  edcn describe --fields 23 --rows 212000 --set embedding_dim=40",
    )
    parser.add_argument(
        "path", nargs="?", metavar="DIR", help="of prepared data, or of a run"
    )
    parser.add_argument(
        "--fields", type=at_least_one, help="in place of DIR: number of fields"
    )
    parser.add_argument(
        "--rows", type=at_least_one, help="in place of DIR: values of all of them"
    )
    add_settings(parser)
    parser.add_argument(
        "--figure", metavar="FILE", help="draw it into a new .svg, .png or .pdf"
    )
    parser.set_defaults(action=run)


def run(args):
    from edcn_tf.report.describe import described_model, description
    from edcn_tf.report.diagram import draw_model

    model = described_model(
        args.path, args.config, args.settings, fields=args.fields, rows=args.rows
    )
    print(description(model))
    if args.figure:
        draw_model(model, args.figure)
        print(f"\nWrote {args.figure}")
