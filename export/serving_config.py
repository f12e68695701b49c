"""TF Serving's configuration files beside a model's versions."""

from pathlib import Path

from edcn_tf.files import replaced

from .recording import BATCH_SIZES

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
# warm-up requests have these sizes.
{sizes}
# false: TF Serving would fill lists up with the first value of the request, which is
# not a missing one. So send a field's lists at one length, filled up with "".
pad_variable_length_inputs: false
"""
MONITORING = """\
# Prometheus reads http://HOST:8501/monitoring/prometheus/metrics
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""


def batching_parameters():
    """The text of a `BatchingParameters`."""
    sizes = "\n".join(f"allowed_batch_sizes: {size}" for size in BATCH_SIZES)
    return BATCHING.format(largest=BATCH_SIZES[-1], sizes=sizes)


def write_serving_config(directory):
    """Writes the files that are not there yet: those that are may have been edited."""
    directory = Path(directory)
    files = {
        "models.config": MODELS.format(name=directory.absolute().name),
        "batching_parameters.pbtxt": batching_parameters(),
        "monitoring.config": MONITORING,
    }
    for name, text in files.items():
        if not (directory / name).exists():
            with replaced(directory / name) as partial:
                partial.write_text(text, encoding="utf-8")
