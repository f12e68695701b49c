"""The warm-up requests of a version, which TF Serving replays when it loads it."""

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from .grpc_service import DEFAULT_SIGNATURE, examples_of, tensors_of
from .refusal import Refused, invalid

PATH = "assets.extra/tf_serving_warmup_requests"
MOST = 1000


def warm_up(model, directory):
    """Replays them.

    Raises:
        Refused: With the first that is refused. TF Serving tries to load the version
            again after a minute, 5 times, and serves nothing of it.
    """
    path = directory / PATH
    if not path.exists():
        return
    answers = {
        "predict_log": (model.predict, tensors_of),
        "classify_log": (model.classify, examples_of),
        "regress_log": (model.regress, examples_of),
    }
    for number, record in enumerate(tf.data.TFRecordDataset(str(path)), 1):
        if number > MOST:
            raise invalid(
                f"Number of warmup records exceeds the maximum ({MOST}) at {path}"
            )
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        kind = log.WhichOneof("log_type")
        if kind not in answers:
            raise Refused("UNIMPLEMENTED", f"Unsupported log_type for warmup: {kind}")
        request = getattr(log, kind).request
        answer, read = answers[kind]
        answer(request.model_spec.signature_name or DEFAULT_SIGNATURE, read(request))
    model.rows.clear()
    model.batches.clear()
