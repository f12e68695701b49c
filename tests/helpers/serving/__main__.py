"""`python tests/helpers/serving MODELS/NAME`: serves until it is interrupted."""

import argparse
import contextlib
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from helpers.serving import Refused, Standin
from helpers.serving.batching_parameters import read_batching_parameters


def main():
    parser = argparse.ArgumentParser(
        prog="serving", description="Stands in for TF Serving; for tests and demos."
    )
    parser.add_argument("path", metavar="MODELS/NAME")
    parser.add_argument("--name", help="default: NAME")
    parser.add_argument("--port", type=int, default=8500, help="gRPC; default: 8500")
    parser.add_argument(
        "--rest_api_port", type=int, default=8501, help="REST; default: 8501"
    )
    parser.add_argument("--enable_batching", action="store_true")
    parser.add_argument(
        "--batching_parameters_file", metavar="FILE", help="a BatchingParameters"
    )
    args = parser.parse_args()
    if args.batching_parameters_file and not args.enable_batching:
        parser.error("--batching_parameters_file is for --enable_batching")
    try:
        text = ""
        if args.batching_parameters_file:
            text = Path(args.batching_parameters_file).read_text(encoding="utf-8")
        server = Standin(
            args.path,
            args.name,
            port=args.port,
            rest_api_port=args.rest_api_port,
            batching=read_batching_parameters(text) if args.enable_batching else None,
        )
    except (OSError, Refused) as error:
        sys.exit(f"{parser.prog}: {error}")
    with server:
        print(
            f"Stands in for TF Serving: model {server.name}, version {server.version}; "
            f"gRPC at {server.grpc}, REST at {server.rest}",
            flush=True,
        )
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
