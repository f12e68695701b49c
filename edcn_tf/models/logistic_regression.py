"""The linear model, which every other has to beat."""

from typing import Any

import keras
from keras import ops

from edcn_tf.features.spec import FeatureSpec
from edcn_tf.models.click_model import ClickModel
from edcn_tf.tensors import Tensor


@keras.saving.register_keras_serializable(package="edcn_tf")
class LogisticRegression(ClickModel):
    """One weight for each row of the table: the model to beat.

        p = sigmoid(b + sum over fields f of w[id_f])

    Args:
        spec: `FeatureSpec`.
        l2: Strength of the L2 by inverse frequency (`FieldEmbedding`).
    """

    def __init__(
        self, spec: FeatureSpec | dict[str, Any], *, l2: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(spec, **kwargs)
        self.l2 = l2
        self.embedding = self._field_embedding(1, l2, "zeros")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.embedding.build(input_shape)
        self.bias = self.add_weight(
            name="bias", shape=(1,), initializer="zeros", autocast=False
        )
        self.built = True

    def logits_of_fields(
        self, fields: Tensor, linear: Tensor | None = None, training: bool = False
    ) -> Tensor:
        return ops.sum(ops.cast(fields, "float32"), axis=1) + self.bias

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2}
