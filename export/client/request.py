"""Requests to a served model of rows given as text: `edcn request`."""

import json
import math

from edcn_tf.errors import InputError
from edcn_tf.field import MOST_SLOTS, Field
from edcn_tf.logs.json_lines import each_once
from edcn_tf.logs.reading import read_log
from edcn_tf.schema import Schema

from .client import Client
from .errors import ServingError


def request_probabilities(
    address,
    model,
    *,
    rows=None,
    path=None,
    format=None,
    schema=None,
    signature="serving_default",
    version=None,
    deadline=1.0,
    ca=None,
    certificate=None,
    key=None,
    token_file=None,
):
    """Yields the lines that `edcn request` prints, as the answers come in.

    Args:
        address: Of the server, as `Client` takes it.
        model: The model's name there.
        rows: Rows in JSON.
        path: In place of `rows` a file: `.jsonl` with a row a line, or a log
            (`edcn_tf.logs.reading.read_log`) with at least the model's fields.
        format: Format of the log; told from its name by default.
        schema: File with the log's schema: how a log is read, and the columns that
            rows may call fields by. By default the server tells the fields, and lists
            are separated by `|`.
        signature: `serving_default` for a probability a line, `explain` for a table
            of each row, `rank` for the probabilities of a row's candidates in a line.
        version: The model's version; the newest by default.
        deadline: Seconds for each request of up to 512 rows, or of a row's candidates.
        ca, certificate, key: Files for TLS, as `Client` takes them.
        token_file: File with the token, which is read for each request.

    Raises:
        InputError: If a row does not fit the model, or the server does not answer.
    """
    with Client(
        address,
        model,
        version=version,
        deadline=deadline,
        schema=schema,
        ca=ca,
        certificate=certificate,
        key=key,
        token=None if token_file is None else lambda: _read_token(token_file),
    ) as client:
        try:
            if rows is not None:
                batches = [[_parsed(row, f"row {i}") for i, row in enumerate(rows, 1)]]
            elif path.lower().endswith(".jsonl"):
                batches = [_read_json_lines(path)]
            else:
                batches = _read_log(client, path, format, schema)
            first = 1
            for batch in batches:
                yield from ANSWERS[signature](client, batch, first, deadline)
                first += len(batch)
        except ServingError as error:
            raise InputError(f"{address}, model {model!r}: {error}") from error


def _allow(client, deadline, rows):
    """Gives a call of so many rows the seconds of all the requests that it sends."""
    client.deadline = deadline * max(1, math.ceil(len(rows) / client.batch_size))


def _probabilities(client, rows, _, deadline):
    # A call for all of it, which checks all before anything is sent.
    _allow(client, deadline, rows)
    return map(str, client.predict(rows))


def _explanations(client, rows, first, deadline):
    _allow(client, deadline, rows)
    answer = client.explain(rows)
    tables = zip(answer["probability"], answer["fields"], answer["contributions"])
    for number, (probability, fields, contributions) in enumerate(tables, first):
        yield f"row {number}: probability {probability:.6f}"
        pairs = sorted(zip(contributions, fields), key=lambda pair: -abs(pair[0]))
        for contribution, field in pairs:
            yield f"  {field:<24} {contribution:>+9.6f}"


def _rankings(client, rows, first, deadline):
    if not isinstance(rows, list):
        raise InputError("To rank, give --row or a .jsonl file. Received: a log")
    for number, row in enumerate(rows, first):
        if set(row) != {"user", "candidates"}:
            raise InputError(
                f'row {number}: expected {{"user": {{...}}, "candidates": [...]}}. '
                f"Received: the keys {sorted(row)}"
            )
        candidates = row["candidates"]
        _allow(client, deadline, candidates if isinstance(candidates, list) else ())
        try:
            probabilities = client.rank(row["user"], candidates)
        except InputError as error:
            raise InputError(f"row {number}: {error}") from None
        yield " ".join(map(str, probabilities))


ANSWERS = {
    "serving_default": _probabilities,
    "explain": _explanations,
    "rank": _rankings,
}


def _read_token(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def _parsed(text, where):
    try:
        row = json.loads(text, object_pairs_hook=each_once)
    except ValueError as error:
        raise InputError(f"{where}: is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object. Received: {text[:200]}")
    return row


def _read_json_lines(path):
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = enumerate(file, 1)
            return [_parsed(t, f"{path}: line {i}") for i, t in lines if t.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8: {error}") from None


def _read_log(client, path, format, schema):
    inputs = client.signatures()["serving_default"].inputs
    if schema is not None:
        schema = Schema.load(schema)
    else:
        fields = [_field(name, info) for name, info in inputs.items()]
        schema = Schema(label="(not read)", fields=fields)
    return read_log([path], schema, format, columns=list(inputs))


def _field(name, info):
    """As which a log's column is read for an input."""
    is_list = len(info.shape) > 1
    if info.dtype != "float32":
        return Field(name=name, dtype=info.dtype, multiple=is_list)
    if is_list and info.shape[-1] > 0:
        return Field(name=name, kind="numeric", length=info.shape[-1])
    if is_list:
        return Field(name=name, kind="sequence", buckets=2, max_length=MOST_SLOTS)
    return Field(name=name, kind="numeric")
