"""TF Serving's configuration files beside a model's versions."""

import re
from pathlib import Path

from edcn_tf.errors import InputError
from edcn_tf.files import replaced

MODELS = """\
# TF Serving with this file, by the image of its makers (not run by edcn-tf itself):
#
#   docker run -p 8500:8500 -p 8501:8501 -v DIRECTORY:/models/{name} \\
#     tensorflow/serving \\
#     --model_config_file=/models/{name}/models.config \\
#     --model_config_file_poll_wait_seconds=60 \\
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
    # The newest version. To roll back, serve an older one by its number, in place of
    # the line below:  model_version_policy {{ specific {{ versions: 3 }} }}
    # TF Serving sees it within the seconds above, or when it is started again.
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


def write_serving_config(directory):
    """Writes the files that are not there yet: those that are may have been edited."""
    directory = Path(directory)
    files = {
        "models.config": MODELS.format(name=directory.absolute().name),
        "monitoring.config": MONITORING,
    }
    for name, text in files.items():
        if not (directory / name).exists():
            with replaced(directory / name) as partial:
                partial.write_text(text, encoding="utf-8")
