"""Other schemas and models are exported too, and answer as they do here."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf.evaluation.calibration import Calibration
from edcn_tf.export import saved_model, verification
from edcn_tf.export.c_api import Session
from edcn_tf.features.writing import FeatureCounter
from edcn_tf.field import MISSING
from edcn_tf.files import read_json
from edcn_tf.models.parts import GATES
from edcn_tf.records.writing import serialize_examples
from helpers.gpu_kernels import without_gpu_kernel

KINDS = {"string": pa.string(), "int64": pa.int64(), "float32": pa.float32()}
NUMBER = {"kind": "numeric", "buckets": 4}
WHOLE = {**NUMBER, "dtype": "int64"}
LIST = {"multiple": True, "max_length": 3}
CANDIDATE = {"candidate": True}
RARE = {"min_count": 10**6}  # no value is kept
# Words of TensorFlow, of Python's functions and of the signatures themselves.
NAMES = [
    "inputs", "ids", "name", "fields", "training", "features", "probability",
    "signature_name", "candidates", "args", "kwargs", "model", "function", "a", "a_1",
    "serving_default", "n" * 100,
]  # fmt: skip


def edcn(**options):
    return lambda spec: edcn_tf.EDCN(spec, **{"embedding_dim": 4, **options})


def preset(name, **options):
    return lambda spec: edcn_tf.EDCN.from_preset(spec, name, **options)


def member(name, **options):
    return lambda spec: edcn_tf.make_model(
        spec, name, **{"embedding_dim": 4, **options}
    )


ON_INPUT = {"gate_layers": "input", "gate_fields": ["user", "history"]}
SIDES = [
    {"name": "user"},
    {"name": "history", **LIST},
    {"name": "item", **CANDIDATE},
    {"name": "price", **NUMBER},
    {"name": "tags", **LIST, **CANDIDATE},
]
HISTORY = [
    {"name": "user"},
    {"name": "item", "unseen_rows": 3, **CANDIDATE},
    {"name": "past", "kind": "sequence", "of": "item", "max_length": 3},
    {"name": "shop", "dtype": "int64", **CANDIDATE},
    {"name": "shops", "kind": "sequence", "of": "shop", "along": "past"},
    {"name": "since", "kind": "sequence", "buckets": 4, "along": "past"},
    {"name": "words", "kind": "sequence", "of": "user", "max_length": 2},
]
CASES = {
    "history_pooled": (HISTORY, edcn()),
    "history_transformer": (HISTORY, edcn(history="transformer", linear=True)),
    "numbers": ([{"name": "a", **NUMBER}, {"name": "b", **WHOLE}], edcn()),
    "linear": (SIDES, edcn_tf.LogisticRegression),
    "one_list": ([{"name": "a", **LIST}], edcn(num_layers=1)),
    "whole_lists_of_both_sides": (
        [
            {"name": "a", "dtype": "int64", **LIST},
            {"name": "b", "dtype": "int64", "pooling": "sum", **LIST, **CANDIDATE},
        ],
        edcn(activation_first=True, bridge="attention_components"),
    ),
    "all_candidates": (
        [{"name": "a", **CANDIDATE}, {"name": "b", **NUMBER, **CANDIDATE}],
        edcn(gate="none", bridge="attention", bridge_shared_weights=True),
    ),
    "nothing_kept": (
        [
            {"name": "a", **RARE},
            {"name": "b", **RARE, **LIST, **CANDIDATE},
            {"name": "c", **RARE, "dtype": "int64"},
            {"name": "d", **RARE, "unseen_rows": 4},
        ],
        preset("bars", embedding_dim=4, num_layers=2),
    ),
    "linear_term_and_widths": (
        SIDES,
        member("dcn_v2", linear=True, embedding_dim="auto", gate="lhuc", **ON_INPUT),
    ),
    "hashed": (
        [
            {"name": "a", "min_count": 25, "unseen_rows": 5},
            {"name": "b", "hash_buckets": 1, **CANDIDATE},
            {"name": "c", "hash_buckets": 5, "dtype": "int64", **LIST},
        ],
        preset("mindspore", embedding_dim=4),
    ),
    "names": (
        [
            {"name": name, **[{}, NUMBER, LIST][i % 3], "candidate": i % 2 == 0}
            for i, name in enumerate(NAMES)
        ],
        edcn(bridge="concat", num_layers=3, gate_batch_norm="scalar"),
    ),
}
# Each member of the family, and each gate; those whose operations the others have too
# are left to `make test-slow`.
ALL = {
    name: (HISTORY if of.needs_history else SIDES, member(name, num_layers=2))
    for name, of in edcn_tf.FAMILY.items()
    if name not in ("logistic_regression", "edcn")
} | {
    # One layer, or random weights make all scores alike.
    f"{gate}_gates": (SIDES, edcn(gate=gate, num_layers=1 + (gate != "dense")))
    for gate in GATES
    if gate != "softmax"
}
SLOW = {name for name in ALL if name != "xdeepfm"}
SLOW |= {"history_transformer", "nothing_kept", "linear_term_and_widths", "linear"}
SLOW |= {"all_candidates", "names", "history_pooled"}


def odd_log(fields, random, rows=60):
    """A batch as `edcn_tf.logs.reading.read_log` gives it."""
    texts = ["v", "7", "07", "1e3", "two\nlines", "nul\0", " v", "\u00e9", "x" * 10**4]
    columns = {}
    for field in fields:
        if field.has_ranges:
            values = list(random.normal(size=rows) * 10)
        elif field.dtype == "int64":
            values = list(random.integers(-3, 4, rows))
        else:
            values = [texts[i] for i in random.integers(0, len(texts), rows)]
        kind = KINDS[field.dtype]
        if field.is_list:
            values = [values[i : i + i % 5] for i in range(rows)]
            if field.kind == "sequence":  # of one length with those along it
                values = [
                    (value * 5)[: i % 5] if value else [MISSING[field.dtype]] * (i % 5)
                    for i, value in enumerate(values)
                ]
            columns[field.name] = pa.array(values, pa.list_(kind))
        else:
            values[::7] = [None] * len(values[::7])
            if field.dtype == "int64":
                values = [None if v is None else int(v) for v in values]
            columns[field.name] = pa.array(values, kind)
    return pa.RecordBatch.from_pydict(columns)


def of_loop(node):
    """Whether a node counts a loop's rounds, or keeps the list of what they give."""
    return "/while/" in node or "/TensorList" in node


def with_random_weights(model, spec, random):
    model.build((None, spec.num_slots))
    for weight in model.weights:
        if weight.dtype != "float32":
            continue  # the state of random numbers
        values = random.normal(size=weight.shape)
        if len(weight.shape) > 1 and "table" not in weight.path:
            values /= np.sqrt(weight.shape[0])
        weight.assign(np.abs(values) + 0.3 if "variance" in weight.path else values)
    output = getattr(model, "output_layer", None)
    if hasattr(output, "kernel"):
        # Layers that multiply make logits so large that all rows score 0 or 1.
        slots = [field for field in spec.fields for _ in range(field.field.slots)]
        ids = [random.integers(f.offset, f.offset + f.rows, 300) for f in slots]
        logits = model.logits(np.stack(ids, axis=1)).numpy()
        output.kernel.assign(output.kernel / logits.std())
        output.bias.assign([(output.bias.numpy()[0] - logits.mean()) / logits.std()])
    return model


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in {**CASES, **ALL}
    ],
)
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
def test_it_answers_as_the_model_does(case, tmp_path, random):
    fields, make = {**ALL, **CASES}[case]
    schema = edcn_tf.Schema.from_dict({"label": "click", "fields": fields})
    log = odd_log(schema.fields, random)
    counter = FeatureCounter(schema)
    counter.add(log)
    spec = counter.write(tmp_path / "features")
    model = with_random_weights(make(spec), spec, random)
    calibration = Calibration(method="isotonic", x=(0.1, 0.4, 0.8), y=(0.0, 0.5, 0.9))
    version = tmp_path / "1"
    version.mkdir()
    saved_model._write(model, spec, calibration, serialize_examples(log), version)
    # Here in this process: what a clean one sees is tests/export/test_export.py's.
    extra = version / "assets.extra"
    path = str(extra / "recorded_requests.tfrecord")
    recorded = list(verification._requests(tf, path))
    scores = {len(o["probability"]): o for s, _, o in recorded if s == "ids"}
    assert len(np.unique(scores[512]["probability"])) > 5
    tolerance = read_json(extra / "features.json")["tolerance"]
    assert tolerance < 5e-5  # random weights are large
    sides = {field.candidate for field in schema.fields}
    failing = without_gpu_kernel(version, "ids")
    if "dien" in case:  # whose loops count in the host's memory, as all of TensorFlow's
        failing = {name: op for name, op in failing.items() if not of_loop(name)}
    assert failing == {}
    for load in (verification._v1, Session):
        with load(str(version)) as session:
            assert ("rank" in session.signatures) == (len(sides) == 2)
            for request in recorded:
                assert verification._replay(session, *request)["size"] <= tolerance
