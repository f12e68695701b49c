"""TF Serving's configuration files beside a model's versions."""

import re
from pathlib import Path

from edcn_tf.errors import InputError
from edcn_tf.files import replaced

from .recording import BATCH_SIZES

BATCHING_FILE = "batching_parameters.pbtxt"
MODELS = """\
# TF Serving with this file, by the image of its makers (not run by edcn-tf itself):
#
#   docker run -p 8500:8500 -p 8501:8501 -v DIRECTORY:/models/{name} \\
#     tensorflow/serving \\
#     --model_config_file=/models/{name}/models.config \\
#     --monitoring_config_file=/models/{name}/monitoring.config \\
#     --enable_batching \\
#     --batching_parameters_file=/models/{name}/batching_parameters.pbtxt
#
# DIRECTORY is the absolute path of the directory that holds this file. On a GPU:
# `docker run --gpus all ... tensorflow/serving:latest-gpu ...`, the rest the same.
# gRPC answers on port 8500, REST on 8501.
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    # The newest version. To roll back, serve an older one by its number, in place of
    # the line below:  model_version_policy {{ specific {{ versions: 3 }} }}
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""
BATCHING = """\
# For --enable_batching: requests that arrive within the timeout run as one batch.
max_batch_size {{ value: {largest} }}
batch_timeout_micros {{ value: 1000 }}
max_enqueued_batches {{ value: 1000 }}
# About the number of processors; on a GPU two or so.
num_batch_threads {{ value: 4 }}
# Batches are padded up to the next of these; the last one is max_batch_size. The
# warm-up requests have these sizes, and those of the next version will.
{sizes}
# false: TF Serving would fill lists up with the first value of the request, which is
# not a missing one. So send a field's lists at one length, filled up with "".
pad_variable_length_inputs: false
"""
LISTED = r"\ballowed_batch_sizes\s*:\s*(\[[^\]]*\]|[^\s,;]+)"
LARGEST = r"\bmax_batch_size\s*:?\s*\{\s*value\s*:\s*([^\s,;}]+)"
DEFAULT_LARGEST = 1000  # TF Serving's, where the file says none
MONITORING = """\
# Prometheus reads http://HOST:8501/monitoring/prometheus/metrics
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""


def allowed_batch_sizes(directory):
    """The batch sizes that a model's `batching_parameters.pbtxt` allows.

    TF Serving would not load a version with a warm-up request that is larger.

    Returns:
        A tuple in rising order; `BATCH_SIZES` if there is no such file yet. Where it
        lists none, those of them that are not larger than its largest.

    Raises:
        InputError: If a size is no number of at least 1.
    """
    path = Path(directory) / BATCHING_FILE
    if not path.exists():
        return BATCH_SIZES
    text = re.sub("#.*", "", path.read_text(encoding="utf-8"))
    listed, largest = (
        [number for each in found for number in each.strip("[] ").split(",")]
        for found in map(re.findall, (LISTED, LARGEST), (text, text))
    )
    sizes = [number.strip() for number in [*listed, *largest]]
    if wrong := [size for size in sizes if not re.fullmatch(r"0*[1-9]\d*", size)]:
        raise InputError(
            f"{path}: a batch size is a number of at least 1. Received: {wrong[0]!r}"
        )
    most = int(largest[-1]) if largest else DEFAULT_LARGEST
    allowed = {int(number) for number in listed} or BATCH_SIZES
    return tuple(size for size in sorted(allowed) if size <= most)


def batching_parameters(sizes):
    """The text of a `BatchingParameters` that allows these sizes, in rising order."""
    allowed = "\n".join(f"allowed_batch_sizes: {size}" for size in sizes)
    return BATCHING.format(largest=sizes[-1], sizes=allowed)


def write_serving_config(directory, sizes):
    """Writes the files that are not there yet: those that are may have been edited."""
    directory = Path(directory)
    files = {
        "models.config": MODELS.format(name=directory.absolute().name),
        BATCHING_FILE: batching_parameters(sizes),
        "monitoring.config": MONITORING,
    }
    for name, text in files.items():
        if not (directory / name).exists():
            with replaced(directory / name) as partial:
                partial.write_text(text, encoding="utf-8")
