"""TF Serving's configuration files beside a model's versions."""

import re
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from edcn_tf.errors import InputError
from edcn_tf.files import replaced

MODELS_FILE = "models.config"
MODELS = """\
# TF Serving with this file, by the image of its makers (not run by edcn-tf itself):
#
#   docker run -p 8500:8500 -p 8501:8501 -v DIRECTORY:/models/{name} \\
#     tensorflow/serving \\
#     --model_config_file=/models/{name}/models.config \\
#     --model_config_file_poll_wait_seconds=60 \\
#     --allow_version_labels_for_unavailable_models=true \\
#     --monitoring_config_file=/models/{name}/monitoring.config
#
# DIRECTORY is the absolute path of the directory that holds this file. On a GPU:
# `docker run --gpus all ... tensorflow/serving:latest-gpu ...`, the rest the same.
# gRPC answers on port 8500, REST on 8501.
#
# Without --enable_batching: it fails requests for what others hold. Export with
# --max-batch-size to have requests that arrive together scored as one.
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    # The newest version. To roll back, name an older one that is there, in place of the
    # line below:  model_version_policy {{ specific {{ versions: 3 }} }}
    # It counts after the seconds above, or a restart. Of a version that is not there,
    # the server unloads all others.
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""
MONITORING = """\
# Prometheus reads http://HOST:8501/monitoring/prometheus/metrics
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""
# One's own, where all models of a server are batched by --enable_batching.
BATCHING_FILE = "batching_parameters.pbtxt"
LARGEST = r"\bmax_batch_size\s*:?\s*\{\s*value\s*:\s*([^\s,;}]+)"
DEFAULT_LARGEST = 1000  # TF Serving's, where the file says none


def most_batched_by_server(directory):
    """The largest batch of a model's `batching_parameters.pbtxt`, None without one.

    TF Serving would not load a version with a warm-up request that is larger.

    Raises:
        InputError: If it is no number of at least 1.
    """
    path = Path(directory) / BATCHING_FILE
    if not path.exists():
        return None
    text = re.sub("#.*", "", path.read_text(encoding="utf-8"))
    largest = (re.findall(LARGEST, text) or [str(DEFAULT_LARGEST)])[-1]
    if not re.fullmatch(r"0*[1-9]\d*", largest):
        raise InputError(
            f"{path}: a batch size is a number of at least 1. Received: {largest!r}"
        )
    return int(largest)


def named_versions(directory):
    """Numbers of versions that a model's `models.config` pins or gives a label to.

    Raises:
        InputError: If it is not what TF Serving reads.
    """
    path = Path(directory) / MODELS_FILE
    if not path.exists():
        return set()
    try:
        models = text_format.Parse(
            path.read_text(encoding="utf-8"),
            model_server_config_pb2.ModelServerConfig(),
        )
    except (text_format.ParseError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())
        raise InputError(
            f"{path}: no configuration of TF Serving's models, so what it serves by "
            f"number is not known. Received: {told}"
        ) from error
    return {
        number
        for config in models.model_config_list.config
        for number in (
            *config.model_version_policy.specific.versions,
            *config.version_labels.values(),
        )
    }


def write_serving_config(directory):
    """Writes the files that are not there yet: those that are may have been edited."""
    directory = Path(directory)
    files = {
        MODELS_FILE: MODELS.format(name=directory.absolute().name),
        "monitoring.config": MONITORING,
    }
    for name, text in files.items():
        if not (directory / name).exists():
            with replaced(directory / name) as partial:
                partial.write_text(text, encoding="utf-8")
