"""The stand-in answers as TF Serving 2.20.0 does.

The tables are its answers: each line is a request, and the status and words that it
gets. What is under "Seen" was asked of the real server; the rest, and words that nobody
noted, are what its sources say. A client that is right by them is right by the server.
"""

import http.client
import json
import math
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from helpers import serving
from helpers.parts_model import Parts
from helpers.serving import Refused, Standin
from helpers.serving import __main__ as command
from helpers.serving.batching import Batcher
from helpers.serving.batching_parameters import read_batching_parameters
from helpers.serving.json_answers import number
from helpers.serving.json_text import parse
from helpers.serving.model import newest_version

SLOW = 60.0  # seconds: no test is of deadlines
NAN, INFINITY = math.nan, math.inf


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The base directory of `Parts`, version 3."""
    path = tmp_path_factory.mktemp("parts") / "parts"
    Parts().save(path / "3")
    return path


@pytest.fixture(scope="module")
def server(model):
    with Standin(model, labels={"stable": 3}) as server:
        yield server


# REST


def rest(server, method, path, body=b""):
    """Status and answer of a REST call."""
    connection = http.client.HTTPConnection(urlsplit(server.rest).netloc, timeout=SLOW)
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request(method, f"/v1/models/{path}", body)
        response = connection.getresponse()
        return response.status, json.loads(response.read().decode(errors="replace"))
    finally:
        connection.close()


def columns(**changed):
    """A request in columns, of one row."""
    known = {"user": ["ab"], "tags": [["x"]], "price": [5.0]}
    return {"inputs": {**known, **changed}}


def rows(*changed):
    """A request in rows."""
    known = {"user": "ab", "tags": ["x"], "price": 5.0}
    return {"instances": [{**known, **row} for row in changed]}


def slots(**body):
    return {"signature_name": "slots", **body}


def regress(**body):
    return {"signature_name": "regress", "examples": [{"price": 5.0}], **body}


def raw(old, new, body=None):
    """A request whose text is no JSON of Python's: `new` stands in place of `old`."""
    text = json.dumps(columns() if body is None else body).encode()
    assert text.count(old) == 1
    return text.replace(old, new)


ONE = {"outputs": [[0.08]]}
TAKEN = {  # path, body, answer
    # Seen.
    "rows": (":predict", rows({}, {"user": ""}), {"predictions": [[0.08], [0.06]]}),
    "columns": (":predict", columns(), ONE),
    "a whole number of 2**24 and more for a float": (
        ":predict",
        columns(price=[2**24 + 1]),
        {"outputs": [[167772.203]]},
    ),
    "Inf": (":predict", raw(b"5.0", b"Inf"), {"outputs": [[INFINITY]]}),
    "base64 without its padding": (":predict", columns(user=[{"b64": "YWI"}]), ONE),
    "a body that is no UTF-8": (":predict", raw(b'"ab"', b'"\xff\xfe"'), ONE),
    "text after the JSON": (":predict", raw(b"}}", b"}} and more"), ONE),
    "an empty signature_name": (":predict", {"signature_name": "", **columns()}, ONE),
    "a signature_name twice: the first counts": (
        ":predict",
        raw(
            b"{", b'{"signature_name": "slots", "signature_name": "x",', {"inputs": 0}
        ).replace(b'"inputs": 0', b'"inputs": [[1, 1, 1]]'),
        {"outputs": [[0.06]]},
    ),
    # Whose model holds its shapes refuses these in its graph: the server does not.
    "one column of three": (
        ":predict",
        slots(inputs=[[5]]),
        {"outputs": [[0.3]]},
    ),
    "a list as a scalar, for one row": (
        ":predict",
        slots(instances=[{"ids": 5}]),
        {"predictions": [0.3]},
    ),
    "a list as [B], for one row": (
        ":predict",
        slots(inputs={"ids": [5]}),
        {"outputs": [0.3]},
    ),
    "classify": (
        ":classify",
        {"signature_name": "classify", "examples": [{"price": 5.0}, {"price": [10.0]}]},
        {"results": [[["0", 0.95], ["1", 0.05]], [["0", 0.9], ["1", 0.1]]]},
    ),
    "regress": (":regress", regress(), {"results": [0.05]}),
    # By the sources.
    "a version": ("/versions/3:predict", columns(), ONE),
    "a label": ("/labels/stable:predict", columns(), ONE),
    "-Infinity": (":predict", raw(b"5.0", b"-Infinity"), {"outputs": [[-INFINITY]]}),
    "NaN": (":predict", raw(b"5.0", b"NaN"), {"outputs": [[0.03]]}),
    "base64": (":predict", columns(user=[{"b64": "YWI="}]), ONE),
    "a context": (
        ":regress",
        regress(examples=[{"user": "ü"}], context={"price": 7.0}),
        {"results": [0.07]},
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_rest_takes(server, case):
    path, body, answer = TAKEN[case]
    status, found = rest(server, "POST", f"parts{path}", body)
    assert status == 200
    assert_same(found, answer)


def assert_same(found, wanted):
    """Of answers: the names, the nesting, and the numbers but for their last bits."""
    if isinstance(wanted, dict):
        assert set(found) == set(wanted)
        found, wanted = [found[name] for name in wanted], list(wanted.values())
    if isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted):
            assert_same(one, other)
    else:
        assert type(found) is type(wanted)
        assert found == (pytest.approx(wanted) if isinstance(found, float) else wanted)


OF_ROW = "Failed to process element: 0 key: "
LIST_OF_INPUTS = " of 'instances' list. Error: INVALID_ARGUMENT: "
REFUSED = {  # method, path, body, status, what the error begins with
    # Seen.
    "GET :predict": (
        *("GET", "parts:predict", b"", 400),
        "Malformed request: GET /v1/models/parts:predict",
    ),
    "PUT": (
        *("PUT", "parts:predict", columns(), 400),
        "Malformed request: PUT /v1/models/parts:predict",
    ),
    "DELETE": (
        *("DELETE", "parts", b"", 400),
        "Malformed request: DELETE /v1/models/parts",
    ),
    "1e400": (
        *("POST", "parts:predict", raw(b"5.0", b"1e400"), 400),
        "JSON Parse error: Number too big to be stored in double.",
    ),
    "a lone surrogate": (
        *("POST", "parts:predict", raw(b'"ab"', b'"\\ud83d"'), 400),
        "JSON Parse error: The surrogate pair in string is invalid.",
    ),
    "base64 of other letters": (
        *("POST", "parts:predict", columns(user=[{"b64": "!!"}]), 400),
        "Unable to base64 decode",
    ),
    "urlsafe base64": (
        *("POST", "parts:predict", columns(user=[{"b64": "_-8="}]), 400),
        "Unable to base64 decode",
    ),
    "a number for text, in rows": (
        *("POST", "parts:predict", rows({"user": 5}), 400),
        f"{OF_ROW}user{LIST_OF_INPUTS}"
        "JSON Value: 5 Type: Number is not of expected type: string",
    ),
    "lists of unequal length, in rows": (
        *("POST", "parts:predict", rows({}, {"tags": ["x", "y"]}), 400),
        "Failed to process element: 1 key: tags of 'instances' list. Error: "
        "INVALID_ARGUMENT: Expecting tensor size: 1 but got: 2",
    ),
    "a context of null": (
        *("POST", "parts:regress", regress(context=None), 400),
        "Example must be JSON object but got JSON Null",
    ),
    "a context that is a list": (
        *("POST", "parts:regress", regress(context=[]), 400),
        "Example must be JSON object but got JSON Array",
    ),
    # By the sources.
    "an unknown method": (
        *("POST", "parts:guess", columns(), 400),
        "Malformed request: POST /v1/models/parts:guess",
    ),
    "an unknown model": (
        *("POST", "other:predict", columns(), 404),
        "Servable not found for request: Latest(other)",
    ),
    "an unknown version": (
        *("POST", "parts/versions/9:predict", columns(), 404),
        "Servable not found for request: Specific(parts, 9)",
    ),
    "an unknown label": (
        *("POST", "parts/labels/new:predict", columns(), 400),
        "Unrecognized servable version label: new",
    ),
    "the status of an unknown model": (
        *("GET", "other", b"", 404),
        "Could not find any versions of model other",
    ),
    "the status of an unknown version": (
        *("GET", "parts/versions/9", b"", 404),
        "Could not find version 9 of model parts",
    ),
    "no body": (
        *("POST", "parts:predict", b"", 400),
        "JSON Parse error: The document is empty",
    ),
    "no object": (
        *("POST", "parts:predict", b"[1]", 400),
        "JSON Value: [\n    1\n] Is not object",
    ),
    "neither rows nor columns": (
        *("POST", "parts:predict", {}, 400),
        "Missing 'inputs' or 'instances' key",
    ),
    "a signature that is not there": (
        *("POST", "parts:predict", {"signature_name": "no"}, 400),
        'Serving signature name: "no" not found in signature def',
    ),
    "a signature_name that is no text": (
        *("POST", "parts:predict", {"signature_name": 5}, 400),
        "JSON Value: {",
    ),
    "a missing column": (
        *("POST", "parts:predict", {"inputs": {"user": ["a"]}}, 400),
        "Missing named input: ",
    ),
    "text for a number, in columns": (
        *("POST", "parts:predict", columns(price=["cheap"]), 400),
        'JSON Value: "cheap" Type: String is not of expected type: float',
    ),
    "a number for text, in columns": (
        *("POST", "parts:predict", columns(user=[5]), 400),
        "JSON Value: 5 Type: Number is not of expected type: string",
    ),
    "null": (
        *("POST", "parts:predict", columns(user=[None]), 400),
        "JSON Value: null Type: Null is not of expected type: string",
    ),
    "lists of unequal length, in columns": (
        *("POST", "parts:predict"),
        *(columns(user=["a", "b"], tags=[["a", "b"], ["c"]], price=[1, 2]), 400),
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    "base64 of other letters, in rows": (
        *("POST", "parts:predict", rows({"user": {"b64": "!!"}}), 400),
        f"{OF_ROW}user{LIST_OF_INPUTS}Unable to base64 decode",
    ),
    "an unknown input, in rows": (
        *("POST", "parts:predict", rows({"age": 5}), 400),
        f"{OF_ROW}age{LIST_OF_INPUTS}JSON object: does not have named input: age",
    ),
    "a missing input, in rows": (
        *("POST", "parts:predict", {"instances": [{"user": "a"}]}, 400),
        "Failed to process element: 0 of 'instances' list. JSON object: {\n"
        '    "user": "a"\n} keys must be equal to: price,tags,user',
    ),
    "rows without names": (
        *("POST", "parts:predict", {"instances": [["ab", ["x"], 5.0]]}, 400),
        "instances is a plain list, but expecting list of objects as multiple input "
        "tensors required as per tensorinfo_map",
    ),
    "unequal numbers of rows": (
        *("POST", "parts:predict", columns(user=["a", "b"]), 400),
        "Shapes of all inputs must match",  # by the model
    ),
    "no examples": (
        *("POST", "parts:regress", regress(examples=[]), 400),
        "JSON Value: {",
    ),
    "text and numbers in one feature": (
        *("POST", "parts:regress", regress(examples=[{"a": [1, "b"]}]), 400),
        "Unexpected element type in feature: a expecting type: int64",
    ),
    "a signature that does not regress": (
        *("POST", "parts:regress", {"examples": [{"price": 1.0}]}, 400),
        "Expected one input Tensor.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rest_refuses(server, case):
    *request, status, told = REFUSED[case]
    found, answer = rest(server, *request)
    assert (found, list(answer)) == (status, ["error"])
    assert answer["error"].startswith(told) or told == "Shapes of all inputs must match"
    assert told in answer["error"]


@pytest.mark.parametrize("path", ["", "/versions/3", "/labels/stable", "/labels/any"])
def test_rest_tells_the_state_of_the_versions(server, path):
    """A label is not looked at, so that one that nobody gave is answered too."""
    state = {"error_code": "OK", "error_message": ""}
    version = {"version": "3", "state": "AVAILABLE", "status": state}
    answer = rest(server, "GET", f"parts{path}")
    assert answer == (200, {"model_version_status": [version]})


def test_the_metadata_have_the_loaders_own_signature(server):
    own = "__saved_model_init_op"
    status, answer = rest(server, "GET", "parts/metadata")
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert (status, answer["model_spec"]["version"]) == (200, "3")
    assert {own, "serving_default", "rank"} < set(signatures)
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=["signature_def"]
    )
    found = get_model_metadata_pb2.SignatureDefMap()
    answer = ask(server, "GetModelMetadata", metadata)
    answer.metadata["signature_def"].Unpack(found)
    assert set(found.signature_def) == set(signatures)


def test_rest_answers_rows_and_columns_by_name(server):
    body = {"signature_name": "explain", **rows({}, {"tags": ["xyz"]})}
    _, answer = rest(server, "POST", "parts:predict", body)
    second = {
        "probability": [0.1],
        "contributions": [0.02, 0.03, 0.05],
        "fields": ["user", "tags", "price"],
        "cross_gates": [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
    }
    assert_same(answer["predictions"][1], second)
    _, answer = rest(server, "POST", "parts:predict", body | columns())  # both
    assert answer["error"].endswith("'inputs' or 'instances' keys to exist ")
    _, answer = rest(
        server, "POST", "parts:predict", {"signature_name": "explain", **columns()}
    )
    assert_same(answer["outputs"]["contributions"], [[0.02, 0.01, 0.05]])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.float32(0.1), "0.1"),
        (np.float32(0.60599041), "0.605990410"),
        (np.float32(1 / 3), "0.333333343"),
        (np.float32(1e-7), "1e-07"),
        (np.float32(2.0), "2.0"),
        (np.float64(0.1), "0.1"),
        (np.float64(1 / 3), "0.33333333333333331"),
        (np.float32(-INFINITY), "-inf"),
    ],
)
def test_floats_have_up_to_9_digits(value, told):
    assert number(value) == float(told)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            b' {"a" : [1, -2.5, 1e2, true, false, null] } ',
            [1, -2.5, 100.0, True, 0, None],
        ),
        (b'\xef\xbb\xbf{"a": {}, "a": 1}', ()),
        (b'{"a": "\\u00e9\\ud83d\\ude00\\n\\"\\/"}', 'é😀\n"/'.encode()),
        (b'{"a": "\xff"}', b"\xff"),
        (b'{"a": 18446744073709551615}', 2**64 - 1),
        (b'{"a": 18446744073709551616}', 2.0**64),
        (b'{"a": [Inf, -Inf, Infinity]}', [INFINITY, -INFINITY, INFINITY]),
    ],
)
def test_json_that_is_read(text, value):
    found = parse(text).first("a")
    assert (found, type(found) is float) == (value, type(value) is float)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b" ", "The document is empty. at offset: 1"),
        (b"nil", "Invalid value. at offset: 0"),
        (b"{1: 2}", "Missing a name for object member. at offset: 1"),
        (b'{"a" 2}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": 01}', "Missing a comma or } after an object member. at offset: 7"),
        (b'{"a": [1 2]}', "Missing a comma or ] after an array element. at offset: 9"),
        (b'{"a": "b}', "Missing a closing quotation mark in string. at offset: 6"),
        (b'{"a": "\\x"}', "Invalid escape character in string. at offset: 7"),
        (b'{"a": "\\u00g0"}', "Incorrect hex digit after \\u escape in string. at"),
        (b'{"a": "\\udc00"}', "The surrogate pair in string is invalid. at offset: 7"),
        (b'{"a": "\\ud800\\n"}', "The surrogate pair in string is invalid. at"),
        (b'{"a": "\n"}', "Invalid encoding in string. at offset: 7"),
        (b'{"a": 1.}', "Miss fraction part in number. at offset: 8"),
        (b'{"a": 1e}', "Miss exponent in number. at offset: 8"),
        (b'{"a": -1e400}', "Number too big to be stored in double. at offset: 6"),
    ],
)
def test_json_that_is_refused(text, told):
    with pytest.raises(Refused) as caught:
        parse(text)
    assert caught.value.message.startswith(f"JSON Parse error: {told}")


# gRPC


def ask(server, method, request, name="parts", version=None, label=None):
    """The answer of a gRPC call."""
    spec = request.model_spec
    spec.name = name
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label
    with grpc.insecure_channel(server.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return getattr(stub, method)(request, timeout=SLOW)


def predict_request(signature="", output_filter=(), **inputs):
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def predict(server, signature="", output_filter=(), **inputs):
    """Output name -> array; `grpc.RpcError` if it is refused."""
    request = predict_request(signature, output_filter, **inputs)
    outputs = ask(server, "Predict", request).outputs
    return {name: tf.make_ndarray(proto) for name, proto in outputs.items()}


def row(**changed):
    known = {"user": ["ab"], "tags": [["x"]], "price": np.float32([5])}
    return {**known, **changed}


def ids(*values, dtype=np.int32):
    return {"ids": np.array(values, dtype)}


BROKEN = b"\x0a\xff"  # no tf.Example
REFUSED_BY_GRPC = {  # signature, inputs, what is asked for, code, part of the message
    # Seen.
    "an unknown label": (
        *("", row(), {"label": "new"}),
        *("INVALID_ARGUMENT", "Unrecognized servable version label: new"),
    ),
    "another type: the field is not named": (
        *("", row(price=np.int64([5])), {}),
        *("INVALID_ARGUMENT", "] to be float but int64 is provided"),
    ),
    "a broken tf.Example": (
        *("regress", {"inputs": [BROKEN]}, {}),
        *("INVALID_ARGUMENT", "Could not parse example input"),
    ),
    # By the sources.
    "an unknown model": (
        *("", row(), {"name": "other"}),
        *("NOT_FOUND", "Servable not found for request: Latest(other)"),
    ),
    "an unknown version": (
        *("", row(), {"version": 9}),
        *("NOT_FOUND", "Servable not found for request: Specific(parts, 9)"),
    ),
    "an unknown signature": (
        *("no", row(), {}),
        *("FAILED_PRECONDITION", 'Serving signature key "no" not found.'),
    ),
    "a missing input": (
        *("", {"user": ["a"]}, {}),
        "INVALID_ARGUMENT",
        "input size does not match signature: 1!=3 len({user}) != "
        "len({price,tags,user}). Sent extra: {}. Missing but required: {price,tags}.",
    ),
    "an input too many": (
        *("", row(age=[1.0]), {}),
        *("INVALID_ARGUMENT", "Sent extra: {age}. Missing but required: {}."),
    ),
    "an input of another name": (
        *("slots", {"id": [[1, 2, 3]]}, {}),
        "INVALID_ARGUMENT",
        "Signature input alias: ids(feed name: slots_ids:0) not found in request",
    ),
    "unequal numbers of rows: the model's matter": (
        *("", row(user=["a", "b"]), {}),
        *("INVALID_ARGUMENT", "Shapes of all inputs must match"),
    ),
}


@pytest.mark.parametrize("case", REFUSED_BY_GRPC)
def test_grpc_refuses(server, case):
    signature, inputs, asked, code, told = REFUSED_BY_GRPC[case]
    with pytest.raises(grpc.RpcError) as caught:
        ask(server, "Predict", predict_request(signature, **inputs), **asked)
    assert caught.value.code().name == code
    assert told in caught.value.details()


def test_an_output_filter(server):
    answer = predict(server, "explain", ["probability", "fields"], **row())
    assert set(answer) == {"probability", "fields"}
    for names, told in {
        ("score",): "output tensor alias not found in signature: score Outputs "
        "expected to be in the set {contributions,cross_gates,fields,probability}.",
        ("fields", "fields"): "duplicate output tensor alias: fields",
    }.items():
        with pytest.raises(grpc.RpcError) as caught:
            predict(server, "explain", names, **row())
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == told


def test_the_loaders_own_signature_is_not_run(server):
    """What TF Serving says to that is not known."""
    with pytest.raises(grpc.RpcError, match="the stand-in does not run __saved_model"):
        predict(server, "__saved_model_init_op")


def test_no_shape_is_held_but_by_the_graph(server):
    """A signature of three columns, asked with one, is scored."""
    right = predict(server, "slots", **ids([1, 1, 1], [2, 2, 2]))
    np.testing.assert_allclose(right["probability"], [[0.06], [0.12]], rtol=1e-6)
    made_up = predict(server, "slots", **ids([1], [2]))
    np.testing.assert_array_equal(made_up["probability"], right["probability"])


def test_grpc_classifies_and_regresses(server):
    example = tf.train.Example()
    example.features.feature["price"].float_list.value.append(5.0)
    request = regression_pb2.RegressionRequest()
    request.model_spec.signature_name = "regress"
    request.input.example_list.examples.append(example)
    answer = ask(server, "Regress", request)
    values = [regression.value for regression in answer.result.regressions]
    assert values == pytest.approx([0.05])
    request = classification_pb2.ClassificationRequest()
    request.input.example_list_with_context.context.CopyFrom(example)
    request.input.example_list_with_context.examples.add()
    with pytest.raises(grpc.RpcError) as caught:
        ask(server, "Classify", request)
    assert caught.value.details() == "Expected one input Tensor."
    request.model_spec.signature_name = "classify"
    answer = ask(server, "Classify", request)
    assert answer.model_spec.version.value == 3
    classes = answer.result.classifications[0].classes
    assert [c.label for c in classes] == ["0", "1"]
    assert [c.score for c in classes] == pytest.approx([0.95, 0.05])


# Batching. A batch runs as soon as it is full, so that which requests are in one does
# not hang on how fast they come.


def batched(model, rows, more=""):
    """A server whose batches are of so many rows, and wait for them."""
    text = f"max_batch_size {{ value: {rows} }} {more}"
    if "batch_timeout_micros" not in more:
        text += " batch_timeout_micros { value: 30000000 }"
    return Standin(model, batching=text)


def ask_at_once(server, requests):
    """Of each `(signature, inputs)` the outputs, or the error."""

    def one(request):
        signature, inputs = request
        try:
            return predict(server, signature, **inputs)
        except grpc.RpcError as error:
            return error.code().name, error.details()

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(one, requests))


def candidates(number):
    return {
        "user": ["ab"],
        "tags": [[["x"]] * number],
        "price": np.ones([1, number], np.float32),
    }


def example(price):
    found = tf.train.Example()
    found.features.feature["price"].float_list.value.append(price)
    return {"inputs": [found.SerializeToString()]}


LONG = {"tags": [["x", "y", "z"]]}
UNEQUAL = (
    "Tensors with name '{}' from different tasks have different shapes and padding is "
    "turned off.Set pad_variable_length_inputs to true, or ensure that all tensors "
    "with the same namehave equal dimensions starting with the first dim."
)
TOGETHER = {  # requests that are of one batch -> what all of them get, if not answers
    "equal shapes": ([("", row()), ("", row(user=["abc"])), ("", row())], None, None),
    "lists of unequal length": (
        [("", row()), ("", row(**LONG)), ("", row())],
        *("FAILED_PRECONDITION", UNEQUAL.format("serving_default_tags:0")),
    ),
    "unequal numbers of candidates": (
        [("rank", candidates(10)), ("rank", candidates(11))],
        *("FAILED_PRECONDITION", UNEQUAL.format("rank_")),
    ),
    "a broken tf.Example among good ones": (
        [("regress", example(1)), ("regress", {"inputs": [BROKEN]})],
        *("INVALID_ARGUMENT", "Could not parse example input"),
    ),
    "one column among three": (
        [("slots", ids([1, 2, 3])), ("slots", ids([1]))],
        *("FAILED_PRECONDITION", UNEQUAL.format("slots_ids:0")),
    ),
    "another type among the right one": (
        [("slots", ids([1, 2, 3])), ("slots", ids([1, 2, 3], dtype=np.int64))],
        *("INTERNAL", "Tensor concat operation failed"),
    ),
}


@pytest.mark.parametrize("case", TOGETHER)
def test_requests_of_a_batch_are_answered_or_fail_together(model, server, case):
    requests, code, told = TOGETHER[case]
    alone = ask_at_once(server, requests)
    with batched(model, len(requests)) as batching:
        answers = ask_at_once(batching, requests)
        assert len(batching.batches) <= 1
    if code is None:
        assert batching.batches == [len(requests)]
        for answer, expected in zip(answers, alone):
            np.testing.assert_array_equal(
                answer["probability"], expected["probability"]
            )
        return
    for answer in answers:
        assert answer[0] == code
        start = told.partition("'rank_")[0]
        assert start in answer[1]
    # Without batching it is at most the odd one that fails.
    assert sum(isinstance(answer, dict) for answer in alone) >= len(requests) - 1


def test_rest_calls_meet_in_batches_too(model):
    with batched(model, 2) as server, ThreadPoolExecutor(2) as pool:
        bodies = [columns(), columns(**LONG)]
        answers = list(
            pool.map(lambda body: rest(server, "POST", "parts:predict", body), bodies)
        )
    told = UNEQUAL.format("serving_default_tags:0")
    assert answers == [(400, {"error": told})] * 2


def test_padding_is_by_the_first_value(model, server):
    """Which counts as a value of the row: the score is another, and nobody is told."""
    requests = [("", row(tags=[["xxxx", "y"]])), ("", row(tags=[["x", "y", "z"]]))]
    alone = [answer["probability"].item() for answer in ask_at_once(server, requests)]
    with batched(model, 2, "pad_variable_length_inputs: true") as padding:
        answers = ask_at_once(padding, requests)
        assert padding.batches == [2]
    scores = [answer["probability"].item() for answer in answers]
    assert scores == pytest.approx([alone[0] + 0.04, alone[1]])


def test_signatures_have_batches_of_their_own(model):
    requests = [("", row()), ("slots", ids([1, 2, 3])), ("", row(**LONG))]
    with batched(model, 1) as server:
        answers = ask_at_once(server, requests)
        assert server.batches == [1, 1, 1]
    assert all(isinstance(answer, dict) for answer in answers)


def test_an_output_filter_goes_past_the_batches(model):
    with batched(model, 2) as server:
        for _ in range(2):
            predict(server, "explain", ["probability"], **row())
        assert server.batches == []


def test_a_batch_runs_when_its_first_request_has_waited(model):
    with batched(model, 5, "batch_timeout_micros { value: 200000 }") as server:
        start = time.monotonic()
        predict(server, **row())
        assert time.monotonic() - start >= 0.2
        assert server.batches == [1]


SOON = "batch_timeout_micros { value: 0 }"


def test_allowed_sizes_are_filled_up_by_a_row(model):
    with batched(model, 8, f"allowed_batch_sizes: [1, 4, 8] {SOON}") as server:
        prices = np.arange(6, dtype=np.float32)
        for size in (1, 3, 6):
            many = {"user": ["ab"] * size, "tags": [["x"]] * size}
            answer = predict(server, **many, price=prices[:size])
            expected = (3 + prices[:size, None]) / 100
            np.testing.assert_allclose(answer["probability"], expected, rtol=1e-6)
        assert server.batches == [1, 4, 8]


@pytest.mark.parametrize("signature", ["", "explain"])
def test_a_request_larger_than_a_batch_is_refused(model, signature):
    with batched(model, 4, SOON) as server:
        assert len(predict(server, signature, **of_rows(4))["probability"]) == 4
        with pytest.raises(grpc.RpcError) as caught:
            predict(server, signature, **of_rows(5))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        told = "Task size 5 is larger than maximum input batch size 4"
        assert caught.value.details() == told


def of_rows(number):
    return row(
        user=["ab"] * number, tags=[["x"]] * number, price=np.arange(number, dtype="f")
    )


SPLIT = (
    "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 4 }"
    " max_enqueued_batches { value: 30 }"
)


def test_large_requests_are_split_where_that_is_on(model, server):
    with batched(model, 100, f"{SPLIT} {SOON}") as splitting:
        for size in (10, 3, 4, 100):
            answer = predict(splitting, "explain", **of_rows(size))
            expected = predict(server, "explain", **of_rows(size))
            np.testing.assert_array_equal(answer["fields"], expected["fields"])
            np.testing.assert_allclose(
                answer["probability"], expected["probability"], rtol=1e-6
            )
        assert splitting.batches == [4, 4, 2, 3, 4, *[4] * 25]
        with pytest.raises(grpc.RpcError, match="Task size 101 is larger"):
            predict(splitting, **of_rows(101))


def test_rows_of_a_request_must_be_equal_and_are_not_named(model):
    with batched(model, 4, SOON) as server:
        for changed, told in {
            "user": (["a", "b"], "must have equal 0th-dimension size"),
            "price": (np.float32(5), "must have at least one dimension"),
        }.items():
            value, told = told
            with pytest.raises(grpc.RpcError) as caught:
                predict(server, **row(**{changed: value}))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert caught.value.details() == f"Batching Run() input tensors {told}"


def test_a_full_queue_refuses():
    """Here a batch is not over before the test says so."""
    with ThreadPoolExecutor(2) as pool:
        parameters = read_batching_parameters(
            "max_batch_size { value: 2 } max_enqueued_batches { value: 1 } "
            "batch_timeout_micros { value: 30000000 } num_batch_threads { value: 1 }"
        )
        batcher = Batcher(parameters, lambda key, inputs: inputs)
        waiting = pool.submit(batcher.run, "a", {"x": np.arange(1)})
        while not batcher._queues:
            time.sleep(0.001)
        with pytest.raises(Refused, match="UNAVAILABLE: .* is full; currently 1 batch"):
            batcher.run("a", {"x": np.arange(2)})
        batcher.close()  # what waits is answered before
        assert waiting.result()["x"].tolist() == [0]
        with pytest.raises(Refused, match="closed"):
            batcher.run("a", {"x": np.arange(1)})


@pytest.mark.parametrize(
    ("shape", "told"),
    [((), "Batched output tensor has 0 dimensions"), ((3,), "does not equal the sum")],
)
def test_outputs_must_have_the_rows_of_the_inputs(shape, told):
    batcher = Batcher(
        read_batching_parameters("max_batch_size { value: 2 }"),
        lambda key, inputs: {"y": np.zeros(shape)},
    )
    with pytest.raises(Refused, match=f"FAILED_PRECONDITION: .*{told}"):
        batcher.run("a", {"x": np.arange(2)})
    batcher.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: [4, 2]",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry "
            "was 2; expected 8",
        ),
        ("allowed_batch_sizes: 512", "last entry was 512; expected 1000"),
        ("max_batch_size: 8", 'Expected "{"'),
        ("batch_size { value: 8 }", 'no field named "batch_size"'),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
    ],
)
def test_parameters_that_do_not_start_a_server(model, text, told):
    with pytest.raises(Refused, match=re.escape(told)):
        Standin(model, batching=text)


# What is loaded


def test_a_warm_up_request_larger_than_a_batch_stops_the_load(model, tmp_path):
    version = tmp_path / "parts" / "3"
    shutil.copytree(model / "3", version)
    (version / "assets.extra").mkdir()
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request("slots", **ids(*[[1, 2, 3]] * 5)))
    file = str(version / "assets.extra" / "tf_serving_warmup_requests")
    with tf.io.TFRecordWriter(file) as writer:
        writer.write(log.SerializeToString())
    told = "INVALID_ARGUMENT: Task size 5 is larger than maximum input batch size 4"
    with pytest.raises(Refused) as caught:
        batched(version.parent, 4, SOON)
    assert str(caught.value) == told
    with batched(version.parent, 5) as server:
        assert (server.rows, server.batches) == ([], [])
    with Standin(version.parent):
        pass  # without batching any number
    with tf.io.TFRecordWriter(file) as writer:
        log.predict_log.request.CopyFrom(predict_request("regress", inputs=[BROKEN]))
        writer.write(log.SerializeToString())
    with pytest.raises(Refused, match="Could not parse example input"):
        Standin(version.parent)


def test_of_names_of_one_number_the_last_is_served(tmp_path):
    for names, newest in {
        ("9", "10"): "10",
        ("00012", "12"): "12",
        ("13", "0013", "2024x", ".next.14.partial"): "13",
    }.items():
        base = tmp_path / "-".join(names)
        for name in names:
            (base / name).mkdir(parents=True)
        assert newest_version(base).name == newest
    (tmp_path / "none").mkdir()
    with pytest.raises(Refused, match="No versions"):
        newest_version(tmp_path / "none")


def test_it_is_a_program(model, tmp_path):
    parameters = tmp_path / "batching.pbtxt"
    parameters.write_text("max_batch_size { value: 1 } # so small")
    process = subprocess.Popen(
        [
            *(sys.executable, Path(serving.__file__).parent, model),
            *("--port", "0", "--rest_api_port", "0", "--enable_batching"),
            *("--batching_parameters_file", parameters),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        line = process.stdout.readline()
        told = "model parts, version 3; gRPC at (.*), REST at (.*)"
        found = re.search(told, line).groups()
        started = serving.standin.Standin.__new__(Standin)
        started.grpc, started.rest = found
        answer = predict(started, **row())["probability"].item()
        assert answer == pytest.approx(0.08)
        status, answer = rest(started, "POST", "parts:predict", rows({}, {}))
        assert (status, "Task size 2 is larger" in answer["error"]) == (400, True)
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--batching_parameters_file", "b.pbtxt"], "is for --enable_batching"),
        (["--enable_batching", "--batching_parameters_file", "no"], "No such file"),
        (
            ["--enable_batching", "--batching_parameters_file", "b.pbtxt"],
            "serving: INVALID_ARGUMENT: Last entry in allowed_batch_sizes must match",
        ),
    ],
)
def test_the_program_says_why_it_does_not_start(
    model, options, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("b.pbtxt").write_text("allowed_batch_sizes: 8")
    monkeypatch.setattr(sys, "argv", ["serving", str(model), *options])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert told in f"{caught.value} {capsys.readouterr().err}"
