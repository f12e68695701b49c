"""A weight for each field, computed from the means of all fields."""

from typing import Any

import keras

from edcn_tf.checks import check_least
from edcn_tf.layers.gates.gate import Gate

OUTPUT_ACTIVATIONS = ("sigmoid", "relu")


@keras.saving.register_keras_serializable(package="edcn_tf")
class SqueezeExcitationGate(Gate):
    """Weighs fields by what their means tell of each other, each row by its own.

        z_f = mean of x_f's components              squeeze, z in R^F
        A = s2(W2 ReLU(W1 z))                       excitation
        y_f = A_f x_f                               re-weighting
        y_f = 2 A_f x_f                             the same with `scale`

    with W1 in R^{s x F}, W2 in R^{F x s}, s = max(1, floor(F / reduction)).

    Args:
        reduction: F over the number s of hidden units.
        output_activation: s2. `"sigmoid"`, as in Hu et al.: weights between 0 and 1
            that start near 1/2, or twice that with `scale`. `"relu"`, as in public code
            of FiBiNET, whose paper leaves s2 open: weights have no upper bound, but
            start as small as the embeddings, and a field whose weight is 0 for all
            rows is lost, with no gradient to bring it back. That is why it is not the
            default.
        scale: Whether to double the sigmoid, so that weights start near 1: a gate a
            layer that halves what it is given leaves little of it after three, with
            bridges that multiply the more so. The papers have no such factor.
        kernel_initializer: Keras initializer of W1 and W2.
        field_widths: Widths of fields of unequal width (`Gate`).

    Input shape:
        `[B, F, D]`, or `[B, d]` with `field_widths`.

    Output shape:
        The same.

    Example:
        >>> SqueezeExcitationGate(reduction=2)(np.ones((2, 6, 4))).shape
        TensorShape([2, 6, 4])

    Raises:
        ValueError: For a `reduction` below 1 or an unknown `output_activation`.

    Reference:
        Huang et al. 2019 (FiBiNET), the SENET layer, after Hu et al. 2018
        (squeeze-and-excitation networks).
    """

    def __init__(
        self,
        reduction: int = 3,
        *,
        output_activation: str = "sigmoid",
        scale: bool = True,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least("reduction", reduction, 1)
        if output_activation not in OUTPUT_ACTIVATIONS:
            raise ValueError(
                f"`output_activation` must be one of {list(OUTPUT_ACTIVATIONS)}. "
                f"Received: {output_activation!r}"
            )
        self.reduction = reduction
        self.output_activation = output_activation
        self.scale = scale
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build_weights(self):
        fields = len(self.widths)
        units = max(1, int(fields / self.reduction))
        self.reduce = self._dense("reduce", fields, units, "relu")
        self.expand = self._dense("expand", units, fields, self.output_activation)

    def _dense(self, name, inputs, units, activation):
        layer = keras.layers.Dense(
            units,
            activation=activation,
            use_bias=False,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((None, inputs))
        return layer

    def weights_of(self, flat):
        means = self.means_of_fields(flat)  # [B, F]
        weights = self.expand(self.reduce(means))
        if self.scale and self.output_activation == "sigmoid":
            weights *= 2
        return self.of_components(weights)  # [B, d]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "output_activation": self.output_activation,
            "scale": self.scale,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
