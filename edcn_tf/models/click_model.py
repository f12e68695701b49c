"""What every model here shares: from ids to the probability of a click."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import StrPath
from edcn_tf.layers import FieldEmbedding
from edcn_tf.models.distribution import DistributedTraining
from edcn_tf.models.ranking import together
from edcn_tf.tensors import Tensor


class ClickModel(DistributedTraining, keras.Model):
    """Ids in, a probability out, a config that saves.

    A subclass makes its layers in `__init__`, among them `embedding`, builds them in
    `build`, and gives `logits_of_fields`.

    Input shape:
        ids `[B, S]` int32 (`Encoder`, `read_records`).

    Output shape:
        `[B, 1]` float32: the probability of a click.
    """

    linear: FieldEmbedding | None = None  # of width 1, if there is a linear term

    def __init__(self, spec: FeatureSpec | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.row_counts: np.ndarray | None = None
        if isinstance(spec, FeatureSpec):
            # A model that is loaded has the counts among its weights.
            self.row_counts = spec.row_counts()
            spec = {"fields": spec.layout(), "num_rows": spec.num_rows}
        self.spec = spec

    def _field_embedding(
        self,
        embedding_dim: int | Sequence[int],
        l2: float,
        initializer: Any,
        **kwargs: Any,
    ) -> FieldEmbedding:
        options = {"dtype": self.dtype_policy, "name": "embedding", **kwargs}
        return FieldEmbedding(
            self.spec["fields"],
            self.spec["num_rows"],
            embedding_dim,
            l2=l2,
            row_counts=self.row_counts,
            embeddings_initializer=initializer,
            **options,
        )

    @property
    def embeddings(self) -> list[FieldEmbedding]:
        """The `FieldEmbedding`s: that of the fields, and that of the linear term."""
        return [self.embedding] + [self.linear] * (self.linear is not None)

    def logits_of_fields(
        self,
        fields: Tensor,
        linear: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """Log odds of a click, `[B, 1]` float32.

        Args:
            fields: Embeddings `[B, F, D]`, or `[B, d]` of unequal widths.
            linear: The linear term's `[B, F, 1]`, of a model that has one.
            training: Whether this is training.
        """
        raise NotImplementedError

    def logits_of_candidates(
        self,
        shared: Sequence[Tensor],
        own: Sequence[Tensor],
        is_own: Sequence[bool],
    ) -> Tensor:
        """Log odds of B * N rows, of which N at a time share some of their fields.

        For inference: equal to `logits_of_fields` of the rows put together.

        Args:
            shared: What `embed` gives of the fields that the N rows of a user share,
                B rows.
            own: What it gives of those that each row has for itself, B * N rows.
            is_own: F booleans: of which of the two each field is, in their order.

        Returns:
            `[B * N, 1]` float32.
        """
        rows = [
            together(of_user, of_row, is_own, embedding.widths)
            for of_user, of_row, embedding in zip(shared, own, self.embeddings)
        ]
        return self.logits_of_fields(*rows)

    def embed(self, ids: Tensor, names: Sequence[str]) -> list[Tensor]:
        """What `logits_of_fields` takes, of some of the fields alone; for inference.

        Args:
            ids: `[B, S']`, the slots of these fields side by side.
            names: Names of the fields, in that order.

        Returns:
            A list: embeddings, and the linear term's if there is one.
        """
        return [embedding.embed(ids, names) for embedding in self.embeddings]

    def logits(self, ids: Tensor, training: bool = False) -> Tensor:
        """Log odds of a click, `[B, 1]` float32."""
        embedded = []
        for embedding in self.embeddings:
            embedded.append(embedding(ids, training=training))
            self.keep_losses(embedding)
        # One tensor, or two of a model with a linear term.
        return self.logits_of_fields(*embedded, training=training)  # type: ignore[misc]

    def gates(self) -> dict[str, Tensor]:
        """Weights that fields are multiplied by, where all rows have the same.

        Returns:
            Name of the tower -> tensor `[L, F]`.
        """
        return {}

    def call(self, ids: Tensor, training: bool = False) -> Tensor:
        # In float32 whatever the policy: half precision cannot tell small
        # probabilities apart. Keras' loss recognizes the sigmoid and takes its logits.
        return ops.sigmoid(self.logits(ids, training=training))

    def make_train_function(self, force: bool = False) -> Any:
        # Made while the first step is traced, as Keras would, table and slots would
        # be drawn at once and then be copied: two or three times a table's memory.
        self._build_all()
        return super().make_train_function(force)

    def load_weights(self, filepath: StrPath, **kwargs: Any) -> None:
        # A new model has no shapes yet, though `spec` knows them, and Keras would pass
        # over the state of an optimizer that is not built.
        self._build_all()
        super().load_weights(filepath, **kwargs)

    def _build_all(self) -> None:
        with self.distribute_strategy.scope():
            if not self.built:
                self.build((None, self.embedding.num_slots))
            if self.compiled:
                self.optimizer.build(self.trainable_variables)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, int]:
        return (input_shape[0], 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "spec": self.spec}
