"""A server that STANDS IN for TF Serving, whose program cannot be installed here.

    python tests/helpers/serving MODELS/NAME --port 8500 --rest_api_port 8501

It speaks what clients of TF Serving speak: the gRPC PredictionService (Predict,
GetModelMetadata, Classify, Regress) by the protos of tensorflow-serving-api, and the
REST interface at /v1/models/NAME (status, metadata, :predict, :classify, :regress).
The model is loaded by TensorFlow's SavedModel session loader, as TF Serving loads it.
What it takes, what it refuses, and with which words, is what TF Serving 2.20.0 was seen
to answer, and where that was not seen, what its sources say;
tests/export/test_serving_standin.py is the table of it.

With `--enable_batching` requests of one signature are run together by TF Serving's
rule, and fail together by it: `batching.py`.

It shows that a client's requests are of the right form, and that a model answers them
with the right numbers. It does not show TF Serving's speed, its other config files or
a change of versions: it serves one version, the newest that it finds when it starts.
Nor is it hardened: for tests and demonstrations.
"""

from .refusal import Refused
from .standin import Standin

__all__ = ["Refused", "Standin"]
