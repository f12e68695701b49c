"""The bridge that lets the two towers share what they found after each layer."""

from typing import Any

import keras
from keras import ops

from edcn_tf.checks import check_least
from edcn_tf.layers.softmax import softmax

EPSILON = 1e-6
KINDS = ("add", "hadamard", "concat", "attention", "attention_components")


@keras.saving.register_keras_serializable(package="edcn_tf")
class Bridge(keras.layers.Layer):
    """Joins the outputs x and h of two towers into one.

        add                   f = x + h
        hadamard              f = x * h
        concat                f = ReLU(W [x, h] + b)             W in R^{2d x d}
        attention             f = a_x x + a_h h                  a_x, a_h in R
                              (a_x, a_h) = softmax(s(x), s(h))
                              s(z) = p . ReLU(W z + b)           p in R^d
        attention_components  f = a(x) * x + a(h) * h            a(z) in R^d
                              a(z) = softmax(P ReLU(W z + b))    P in R^{d x d}

    With `scale`, the product of hadamard is as large as x, whatever the size of h:

        hadamard              f = x * h / sqrt(mean(h^2) + 1e-6)     mean over d

    Embeddings start small, so each product of the paper's formula is some ten times
    smaller than x, and after three layers too small to be learned from. (The divisor is
    that of RMSNorm, Zhang and Sennrich 2019.)

    The paper's text has the softmax run over the two towers' scores, which is
    `"attention"`; public implementations run it over the d components of each, which
    is `"attention_components"`. Whether x and h have weights W, b, p of their own is
    not said in the paper: they do, unless `shared_weights`.

    Towers of unequal width are projected to `units` by a matrix first, each that has
    another width, so that the deep tower can be a pyramid:

        x := P_x x,  h := P_h h          P in R^{d x units}; concat's W needs none

    Args:
        kind: One of the five above.
        units: Width of the output; `None` for that of x and h, which are then equal.
        scale: Whether the product is divided by the size of h. Only of hadamard.
        shared_weights: Whether the attention uses one set of weights for x and h.
        kernel_initializer: Keras initializer of W, p, P and the projections.

    Call arguments:
        x: `[B, d]`, the explicit tower's output.
        h: `[B, d]`, the deep tower's output; of another width only with `units`.

    Output shape:
        `[B, units]`.

    Example:
        >>> Bridge("concat")(np.ones((2, 8)), np.ones((2, 8))).shape
        TensorShape([2, 8])

    Raises:
        ValueError: For an unknown kind, `scale` with another than hadamard, or towers
            of unequal width without `units`.

    Reference:
        Chen et al. 2021 (EDCN), section 4.1.
    """

    def __init__(
        self,
        kind: str = "hadamard",
        *,
        units: int | None = None,
        scale: bool = False,
        shared_weights: bool = False,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {list(KINDS)}. Received: {kind!r}")
        if units is not None:
            check_least("units", units, 1)
        if scale and kind != "hadamard":
            raise ValueError(f"`scale` is of hadamard alone. Received: kind={kind!r}")
        self.kind = kind
        self.units = units
        self.scale = scale
        self.shared_weights = shared_weights
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, x_shape, h_shape):
        widths = {"x": x_shape[-1], "h": h_shape[-1]}
        width = self.units or widths["x"]
        if not self.units and widths["x"] != widths["h"]:
            raise ValueError(
                f"The bridge {self.kind!r} joins towers of the same width, unless "
                "`units` says to what width both are to be projected. "
                f"Received: {x_shape} and {h_shape}"
            )
        self.projections = {}
        if self.kind == "concat":
            self.joint = self._dense("joint", sum(widths.values()), width, "relu")
            self.built = True
            return
        for tower, own in widths.items():
            if own != width:
                self.projections[tower] = self._dense(
                    f"project_{tower}", own, width, use_bias=False
                )
        if self.kind.startswith("attention"):
            towers = ("both",) if self.shared_weights else ("x", "h")
            scores = 1 if self.kind == "attention" else width
            self.hidden = [
                self._dense(f"hidden_{tower}", width, width, "relu") for tower in towers
            ]
            self.score = [
                self._dense(f"score_{tower}", width, scores, use_bias=False)
                for tower in towers
            ]
        self.built = True

    def _dense(self, name, inputs, units, activation=None, **kwargs):
        layer = keras.layers.Dense(
            units,
            activation=activation,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
            **kwargs,
        )
        layer.build((None, inputs))
        return layer

    def call(self, x, h):
        if self.kind == "concat":
            return self.joint(ops.concatenate([x, h], axis=-1))
        x = self.projections["x"](x) if "x" in self.projections else x
        h = self.projections["h"](h) if "h" in self.projections else h
        if self.kind == "add":
            return x + h
        if self.kind == "hadamard":
            return x * h * _inverse_size(h) if self.scale else x * h
        score_x = self.score[0](self.hidden[0](x))  # [B, 1] or [B, d]
        score_h = self.score[-1](self.hidden[-1](h))
        if self.kind == "attention":
            weights = softmax(ops.concatenate([score_x, score_h], axis=-1))
            return weights[:, :1] * x + weights[:, 1:] * h
        return softmax(score_x) * x + softmax(score_h) * h

    def compute_output_shape(self, x_shape, h_shape):
        return (*x_shape[:-1], self.units or x_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kind": self.kind,
            "units": self.units,
            "scale": self.scale,
            "shared_weights": self.shared_weights,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _inverse_size(h):
    """One over the root mean square of the components, `[B, 1]`."""
    squares = ops.square(ops.cast(h, "float32"))
    size = ops.sqrt(ops.mean(squares, axis=-1, keepdims=True) + EPSILON)
    return ops.cast(1 / size, h.dtype)
