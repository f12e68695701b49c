"""The factorization machine of DeepFM."""

import keras
from keras import ops

from edcn_tf.layers.explicit.explicit_layer import ExplicitLayer, check_fields


@keras.saving.register_keras_serializable(package="edcn_tf")
class FactorizationMachine(ExplicitLayer):
    """The sum of the products of all pairs of fields, in each component.

        y = sum_{i<j} e_i * e_j = ((sum_f e_f)^2 - sum_f e_f^2) / 2

    It has no weights. What the model reads out is the sum over the components, the
    second-order term of a factorization machine: sum_{i<j} <e_i, e_j>, a logit.

    Call arguments:
        x: `[B, F, D]`.

    Output shape:
        `[B, D]`.

    Example:
        >>> FactorizationMachine()(np.ones((2, 3, 4))).shape
        TensorShape([2, 4])

    Raises:
        ValueError: If x is not `[B, F, D]`.

    Reference:
        Rendle 2010 (Factorization Machines), lemma 3.1; Guo et al. 2017 (DeepFM),
        equation 2.
    """

    takes_fields = True
    is_single = True
    gives_logit = True

    def build(self, x_shape):
        check_fields(x_shape)
        self.built = True

    def call(self, x):
        of_sum = ops.square(ops.sum(x, axis=1))  # [B, D]
        return 0.5 * (of_sum - ops.sum(ops.square(x), axis=1))

    @staticmethod
    def read_out(outputs):
        return ops.sum(outputs[-1], axis=-1, keepdims=True)  # [B, 1]

    def compute_output_shape(self, x_shape):
        return (x_shape[0], x_shape[2])
