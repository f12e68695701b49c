"""The paper's regulation module: a learned weight for each field."""

from typing import Any

import keras
from keras import ops

from edcn_tf.layers.batch_norm import EPSILON, MOMENTUM, Gamma, check_batch_norm
from edcn_tf.layers.batch_norm import batch_norm as make_batch_norm
from edcn_tf.layers.gates.gate import Gate
from edcn_tf.layers.softmax import softmax

BATCH_NORMS = (None, "scalar", "feature")


@keras.saving.register_keras_serializable(package="edcn_tf")
class FieldGate(Gate):
    """Weighs fields by a softmax over one free parameter each.

    What the paper calls the regulation module of one tower in one layer:

        ghat = softmax(g / temperature)                      g in R^F
        y_f = F * ghat_f * x_f         with `scale`: weights of mean 1
        y_f = ghat_f * x_f             without: weights that sum to 1, as in the paper

    Without `scale` every layer shrinks the signal by about F. Public implementations
    repair that with a BatchNorm after the gate, which is `batch_norm` here.

    Args:
        temperature: tau; the smaller, the fewer fields pass.
        scale: Whether to multiply by F.
        batch_norm: `None`, `"scalar"` (one mean and variance for everything, as in
            the authors' MindSpore code) or `"feature"` (for each of the F * D
            components, as in FuxiCTR), after the gate.
        batch_norm_momentum, batch_norm_epsilon, batch_norm_gamma: That BatchNorm's
            (`edcn_tf.layers.batch_norm`).
        normalization: A `BatchNormalization` that several gates share, as in the
            authors' MindSpore code, in place of the gate's own. No part of the config.
        field_widths: Widths of fields of unequal width (`Gate`).

    Input shape:
        `[B, F, D]`, or `[B, d]` with `field_widths`.

    Output shape:
        The same.

    Example:
        >>> FieldGate(temperature=0.5)(np.ones((2, 3, 4))).shape
        TensorShape([2, 3, 4])

    Raises:
        ValueError: For a temperature that is not positive or an unknown `batch_norm`.

    Reference:
        Chen et al. 2021 (EDCN), equations 6 and 7. The paper says that ghat starts as
        1; the authors' code starts g as 1, which a softmax turns into 1 / F.
    """

    depends_on_input = False

    def __init__(
        self,
        temperature: float = 1.0,
        *,
        scale: bool = True,
        batch_norm: str | None = None,
        batch_norm_momentum: float = MOMENTUM,
        batch_norm_epsilon: float = EPSILON,
        batch_norm_gamma: Gamma = "ones",
        normalization: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if temperature <= 0:
            raise ValueError(f"`temperature` must be > 0. Received: {temperature}")
        if batch_norm not in BATCH_NORMS:
            raise ValueError(
                f"`batch_norm` must be one of {list(BATCH_NORMS)}. "
                f"Received: {batch_norm!r}"
            )
        check_batch_norm(batch_norm_momentum, batch_norm_epsilon, batch_norm_gamma)
        self.temperature = temperature
        self.scale = scale
        self.batch_norm = batch_norm
        self.batch_norm_momentum = batch_norm_momentum
        self.batch_norm_epsilon = batch_norm_epsilon
        self.batch_norm_gamma = batch_norm_gamma
        self.normalization = normalization

    def build_weights(self):
        fields = (len(self.widths),)
        self.gate = self.add_weight(name="gate", shape=fields, initializer="ones")
        if not self.batch_norm:
            return
        if self.normalization is None:
            self.normalization = make_batch_norm(
                self.dtype_policy,
                self.batch_norm_momentum,
                self.batch_norm_epsilon,
                self.batch_norm_gamma,
            )
        if not self.normalization.built:
            self.normalization.build((None, self._channels()))

    def _channels(self):
        return 1 if self.batch_norm == "scalar" else sum(self.widths)

    def weights_of_fields(self):
        """The weights that fields are multiplied by, `[F]`."""
        weights = softmax(self.gate / self.temperature)
        return weights * self.gate.shape[0] if self.scale else weights

    def weights_of(self, flat):
        return self.of_components(self.weights_of_fields())

    def call(self, inputs, training=False):
        outputs = super().call(inputs)
        if self.batch_norm is None:
            return outputs
        normalized = self.normalization(
            ops.reshape(outputs, (-1, self._channels())), training=training
        )
        return self.shaped_as(inputs, normalized)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "scale": self.scale,
            "batch_norm": self.batch_norm,
            "batch_norm_momentum": self.batch_norm_momentum,
            "batch_norm_epsilon": self.batch_norm_epsilon,
            "batch_norm_gamma": self.batch_norm_gamma,
        }
