"""One version of a model, asked as TF Serving asks it: by its C++ session, in batches.

The session takes tensors of any type and shape: TF Serving checks the names of inputs
alone, and the model does the rest.
"""

import re
import threading
from pathlib import Path

import numpy as np
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from edcn_tf.export.c_api import Session

from .batching import Batcher
from .refusal import Refused, invalid

DTYPES = tuple(
    map(np.dtype, (np.float32, np.float64, np.int32, np.int64, np.bool_, np.object_))
)


def newest_version(base):
    """The version directory that is served of a model's base directory.

    Of names with equal numbers, such as `00012` and `12`, the last by the alphabet.
    """
    base = Path(base).resolve()
    if (base / "saved_model.pb").exists():
        return base
    names = [p.name for p in base.glob("*") if re.fullmatch("[0-9]+", p.name)]
    if not names:
        raise Refused(
            "NOT_FOUND", f"No versions of servable found under base path {base}"
        )
    return base / max(names, key=lambda name: (int(name), name))


class Model:
    """A loaded version.

    Args:
        path: Its directory.
        batching: `BatchingParameters`; None runs each request alone.

    Attributes:
        signatures: Name -> `SignatureDef`, with the loader's own.
        rows: First dimensions of the inputs of each predict request.
        batches: Rows of each batch that ran.
    """

    def __init__(self, path, batching=None):
        saved = saved_model_pb2.SavedModel.FromString(
            (path / "saved_model.pb").read_bytes()
        )
        (graph,) = (g for g in saved.meta_graphs if "serve" in g.meta_info_def.tags)
        self.signatures = dict(graph.signature_def)
        self.rows = []
        self._session = Session(path)
        self._running, self._changed = 0, threading.Condition()
        self._batcher = batching and Batcher(batching, self._run)
        self.batches = self._batcher.sizes if batching else []

    def close(self):
        """Frees it, after the requests that run."""
        if self._batcher:
            self._batcher.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._running)
            self._session.close()

    def predict(self, name, inputs, output_filter=()):
        """Answers a Predict request.

        Args:
            name: The signature.
            inputs: Input name -> array.
            output_filter: Outputs that are wanted; all if empty.

        Returns:
            Output name -> array.

        Raises:
            Refused: As TF Serving does.
        """
        signature = self.signatures.get(name)
        if signature is None:
            raise Refused(
                "FAILED_PRECONDITION", f'Serving signature key "{name}" not found.'
            )
        _check_inputs(signature, inputs)
        wanted = list(output_filter)
        for alias in wanted:
            if alias not in signature.outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {alias} Outputs "
                    f"expected to be in the set {_set(signature.outputs)}."
                )
        if len(set(wanted)) < len(wanted):
            twice = next(alias for alias in wanted if wanted.count(alias) > 1)
            raise invalid(f"duplicate output tensor alias: {twice}")
        self.rows.append({array.shape[0] for array in inputs.values() if array.ndim})
        return self._ask(name, inputs, wanted or list(signature.outputs))

    def classify(self, name, examples):
        """For each serialized tf.Example a list of (label, score)."""
        signature = self._of_examples(name)
        outputs = [key for key in ("classes", "scores") if key in signature.outputs]
        if "inputs" not in signature.inputs:
            raise Refused(
                "FAILED_PRECONDITION",
                f"No classification inputs found in SignatureDef: {signature}",
            )
        if not outputs:
            raise Refused(
                "FAILED_PRECONDITION",
                "Expected classification signature outputs to contain at least one of "
                f'"classes" or "scores". Signature was: {signature}',
            )
        found = self._ask(name, _examples(examples), outputs)
        rows = []
        for row in range(len(examples)):
            labels = found["classes"][row] if "classes" in found else None
            scores = found["scores"][row] if "scores" in found else None
            count = len(labels if labels is not None else scores)
            labels = [b""] * count if labels is None else labels
            scores = [0.0] * count if scores is None else scores
            rows.append(list(zip(labels, scores)))
        return rows

    def regress(self, name, examples):
        """For each serialized tf.Example a number."""
        signature = self._of_examples(name)
        for side in ("inputs", "outputs"):  # each has the one of its own name
            if side not in getattr(signature, side):
                raise Refused(
                    "FAILED_PRECONDITION",
                    f"No regression {side} found in SignatureDef: {signature}",
                )
        values = self._ask(name, _examples(examples), ["outputs"])["outputs"]
        if values.shape not in [(len(examples),), (len(examples), 1)]:
            raise invalid(
                "Expected output Tensor shape to be either [batch_size] or "
                f"[batch_size, 1] but got {list(values.shape)}"
            )
        return values.ravel()

    def signature_map(self):
        """What the server tells of the model."""
        found = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in self.signatures.items():
            found.signature_def[name].CopyFrom(signature)
        return found

    def _of_examples(self, name):
        signature = self.signatures.get(name)
        if signature is None:
            raise invalid(f"No signature was found with the name: {name}")
        if len(signature.inputs) != 1:
            raise invalid("Expected one input Tensor.")
        return signature

    def _ask(self, name, inputs, outputs):
        """Runs a request, in a batch if it asks for all outputs of its signature."""
        for key, array in inputs.items():
            if array.dtype not in DTYPES:
                raise Refused(
                    "UNIMPLEMENTED", f"{key}: the stand-in has no {array.dtype}"
                )
        if name not in self._session.signatures:
            raise Refused("UNIMPLEMENTED", f"the stand-in does not run {name}")
        signature = self.signatures[name]
        inputs = {signature.inputs[key].name: array for key, array in inputs.items()}
        is_whole = set(outputs) == set(signature.outputs)
        run = self._batcher.run if self._batcher and is_whole else self._run
        return run((name, frozenset(outputs)), inputs)

    def _run(self, key, inputs):
        """Outputs of `(signature, outputs)`, of inputs by the names of tensors."""
        name, outputs = key
        # To `Session`, each combination of types is a signature of its own.
        asked = key, tuple((tensor, a.dtype) for tensor, a in sorted(inputs.items()))
        if asked not in self._session.signatures:
            known = self._session.signatures[name]["outputs"]
            self._session.signatures[asked] = {
                "inputs": {tensor: (tensor, dtype, None) for tensor, dtype in asked[1]},
                "outputs": {output: known[output] for output in sorted(outputs)},
            }
        with self._changed:
            self._running += 1
        try:
            return self._session.run(asked, inputs)
        except RuntimeError as error:
            raise Refused.by_tensorflow(error) from None
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()


def _check_inputs(signature, inputs):
    sent, needed = set(inputs), set(signature.inputs)
    if len(sent) != len(needed):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(needed)} "
            f"len({_set(sent)}) != len({_set(needed)}). Sent extra: "
            f"{_set(sent - needed)}. Missing but required: {_set(needed - sent)}."
        )
    for alias in sorted(needed - sent):
        place = signature.inputs[alias].name
        raise invalid(
            f"Signature input alias: {alias}(feed name: {place}) not found in request "
            "and no default value provided. Inputs expected to be in the request "
            f"{_set(sent)}, or default input alias set: "
        )


def _set(names):
    return f"{{{','.join(sorted(names))}}}"


def _examples(examples):
    if not examples:
        raise invalid("Input is empty.")
    return {"inputs": np.array(examples, object)}
