"""docs/operation.md, and the files that it shows: whoever is on call goes by them."""

import copy
import functools
import http.server
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "operation.md").read_text(encoding="utf-8")
FILES = DOCS / "operation"
MANIFESTS = ("kubernetes-cpu.yaml", "kubernetes-gpu.yaml")
# TF Serving's, by its source: model_servers/main.cc.
FLAGS = {
    *("port", "rest_api_port", "model_config_file", "monitoring_config_file"),
    *("model_config_file_poll_wait_seconds", "file_system_poll_wait_seconds"),
    *("allow_version_labels_for_unavailable_models", "enable_batching"),
    *("batching_parameters_file", "tensorflow_intra_op_parallelism"),
    "tensorflow_inter_op_parallelism",
}
OTHER_FLAGS = {"out", "keep", "version", "against", "profile"}  # edcn's, compose's
# What TF Serving gives Prometheus: each metric, and its labels. Histograms are read by
# these names with _bucket, _sum and _count at their end.
HISTOGRAMS = {
    ":tensorflow:serving:request_latency": {"model_name", "API", "entrypoint"},
    ":tensorflow:serving:runtime_latency": {"model_name", "API", "runtime"},
    ":tensorflow:serving:model_warmup_latency": {"model_path", "status"},
    ":tensorflow:serving:batching:batch_delay_us_v2": {
        *("model_name", "op_name", "processed_batch_size"),
    },
    ":tensorflow:serving:batching:batch_size": {"model_name", "op_name"},
    ":tensorflow:serving:batching:input_batch_size_v2": {"model_name", "op_name"},
}
METRICS = {
    ":tensorflow:serving:request_count": {"model_name", "status"},
    ":tensorflow:cc:saved_model:load_attempt_count": {"model_path", "status"},
    ":tensorflow:cc:saved_model:load_latency": {"model_path"},
    "up": set(),
    **{f"{name}_bucket": {*labels, "le"} for name, labels in HISTOGRAMS.items()},
    **{
        f"{name}_{end}": HISTOGRAMS[name]
        for name in HISTOGRAMS
        for end in ("sum", "count")
    },
}
OF_THE_TARGET = {"job", "instance"}  # Prometheus adds them
STATUSES = {  # of gRPC
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED"),
    *("NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED"),
    *("FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL"),
    *("UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
}


@functools.cache
def loaded(name):
    """The documents of a YAML file."""
    return list(yaml.safe_load_all((FILES / name).read_text(encoding="utf-8")))


def test_the_page_names_each_file_and_only_those():
    named = set(re.findall(r"\(operation/([^)]+)\)", PAGE))
    assert named == {path.name for path in FILES.iterdir()}


def test_links_of_the_page_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, part = target.partition("#")
        text = PAGE
        if file:
            assert (DOCS / file).exists(), target
        if part:
            text = (DOCS / file).read_text(encoding="utf-8") if file else PAGE
            titles = re.findall(r"^#+ (.*)$", text, re.M)
            anchors = {
                re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles
            }
            assert part in anchors, target


def test_flags_are_those_of_the_server():
    texts = [PAGE, *(path.read_text(encoding="utf-8") for path in FILES.iterdir())]
    found = set(re.findall(r"(?<![\w-])--([a-z_]+)(?![\w-])", " ".join(texts)))
    assert found - OTHER_FLAGS == FLAGS


# TF Serving's configuration


def config_of(path):
    server = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(path.read_text(encoding="utf-8"), server)
    (config,) = server.model_config_list.config
    assert (config.name, config.base_path) == ("clicks", "/models/clicks")
    assert config.model_platform == "tensorflow"
    return config


def test_one_version_is_pinned():
    config = config_of(FILES / "models-pinned.config")
    assert list(config.model_version_policy.specific.versions) == [1]
    assert not config.version_labels


def test_labels_are_of_versions_that_are_served():
    config = config_of(FILES / "models-canary.config")
    assert dict(config.version_labels) == {"stable": 1, "canary": 2}
    served = set(config.model_version_policy.specific.versions)
    assert served == set(config.version_labels.values())


def test_what_the_page_shows_of_a_configuration_is_what_the_file_has():
    (shown,) = re.findall(r"```pbtxt\n(.*?)```", PAGE, re.S)
    config = model_server_config_pb2.ModelConfig()
    text_format.Parse(shown, config)
    whole = config_of(FILES / "models-canary.config")
    assert config.model_version_policy == whole.model_version_policy
    assert config.version_labels == whole.version_labels


# Manifests


@pytest.mark.parametrize("release", ["1.29", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_what_kubernetes_takes(name, release):
    kinds = []
    for resource in loaded(name):
        kubernetes_validate.validate(resource, release, strict=True)
        kinds.append(resource["kind"])
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget"]


def test_a_misspelled_key_would_be_found():
    deployment = copy.deepcopy(loaded("kubernetes-cpu.yaml")[0])
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["readynessProbe"] = container.pop("readinessProbe")
    release = kubernetes_validate.latest_version()
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(deployment, release, strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_parts_of_a_manifest_belong_together(name):
    deployment, service, budget = loaded(name)
    template = deployment["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    for port in service["spec"]["ports"]:
        assert ports[port["targetPort"]] == port["port"]
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"] and mount["readOnly"]
    for argument in container["args"]:
        if argument.endswith(".config"):
            assert argument.split("=")[1].startswith(f"{mount['mountPath']}/")
    probes = {
        key[: -len("Probe")]: container[key] for key in container if "Probe" in key
    }
    assert {kind: probe["httpGet"]["path"] for kind, probe in probes.items()} == {
        "startup": "/v1/models/clicks",
        "readiness": "/v1/models/clicks/metadata",  # the status is 200 in any state
        "liveness": "/v1/models/clicks",
    }
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"rest"}
    startup = probes["startup"]  # outlasts six attempts to load, a minute apart
    assert startup["periodSeconds"] * startup["failureThreshold"] > 5 * 60
    resources = container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    annotations = template["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["rest"])
    (job,) = loaded("prometheus.yaml")[0]["scrape_configs"]
    assert annotations["prometheus.io/path"] == job["metrics_path"]


def test_the_inference_service_is_a_pod_but_for_what_kserve_adds():
    (service,) = loaded("kserve.yaml")
    assert (service["apiVersion"], service["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    assert service["metadata"]["name"] == "clicks"
    predictor = copy.deepcopy(service["spec"]["predictor"])
    model, least = predictor.pop("model"), predictor.pop("minReplicas")
    assert least >= 1 and predictor == {}
    assert model.pop("modelFormat") == {"name": "tensorflow"}
    assert model.pop("runtime") == "kserve-tensorflow-serving"
    assert model.pop("storageUri") == "pvc://models/clicks"
    image = f"tensorflow/serving:{model.pop('runtimeVersion')}"
    pod = {"containers": [{"name": "kserve-container", "image": image, **model}]}
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
    release = kubernetes_validate.latest_version()
    kubernetes_validate.validate(whole, release, strict=True)


def test_images_are_pinned_and_the_page_names_their_tags():
    texts = [path.read_text(encoding="utf-8") for path in FILES.iterdir()]
    images = re.findall(r"image: (\S+)", " ".join(texts))
    assert len(images) == 5
    for image in images:
        repository, _, tag = image.partition(":")
        assert re.fullmatch(r"v?\d+\.\d+\.\d+(-gpu)?", tag), image
        if repository == "tensorflow/serving":
            assert tag in PAGE


# Compose


def check_compose(path):
    """check-jsonschema with the schema of the Compose specification that it has."""
    command = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run(
        [sys.executable, *command, str(path)], capture_output=True, text=True
    )


def test_the_compose_file_is_what_compose_takes(tmp_path):
    checked = check_compose(FILES / "compose.yaml")
    assert checked.returncode == 0, checked.stdout
    text = (FILES / "compose.yaml").read_text(encoding="utf-8")
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(text.replace("healthcheck:", "healtcheck:"), encoding="utf-8")
    refused = check_compose(wrong)
    assert refused.returncode == 1 and "healtcheck" in refused.stdout


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_):
        pass


def health(port):
    """The exit status of compose's health check, of a server at that port here."""
    (compose,) = loaded("compose.yaml")
    kind, *command = compose["services"]["serving"]["healthcheck"]["test"]
    assert kind == "CMD"
    command = [part.replace("$$", "$") for part in command]
    command[-1] = command[-1].replace("localhost/8501", f"127.0.0.1/{port}")
    return subprocess.run(command, capture_output=True, timeout=30).returncode


@pytest.mark.parametrize("status, healthy", [(200, True), (404, False)])
def test_the_health_check_follows_the_status(status, healthy):
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        server.status, server.asked = status, []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            assert (health(server.server_port) == 0) == healthy
        finally:
            server.shutdown()
            thread.join()
        assert server.asked == ["/v1/models/clicks/metadata"]


def test_a_server_that_is_not_there_is_not_healthy():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nothing listens
        assert health(free.getsockname()[1]) != 0


# Alarms


@functools.cache
def alarms():
    (file,) = loaded("prometheus-rules.yaml")
    (group,) = file["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_rules_have_what_prometheus_and_people_need():
    assert len(alarms()) == 9
    for rule in alarms().values():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+m", rule.get("for", "0m"))
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]


@pytest.mark.parametrize("alarm", alarms())
def test_an_alarm_reads_metrics_and_labels_that_there_are(alarm):
    text = alarms()[alarm]["expr"]
    selectors = re.findall(r"(:[a-z][\w:]*|\bup\b)(\{[^}]*\})?", text)
    assert selectors
    for metric, braces in selectors:
        labels = {*METRICS[metric], *OF_THE_TARGET}
        for label, values in re.findall(r'(\w+)\s*[=!]~?\s*"([^"]*)"', braces):
            assert label in labels, (metric, label)
            if label == "status" and metric.endswith("request_count"):
                assert set(values.split("|")) <= STATUSES
            if label == "status" and metric.endswith("load_attempt_count"):
                assert values in ("success", "fail")
        for grouped in re.findall(r"by \(([^)]*)\)", text):
            assert {name.strip() for name in grouped.split(",")} <= labels
    used = set(
        re.findall(r"\$labels\.(\w+)", alarms()[alarm]["annotations"]["summary"])
    )
    assert used <= {label for name, _ in selectors for label in METRICS[name]} | {
        "instance"
    }


def test_the_page_says_what_to_do_at_each_alarm():
    rows = re.findall(r"^\| `(Serving\w+)` \|(.*)\|$", PAGE, re.M)
    assert [name for name, _ in rows] == list(alarms())
    for name, row in rows:
        read = set(re.findall(r":[a-z][\w:]*\w|\bup\b", alarms()[name]["expr"]))
        cells = row.split(" | ")
        assert len(cells) == 3 and all(cells), name
        assert all(f"`{metric}`" in cells[0] for metric in read), name


def test_the_page_names_metrics_that_there_are():
    known = {*METRICS, *HISTOGRAMS}
    named = set(re.findall(r"`(:tensorflow:[\w:]+)`", PAGE))
    assert named <= known, named - known
