"""The REST interface."""

import json
import re
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from google.protobuf.json_format import MessageToDict

from .grpc_service import DEFAULT_SIGNATURE
from .json_answers import column_answer, number, row_answer, text
from .json_examples import read_examples
from .json_requests import read_predict_request
from .json_text import parse
from .refusal import HTTP_STATUS, Refused, invalid

MODEL = r"(?i:/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?"
ASKED = re.compile(MODEL + r":(classify|regress|predict))")
TOLD = re.compile(MODEL + r"(/metadata)?)")
ELSEWHERE = (
    b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n"
    b"<H1>Not Found</H1>\n</BODY></HTML>\n"
)


class RestHandler(BaseHTTPRequestHandler):
    """Answers for `standin`, which is set by the class made of this one."""

    protocol_version = "HTTP/1.1"
    standin = None

    def setup(self):
        super().setup()
        self.standin.connected(self.connection)

    def do_GET(self):
        path = urlsplit(self.path).path
        if not re.match("(?i)/v1/", path):
            self._send(404, "text/html", ELSEWHERE)
            return
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(int(length)) if length.isdecimal() else b""
        try:
            self.standin.admit(self.headers)
            status, answer = 200, self._answer(path, body)
        except Refused as refused:
            status = HTTP_STATUS.get(refused.code, 500)
            answer = {"error": refused.message}
        # Texts need not be UTF-8, neither those asked nor those answered.
        text = json.dumps(answer, indent=4, ensure_ascii=False)
        self._send(status, "application/json", text.encode(errors="surrogateescape"))

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *_):
        pass

    def _send(self, status, kind, text):
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except ConnectionError:  # it waits no longer
            self.close_connection = True

    def _answer(self, path, body):
        pattern = {"GET": TOLD, "POST": ASKED}.get(self.command)
        match = pattern and pattern.fullmatch(path)
        if not match:
            raise invalid(f"Malformed request: {self.command} {path}")
        name, version, label, what = match.groups()
        spec = unquote(name), version and int(version), label and unquote(label)
        answers = {
            None: self._status,
            "/metadata": self._metadata,
            "predict": self._predict,
            "classify": self._classify,
            "regress": self._regress,
        }
        if what not in answers:  # in other letters
            raise invalid(f"Malformed request: {self.command} {path}")
        return answers[what](spec, body)

    def _status(self, spec, _):
        name, version, _ = spec
        return {"model_version_status": [self.standin.status(name, version)]}

    def _metadata(self, spec, _):
        model = self.standin.called("GetModelMetadata", *spec)
        found = MessageToDict(
            model.signature_map(),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        return {
            "model_spec": {
                "name": self.standin.name,
                "signature_name": "",
                "version": str(self.standin.version),
            },
            "metadata": {"signature_def": found},
        }

    def _predict(self, spec, body):
        request = parse(body)
        name = _signature_name(request)
        # Inputs are read by the model's types, so it is looked up before.
        model = self.standin.called("Predict", *spec)
        if name not in model.signatures:
            raise invalid(
                f'Serving signature name: "{name}" not found in signature def'
            )
        infos = model.signatures[name].inputs
        if not infos:
            raise invalid(f"Failed to get input map for signature: {name}")
        inputs, in_rows = read_predict_request(request, infos)
        outputs = model.predict(name, inputs)
        return row_answer(outputs) if in_rows else column_answer(outputs)

    def _classify(self, spec, body):
        request = parse(body)
        name, examples = _signature_name(request), read_examples(request)
        rows = self.standin.called("Classify", *spec).classify(name, examples)
        return {"results": [[[text(label), number(p)] for label, p in r] for r in rows]}

    def _regress(self, spec, body):
        request = parse(body)
        name, examples = _signature_name(request), read_examples(request)
        values = self.standin.called("Regress", *spec).regress(name, examples)
        return {"results": [number(value) for value in values]}


def _signature_name(request):
    name = request.first("signature_name", b"")
    if not isinstance(name, bytes):
        raise invalid(
            f"JSON Value: {request.text()} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name.decode(errors="surrogateescape") or DEFAULT_SIGNATURE
