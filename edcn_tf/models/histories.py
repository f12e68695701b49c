"""What looks at a user's history for the candidate, in its place among the fields."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from edcn_tf.models import ranking
from edcn_tf.models.click_model import ClickModel
from edcn_tf.tensors import Tensor


class Histories(ClickModel):
    """A model whose sequences may each have a layer of their own.

    A subclass gives `histories`: a `HistoryLayer` of each of the embedding's
    `sequences`, or none. With them, `fields` of `logits_of_fields` is a list: of the
    other fields, and for each sequence its history and mask (`FieldEmbedding`).
    """

    def _symbolic(self, shape: Sequence[Any]) -> tuple[Tensor, list[Any]]:
        """What the embedding gives, of these shapes, as tensors without numbers."""
        others, *sequences = shape
        return keras.KerasTensor(others, self.compute_dtype), [
            (
                keras.KerasTensor(history, self.compute_dtype),
                keras.KerasTensor(mask, bool),
            )
            for history, mask in sequences
        ]

    def _logits_of_histories(
        self, shared: Sequence[Any], own: Sequence[Any], is_own: Sequence[bool]
    ) -> Tensor:
        """`logits_of_candidates` where the user's history is judged for each."""
        (of_user, *sequences), *rest = shared
        unpooled = self.embedding.unpooled
        is_own_pooled = [
            mine
            for mine, field in zip(is_own, self.spec["fields"])
            if field["name"] not in unpooled
        ]
        fields = ranking.together(of_user, own[0], is_own_pooled, None)
        sequences = [
            [ranking.repeated(part, own[0]) for part in pair] for pair in sequences
        ]
        linear = ranking.together(rest[0], own[1], is_own, None) if rest else None
        return self.logits_of_fields([fields, *sequences], linear)

    def _with_histories(
        self, fields: Tensor, sequences: Sequence[Any], training: bool = False
    ) -> Tensor:
        """Puts what the history layers give in its place among the fields.

        Args:
            fields: `[B, F', D]`: the others.
            sequences: Of each layer the history `[B, T, P * D]` and the mask `[B, T]`.
            training: Whether this is training.

        Returns:
            `[B, F, D]`.
        """
        found, width = self._by_name(fields), fields.shape[2]
        for layer, group, (history, mask) in zip(
            self.histories, self.embedding.sequences, sequences
        ):
            candidate = self._candidate_of(group, found)
            pooled = layer(history, candidate, mask, training=training)
            if training:
                self.keep_losses(layer)
            pooled = ops.reshape(pooled, (-1, len(group), width))
            found |= {name: pooled[:, i : i + 1] for i, name in enumerate(group)}
        names = [field["name"] for field in self.spec["fields"]]
        return ops.concatenate([found[name] for name in names], axis=1)

    def _by_name(self, fields: Tensor) -> dict[str, Tensor]:
        """Name -> `[B, 1, D]` of the fields that are not left whole."""
        names = [field["name"] for field in self.spec["fields"]]
        others = [name for name in names if name not in self.embedding.unpooled]
        return {name: fields[:, i : i + 1] for i, name in enumerate(others)}

    def _candidate_of(
        self, group: Sequence[str], found: Mapping[str, Tensor]
    ) -> Tensor:
        """What a sequence and those along it are `of`, side by side: `[B, P * D]`."""
        of = {field["name"]: field.get("of") for field in self.spec["fields"]}
        # What is of no field, such as the time since, the candidate does not have.
        nothing = ops.zeros_like(found[of[group[0]]][:, 0])
        own = [found[of[name]][:, 0] if of[name] else nothing for name in group]
        return ops.concatenate(own, axis=1)

    def attention(self, ids: Tensor) -> dict[str, Tensor]:
        """How much each position of a history counts for a row; for inference.

        Args:
            ids: `[B, S]` int32.

        Returns:
            Name of the sequence -> `[B, T]`, of each whose layer has such weights.
        """
        if not self.histories:
            return {}
        others, *sequences = self.embedding(ids)
        found, weights = self._by_name(others), {}
        for layer, group, (history, mask) in zip(
            self.histories, self.embedding.sequences, sequences
        ):
            candidate = self._candidate_of(group, found)
            of_layer = layer.attention(history, candidate, mask)
            if of_layer is not None:
                weights[group[0]] = of_layer
        return weights
