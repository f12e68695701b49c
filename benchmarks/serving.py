"""How fast an exported model answers, and what an export takes."""

import contextlib
import dataclasses
import functools
import itertools
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from edcn_tf import export
from edcn_tf.directories import PreparedData, Run
from edcn_tf.errors import InputError
from edcn_tf.export.c_api import Session
from edcn_tf.export.verification import __file__ as VERIFICATION
from edcn_tf.features.encoder import Encoder, parsing_of_fields
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.framing import record_dataset
from edcn_tf.logs.formats import SCHEMAS
from edcn_tf.logs.synthetic.writing import synthesize
from edcn_tf.models import EDCN
from edcn_tf.preparation.local import prepare
from edcn_tf.records.writing import record_files
from edcn_tf.schema import Schema
from edcn_tf.training.callback import save_model

from .serving_load import measure_load

CANDIDATE_FIELDS = 6  # of the 39: an ad's, the rest are the user's and the context's
CANDIDATES = 500
BATCHES = (1, 32, 512)
TURNS, CALLS = 10, 10
THREADS = (1, 16)  # that ask at once
LOG_ROWS = 100_000
REQUESTS = 2000
MIB = 1 << 20


def benchmark_serving(rows=400_000, clients=None, requests=None):
    """Latency of the signatures of EDCN's default setting, with Criteo's 39 fields.

    Weights are random, which is as fast. What is compared takes turns in one run.

    Args:
        rows: Rows of the table whose export is measured.
        clients: In place of all that, so many clients ask a server at once.
        requests: So many in all; by default 2,000.

    Raises:
        InputError: If `requests` are given without `clients`; of clients, as
            `measure_load`.
    """
    if clients is not None:
        measure_load(clients, requests or REQUESTS)
        return
    if requests is not None:
        raise InputError("--requests goes with --clients alone")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model, spec = _model(folder)
        version = export.export_saved_model(model, spec, folder / "models")
        encoder = Encoder(spec)
        files = record_files(PreparedData(folder / "data").records("train"))
        records = next(iter(record_dataset(files[0]).batch(512)))
        features = parsed_features(records, spec)
        ids = encoder(features_of(features)).numpy()
        print(
            f"EDCN's defaults, 39 fields x 16, {os.cpu_count()} processors; medians\n"
        )
        with Session(version) as session:
            _ids(session, version, model, ids)
            _rank(session, spec, features)
        _together(model, spec, folder, {"ids": ids, "examples": records.numpy()})
        _export(folder, rows)


def parsed_features(records, spec, names=None):
    """Serialized tf.Examples as the arrays that a request holds, of some fields."""
    parsing = parsing_of_fields(spec.schema)
    if names is not None:
        parsing = {name: parsing[name] for name in names}
    parsed = tf.io.parse_example(records, parsing)
    return {name: value.numpy() for name, value in parsed.items()}


def features_of(arrays):
    """Arrays as tensors."""
    return {name: tf.constant(value) for name, value in arrays.items()}


def _model(folder):
    fields = SCHEMAS["criteo"].fields
    first = len(fields) - CANDIDATE_FIELDS
    fields = [
        dataclasses.replace(field, candidate=number >= first)
        for number, field in enumerate(fields)
    ]
    synthesize(folder / "log.tsv", LOG_ROWS)
    schema = dataclasses.replace(SCHEMAS["criteo"], fields=fields)
    prepare([folder / "log.tsv"], schema, folder / "data", format="criteo", workers=1)
    spec = FeatureSpec.load(PreparedData(folder / "data").features)
    model = EDCN(spec)
    model.build((None, spec.num_slots))
    return model, spec


def _ids(session, version, model, ids):
    """The `ids` signature by three ways to call it."""
    python = tf.saved_model.load(str(version)).signatures["ids"]
    print(f"{'ids, ms':<22}{'batch':>6}{'median':>9}{'p99':>9}{'ratio to C API':>16}")
    ways = {
        "C API": lambda few: session.run("ids", {"ids": few}),
        "Python signature": lambda few: python(ids=few)["probability"].numpy(),
        "model.predict": lambda few: model.predict(few, len(few), verbose=0),
    }
    for batch in BATCHES:
        few = ids[:batch]
        taken = times({name: functools.partial(ask, few) for name, ask in ways.items()})
        for name, each in taken.items():
            median, p99 = np.median(each), np.quantile(each, 0.99)
            ratio = median / np.median(taken["C API"])
            print(f"{name:<22}{batch:>6}{median:>9.2f}{p99:>9.2f}{ratio:>16.2f}")


def _rank(session, spec, features):
    """One user with 500 candidates, against 500 whole rows."""
    one_user, ranked = {}, {}
    for field in spec.schema.inputs:
        value = features[field.name][:CANDIDATES]
        if field.candidate:
            one_user[field.name], ranked[field.name] = value, value[np.newaxis]
        else:
            one_user[field.name] = np.repeat(value[:1], CANDIDATES)
            ranked[field.name] = value[:1]
    inputs = {"serving_default": one_user, "rank": ranked}
    answers = [session.run(*i)["probability"].ravel() for i in inputs.items()]
    np.testing.assert_allclose(*answers, atol=1e-6)
    requests = {name: _request(value) for name, value in inputs.items()}
    print(f"\n{f'{CANDIDATES} candidates, ms':<38}{'rows':>9}{'rank':>9}{'ratio':>9}")
    ways = {
        "request as bytes to answer*": lambda name: session.run(
            name, _parsed(requests[name])
        ),
        "arrays to answer, by the C API": lambda name: session.run(name, inputs[name]),
    }
    for way, run in ways.items():
        taken = times({name: functools.partial(run, name) for name in inputs})
        rows, rank = (np.median(taken[name]) for name in inputs)
        print(f"{way:<38}{rows:>9.2f}{rank:>9.2f}{rows / rank:>9.2f}")
    sizes = [len(requests[name]) for name in inputs]
    ratio = sizes[0] / sizes[1]
    print(
        f"{'size of the request, bytes':<38}{sizes[0]:>9,}{sizes[1]:>9,}{ratio:>9.2f}"
    )
    print("* parsed in Python here, in place of TF Serving's C++")


def _together(model, spec, folder, rows):
    """Requests scored alone, or with those that arrive meanwhile, by many threads."""
    ways = {"alone": None, "together": BATCHES[-1]}
    print(f"\n{'clients at once':<12}{'':<10}{'rows':>5}", end="")
    print("".join(f"{f'{way}, /s':>13}{'p50, ms':>9}{'p99, ms':>9}" for way in ways))
    with contextlib.ExitStack() as stack:
        sessions = {}
        for way, largest in ways.items():
            version = export.export_saved_model(
                model, spec, folder / way, max_batch_size=largest
            )
            sessions[way] = stack.enter_context(Session(version))
        for name, threads, batch in itertools.product(rows, THREADS, BATCHES):
            key = "inputs" if name == "examples" else name
            inputs = {key: rows[name][:batch]}
            taken = {way: [] for way in ways}
            for _ in range(TURNS):
                for way, session in sessions.items():
                    ask = functools.partial(session.run, name, inputs)
                    taken[way].append(_asked_at_once(ask, threads))
            print(f"{threads:<12}{name:<10}{batch:>5}", end="")
            for each in taken.values():
                rate, p50, p99 = np.median(each, axis=0)
                print(f"{rate:>13,.0f}{p50:>9.2f}{p99:>9.2f}", end="")
            print()


def _asked_at_once(ask, threads):
    """Requests a second, and the median and 99th percentile of their milliseconds."""

    def one(_):
        start = time.perf_counter()
        ask()
        return 1e3 * (time.perf_counter() - start)

    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        taken = list(pool.map(one, range(CALLS * threads)))
        seconds = time.perf_counter() - start
    return len(taken) / seconds, np.median(taken), np.quantile(taken, 0.99)


def _request(inputs):
    request = predict_pb2.PredictRequest()
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request.SerializeToString()


def _parsed(data):
    request = predict_pb2.PredictRequest.FromString(data)
    return {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}


def times(functions):
    """Milliseconds of each function, called in turns of a few calls."""
    taken = {name: [] for name in functions}
    for _ in range(TURNS):
        for name, function in functions.items():
            for call in range(CALLS + 2):
                start = time.perf_counter()
                function()
                if call >= 2:  # what another left in the caches is gone by then
                    taken[name].append(1e3 * (time.perf_counter() - start))
    return taken


EXPORT = "import sys, edcn_tf; edcn_tf.export.export_run(*sys.argv[1:])"


def _export(folder, rows):
    """Export and verification of a run, in processes of their own."""
    run, models = folder / "run", folder / "large"
    run.mkdir()
    _large_run(folder, run, rows)
    print(f"\n{f'table of {rows:,} rows x 16':<22}{'seconds':>9}{'peak, MiB':>11}")
    for name, command in {
        "export, with its proof": [sys.executable, "-c", EXPORT, run, models],
        "verification alone": [sys.executable, VERIFICATION, models / "1"],
    }.items():
        seconds, peak = measured_command(command)
        print(f"{name:<22}{seconds:>9.1f}{peak / MIB:>11,.0f}")
    size = sum(p.stat().st_size for p in (models / "1").rglob("*") if p.is_file())
    table = 64 * rows
    per_million = size / MIB / rows * 1e6
    print(
        f"{'version on disk':<22}{size / MIB:>9,.0f} MiB, {per_million:.0f} a million "
        f"rows; the table alone has {table / MIB:,.0f}"
    )


def _large_run(folder, run, rows):
    """A run whose first field is hashed into all the rows."""
    fields = [{"name": "user", "hash_buckets": rows}, {"name": "item", "min_count": 1}]
    Schema.from_dict({"label": "click", "fields": fields}).save(run / "schema.json")
    (folder / "small.csv").write_text("click,user,item\n" + "0,a,x\n1,b,y\n" * 20)
    prepare(
        folder / "small.csv",
        Schema.load(run / "schema.json"),
        folder / "small",
        split=(0.5, 0.5, 0),
    )
    small = PreparedData(folder / "small")
    os.rename(small.features, Run(run).features)
    valid = record_files(small.records("valid"))[0]
    os.rename(valid, Run(run).sample)
    model = EDCN(FeatureSpec.load(Run(run).features), embedding_dim=16)
    model.build((None, 2))
    model.compile()
    save_model(model, Run(run).model)


def measured_command(command):
    """Seconds and peak memory in bytes of a command."""
    # Started by a small process: a child's figure begins with that of its parent.
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, "
        "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    start = time.perf_counter()
    output = subprocess.run(
        [sys.executable, "-c", measure, *map(str, command)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return time.perf_counter() - start, 1024 * int(output.split()[-1])
