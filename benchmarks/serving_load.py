"""Many clients at once: do all good requests get their answers, and how fast?"""

import collections
import contextlib
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from edcn_tf import export
from edcn_tf.directories import PreparedData
from edcn_tf.errors import InputError
from edcn_tf.export.client import Client, ServingError
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.framing import record_dataset
from edcn_tf.models import EDCN
from edcn_tf.preparation.local import prepare
from edcn_tf.records.writing import record_files
from edcn_tf.schema import Schema

LOG_ROWS = 3000
DISTINCT = 160  # requests, which are asked again and again
MOST_ROWS = 512
MOST_VALUES = 12  # of a list, of which the model takes fewer
DEADLINE = 60.0  # seconds: what is late here is no failure
TOLERANCE = 1e-6
NAME = "load"
SCHEMA = {
    "label": "click",
    "fields": [
        {"name": "user"},
        {"name": "history", "multiple": True, "max_length": 8},
        {"name": "hour", "dtype": "int64"},
        {"name": "item", "candidate": True},
        {"name": "tags", "multiple": True, "max_length": 4, "candidate": True},
        {"name": "price", "kind": "numeric", "candidate": True},
        {"name": "item_rate", "kind": "statistic", "of": "item", "candidate": True},
    ],
}
CANDIDATE_FIELDS = ("item", "tags", "price")
SHARES = {  # of requests
    "serving_default": 0.25,
    "rank": 0.25,
    "fresh": 0.1,
    "examples": 0.1,
    "ids": 0.1,
    "explain": 0.1,
    "classify": 0.05,
    "regress": 0.05,
}


class Variant(NamedTuple):
    """What is served: options of `export_saved_model`, and of the server's program."""

    title: str
    export: tuple = ()  # pairs
    server: tuple = ()
    may_fail: bool = False  # of the server's own making


VARIANTS = (
    Variant("each request alone"),
    Variant("together, in the graph", export=(("max_batch_size", MOST_ROWS),)),
    Variant("by --enable_batching", server=("--enable_batching",), may_fail=True),
)


class Request(NamedTuple):
    """Of a signature, its `content` being what `Asking` sends to it."""

    signature: str
    content: object
    rows: int


class Outcome(NamedTuple):
    """Of a request: seconds, its answer, or the error in a line."""

    request: int
    seconds: float
    answer: np.ndarray | None
    error: str | None


def measure_load(clients, requests, variants=VARIANTS):
    """Prints throughput, latency and failures of `clients` that ask at once.

    The server is a program of its own; it stands in for TF Serving
    (`tests/helpers/serving/`). Each distinct request is asked alone first, and every
    later answer compared with that one.

    Args:
        clients: How many; threads, each with a `Client`. Of four, one asks by REST.
        requests: How many in all, drawn from distinct ones of all signatures.
        variants: What is compared, a `Variant` each.

    Raises:
        InputError: If this is no checkout, or, in the end, if a request failed or was
            answered otherwise than alone, but where that may be (`may_fail`).
    """
    program = Path(__file__).resolve().parents[1] / "tests/helpers/serving"
    if not program.exists():
        raise InputError(
            "--clients needs a checkout, whose tests have the server that stands in "
            f"for TF Serving. Received: no {program}"
        )
    wrong, told = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model, spec = _model(folder)
        pool = _requests(spec, _records(folder))
        print(
            f"{clients} clients; {requests:,} requests of all signatures, of 1 to "
            f"{MOST_ROWS} rows or candidates, lists of 0 to {MOST_VALUES} values; "
            f"{os.cpu_count()} processors for the server and the clients, which are "
            "threads of one process\n"
        )
        print(
            f"{'served':<26}{'clients':>8}{'requests/s':>12}{'rows/s':>10}"
            f"{'p50, ms':>9}{'p99, ms':>9}{'failed':>8}{'largest difference':>20}"
        )
        for number, variant in enumerate(variants):
            version = export.export_saved_model(
                model, spec, folder / str(number) / NAME, **dict(variant.export)
            )
            with _server(program, version.parent, variant.server) as addresses:
                found = _compared(variant.title, addresses, pool, clients, requests)
            told += found
            wrong += [] if variant.may_fail else found
    for line in told:
        print(line)
    if wrong:
        raise InputError(f"Not all good requests were answered as alone. {wrong[0]}")


def _compared(title, addresses, pool, clients, requests):
    """Prints the lines of a variant; returns a line for each kind of failure."""
    # Untimed: the first run of each graph is slow.
    first, _ = _asked(addresses, pool, 1, range(len(pool)))
    answers = {outcome.request: outcome.answer for outcome in first}
    alone, seconds = _asked(addresses, pool, 1, range(len(pool)))
    wrong = _told(title, 1, pool, alone, seconds, answers)
    random = np.random.default_rng(1)
    drawn = random.integers(len(pool), size=requests)
    together, seconds = _asked(addresses, pool, clients, drawn)
    return wrong + _told(title, clients, pool, together, seconds, answers)


def _told(title, clients, pool, outcomes, seconds, answers):
    differences = [
        float(np.abs(outcome.answer - answers[outcome.request]).max())
        for outcome in outcomes
        if outcome.error is None and answers[outcome.request] is not None
    ]
    failures = collections.Counter(
        f"{title}, {clients} clients: {pool[outcome.request].signature}: "
        f"{outcome.error}"
        for outcome in outcomes
        if outcome.error is not None
    )
    milliseconds = [1e3 * outcome.seconds for outcome in outcomes]
    p50, p99 = np.quantile(milliseconds, (0.5, 0.99))
    rows = sum(pool[outcome.request].rows for outcome in outcomes)
    print(
        f"{title:<26}{clients:>8}{len(outcomes) / seconds:>12,.0f}"
        f"{rows / seconds:>10,.0f}{p50:>9.1f}{p99:>9.1f}{failures.total():>8,}"
        f"{max(differences, default=np.nan):>20.1e}"
    )
    lines = [f"{number:,} times {line}" for line, number in failures.most_common(5)]
    unequal = sum(not difference <= TOLERANCE for difference in differences)  # or NaN
    if unequal:
        lines.append(
            f"{title}, {clients} clients: {unequal:,} answers differ from those alone "
            f"by more than {TOLERANCE:g}"
        )
    return lines


def _asked(addresses, pool, clients, numbers):
    """The outcomes of the requests of these numbers, and the seconds of all."""
    todo = collections.deque(numbers)

    def work(asking):
        outcomes = []
        while True:
            try:
                number = todo.popleft()
            except IndexError:
                return outcomes
            outcomes.append(_outcome(asking, pool, number))

    with contextlib.ExitStack() as stack:
        each = [
            stack.enter_context(Asking(addresses, is_rest=number % 4 == 3))
            for number in range(clients)
        ]
        threads = stack.enter_context(ThreadPoolExecutor(clients))
        start = time.perf_counter()
        outcomes = [one for some in threads.map(work, each) for one in some]
        return outcomes, time.perf_counter() - start


def _outcome(asking, pool, number):
    answer = error = None
    start = time.perf_counter()
    try:
        answer = asking.ask(pool[number])
    except (ServingError, InputError, grpc.RpcError) as raised:
        error = " ".join(str(raised).split())[:300]
    return Outcome(number, time.perf_counter() - start, answer, error)


class Asking:
    """A `Client`, and a channel for TF Serving's classify and regress APIs."""

    def __init__(self, addresses, is_rest):
        self._client = Client(addresses[is_rest], NAME, deadline=DEADLINE, retries=0)
        self._client.signatures()
        self._channel = grpc.insecure_channel(addresses[False])
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.close()
        self._channel.close()

    def ask(self, request):
        """The numbers of the answer."""
        if request.signature == "rank":
            return self._client.rank(*request.content)
        if request.signature == "explain":
            return self._client.explain(request.content)["contributions"]
        if request.signature == "classify":
            asked = classification_pb2.ClassificationRequest()
            answer = self._of_examples(self._service.Classify, asked, request)
            rows = answer.result.classifications
            return np.array([[each.score for each in row.classes] for row in rows])
        if request.signature == "regress":
            asked = regression_pb2.RegressionRequest()
            answer = self._of_examples(self._service.Regress, asked, request)
            return np.array([row.value for row in answer.result.regressions])
        return self._client.predict(request.content, request.signature)

    def _of_examples(self, method, asked, request):
        asked.model_spec.name = NAME
        asked.model_spec.signature_name = request.signature
        asked.input.example_list.examples.extend(
            tf.train.Example.FromString(value) for value in request.content
        )
        return method(asked, timeout=DEADLINE)


@contextlib.contextmanager
def _server(program, models, options):
    """Its gRPC and REST addresses, while it runs."""
    ports = ("--port", "0", "--rest_api_port", "0")
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, program, models, *ports, *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            line = process.stdout.readline()
            found = re.search("gRPC at (.*), REST at (.*)", line)
            if found is None:
                process.terminate()
                process.wait()
                errors.seek(0)
                raise InputError(f"{program}: did not start. Received: {errors.read()}")
            yield found.groups()
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


def _model(folder):
    """A model with every signature, with random weights, and its `FeatureSpec`."""
    random = np.random.default_rng(0)
    with open(folder / "log.csv", "w", newline="") as file:
        writer = csv.writer(file)
        rows = [_row(random) for _ in range(LOG_ROWS)]
        writer.writerow(["click", *rows[0]])
        for row in rows:
            cells = ["|".join(v) if isinstance(v, list) else v for v in row.values()]
            writer.writerow([random.integers(2), *cells])
    data = folder / "data"
    prepare([folder / "log.csv"], Schema.from_dict(SCHEMA), data, workers=1)
    spec = FeatureSpec.load(PreparedData(data).features)
    model = EDCN(spec)
    model.build((None, spec.num_slots))
    for variable in model.trainable_variables:
        if "embedding" in variable.path:  # as drawn they differ little from each other
            variable.assign(random.normal(size=variable.shape))
    return model, spec


def _records(folder):
    """Serialized tf.Examples of the log."""
    files = record_files(PreparedData(folder / "data").records("train"))
    return [
        record for file in files for record in record_dataset(file).as_numpy_iterator()
    ]


def _requests(spec, records):
    """Distinct requests of all signatures, of many sizes and lengths of lists."""
    random = np.random.default_rng(2)
    encoder = Encoder(spec)
    names = random.choice([*SHARES], DISTINCT, p=[*SHARES.values()])
    return [_request(str(name), random, encoder, records) for name in names]


def _request(name, random, encoder, records):
    # As many of 1 to 4 rows as of 128 to 512.
    count = int(np.exp(random.uniform(0, np.log(MOST_ROWS + 1))))
    if name in ("ids", "examples", "classify", "regress"):
        chosen = [records[i] for i in random.integers(len(records), size=count)]
        if name == "ids":
            ids = encoder(tf.io.parse_example(chosen, encoder.parsing())).numpy()
            return Request(name, {"ids": ids}, count)
        content = {"inputs": chosen} if name == "examples" else chosen
        return Request(name, content, count)
    longest = random.integers(MOST_VALUES + 1)
    rows = [_row(random, longest) for _ in range(count)]
    if name == "rank":
        user = {k: v for k, v in rows[0].items() if k not in CANDIDATE_FIELDS}
        candidates = [{name: row[name] for name in CANDIDATE_FIELDS} for row in rows]
        return Request(name, (user, candidates), count)
    if name == "fresh":
        for row in rows:
            clicks = int(random.integers(20))
            row["item_rate"] = [clicks, clicks + int(random.integers(100))]
    return Request(name, rows, count)


def _row(random, longest=MOST_VALUES):
    """A row of a log or of a request; some of its values are missing."""

    def text(prefix, many):
        return f"{prefix}{random.integers(many)}" if random.random() < 0.95 else None

    def texts(prefix, many):
        number = random.integers(longest + 1)
        return [f"{prefix}{i}" for i in random.integers(many, size=number)]

    return {
        "user": text("u", 200),
        "history": texts("i", 100),
        "hour": int(random.integers(24)),
        "item": text("i", 100),
        "tags": texts("t", 30),
        "price": float(random.lognormal()) if random.random() < 0.95 else None,
    }
