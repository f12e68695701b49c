"""The command `edcn`: arguments only; each command's work is in the library.

Installed as a package of its own, `edcn`, because importing `edcn_tf` imports
TensorFlow, which takes seconds: `edcn --help` and a mistyped option answer at once.
"""

import argparse
import importlib
import os
import sys
import traceback

from edcn import (
    benchmark_command,
    data_commands,
    model_commands,
    serving_commands,
    tuning_command,
)


def main(arguments=None):
    """Runs a command; returns its exit status."""
    args = _parser().parse_args(arguments)
    debug = args.debug or "EDCN_DEBUG" in os.environ
    commands = _commands(debug)
    try:
        commands.RUN[args.command](args)
    except KeyboardInterrupt:
        print("edcn: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"edcn {args.command}: {commands.one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _commands(debug):
    """The library, imported without what TensorFlow logs while it starts."""
    if debug:
        return importlib.import_module("edcn_tf.commands")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        return importlib.import_module("edcn_tf.commands")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _parser():
    parser = argparse.ArgumentParser(
        prog="edcn",
        description="From click logs to a click-through-rate model behind TF Serving.",
        epilog="Start with:  edcn demo --out demo",
    )
    parser.set_defaults(debug=False)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, title="commands"
    )

    def command(name, help, example):
        added = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=f"Example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.add_argument(
            "--debug", action="store_true", help="show the traceback of an error"
        )
        return added

    for commands_of in (
        data_commands,
        model_commands,
        tuning_command,
        serving_commands,
        benchmark_command,
    ):
        commands_of.add(command)
    return parser
