"""A weight for each component, computed from the input or from a context."""

from typing import Any

import keras

from edcn_tf.checks import check_least
from edcn_tf.layers.gates.gate import Gate


@keras.saving.register_keras_serializable(package="edcn_tf")
class LHUCGate(Gate):
    """Weighs components by a small network's amplitudes, each row by its own.

        a = 2 sigmoid(V ReLU(U c + b) + e)          U in R^{h x k}, V in R^{d x h}
        y = a * x                                   a in R^d, each between 0 and 2

    where c is the context or, without one, x itself.

    V and e start as zeros, so that the gate starts as the identity, a = 1, whatever the
    scale of c: LHUC's own start. That costs U and b the gradient of the first step
    only; V has one from the start, and theirs follows it.

    Args:
        hidden_units: h; `max(1, d // 4)` if `None`, which without a context makes the
            two matrices together half as large as one d x d matrix.
        kernel_initializer: Keras initializer of U.
        field_widths: Widths of fields of unequal width (`Gate`).

    Call arguments:
        inputs: `[B, F, D]`, or `[B, d]` with `field_widths`.
        context: `[B, k]`, such as the embeddings of the user and of the scene, or
            `None`; with one in all calls or in none. Gradients flow into it.

    Output shape:
        That of `inputs`.

    Example:
        >>> gate = LHUCGate(hidden_units=8)
        >>> gate(np.ones((2, 3, 4)), context=np.ones((2, 5))).shape
        TensorShape([2, 3, 4])

    Raises:
        ValueError: For `hidden_units` below 1, or a context that is not `[B, k]`.

    Reference:
        Swietojanski and Renals 2014 (LHUC), where the amplitudes are free parameters of
        each speaker; computed by a network of two layers in recommenders, as the Gate
        NU of Chang et al. 2023 (PEPNet).
    """

    takes_context = True

    def __init__(
        self,
        hidden_units: int | None = None,
        *,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if hidden_units is not None:
            check_least("hidden_units", hidden_units, 1)
        self.hidden_units = hidden_units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    # Keras finds the shapes by the names of the arguments of `call`.
    def build(self, inputs_shape, context_shape=None):
        if context_shape is not None and len(context_shape) != 2:
            raise ValueError(
                f"Expected a context of shape [B, k]. Received: {tuple(context_shape)}"
            )
        self.context_width = context_shape and context_shape[1]
        super().build(inputs_shape)

    def build_weights(self):
        width = sum(self.widths)
        units = self.hidden_units or max(1, width // 4)
        self.hidden = keras.layers.Dense(
            units,
            activation="relu",
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name="hidden",
        )
        self.hidden.build((None, self.context_width or width))
        self.amplitude = keras.layers.Dense(
            width,
            activation="sigmoid",
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="amplitude",
        )
        self.amplitude.build((None, units))

    def weights_of(self, context):
        """Weights of the components, `[B, d]`; the context may be the flat inputs."""
        return 2 * self.amplitude(self.hidden(context))

    def call(self, inputs, context=None):
        flat = self.flat(inputs)
        weights = self.weights_of(flat if context is None else context)  # [B, d]
        return self.shaped_as(inputs, flat * weights)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_units": self.hidden_units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
