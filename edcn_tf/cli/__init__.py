"""The command `edcn`: a file a command, with its arguments and what it prints.

The work is in the library, which each imports where it is done. Installed as a package
of its own, `edcn`, because importing `edcn_tf` imports TensorFlow, which takes seconds:
`edcn --help` and a mistyped option answer at once.
"""

import argparse
import importlib
import os
import sys
import traceback

from edcn import (
    benchmark,
    calibrate,
    demo,
    describe,
    drift,
    evaluate,
    export,
    predict,
    prepare,
    report,
    request,
    statistics,
    synthesize,
    train,
    tune,
    verify,
)

COMMANDS = (  # as `edcn --help` lists them
    *(demo, prepare, statistics, synthesize),
    *(describe, train, evaluate, calibrate, predict, report, drift),
    *(tune, export, verify, request, benchmark),
)


def main(arguments=None):
    """Runs a command; returns its exit status."""
    args = _parser().parse_args(arguments)
    debug = args.debug or "EDCN_DEBUG" in os.environ
    _import_library(debug)
    try:
        return args.action(args) or 0  # a status of its own, where it has one
    except KeyboardInterrupt:
        print("edcn: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"edcn {args.command}: {_one_line(error)}", file=sys.stderr)
        return 1


def _import_library(debug):
    """Imports it without what TensorFlow logs while it starts."""
    if debug:
        importlib.import_module("edcn_tf")
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        importlib.import_module("edcn_tf")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _one_line(error):
    """What a person is told of an error."""
    from edcn_tf.errors import InputError

    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'file system'}: {error.strerror}"
    return f"{type(error).__name__}: {text[:500]} (--debug shows where)"


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

    for each in COMMANDS:
        each.add(command)
    return parser
