"""Models from ids to the probability of a click."""

import keras
import numpy as np
from keras import ops

from edcn_tf.distribution import DistributedTraining
from edcn_tf.layers import Bridge, Cross, Deep, FieldEmbedding, FieldGate
from edcn_tf.vocabulary import FeatureSpec

GATES = ("softmax", "none")


class ClickModel(DistributedTraining, keras.Model):
    """What every model here shares: ids in, a probability out, a config that saves.

    A subclass makes its layers in `__init__`, among them `embedding`, builds them in
    `build`, and gives `logits_of_fields`.

    Input shape:
        ids `[B, S]` int32 (`Encoder`, `read_records`).

    Output shape:
        `[B, 1]` float32: the probability of a click.
    """

    def __init__(self, spec, **kwargs):
        super().__init__(**kwargs)
        if isinstance(spec, FeatureSpec):
            # A model that is loaded has the counts among its weights.
            self.row_counts = spec.row_counts()
            spec = {"fields": spec.layout(), "num_rows": spec.num_rows}
        else:
            self.row_counts = None
        self.spec = spec

    def _field_embedding(self, embedding_dim, l2, initializer, unseen_rate=0.0):
        return FieldEmbedding(
            self.spec["fields"],
            self.spec["num_rows"],
            embedding_dim,
            l2=l2,
            row_counts=self.row_counts,
            unseen_rate=unseen_rate,
            embeddings_initializer=initializer,
            dtype=self.dtype_policy,
            name="embedding",
        )

    def logits_of_fields(self, fields, training=False):
        """Log odds of a click, `[B, 1]` float32, from embeddings `[B, F, D]`."""
        raise NotImplementedError

    def logits_of_candidates(self, shared, own, is_own):
        """Log odds of B * N rows, of which N at a time share some of their fields.

        For inference: equal to `logits_of_fields` of the rows put together.

        Args:
            shared: `[B, F_s, D]`, embeddings that the N rows of a user share.
            own: `[B * N, F_c, D]`, those that each row has for itself.
            is_own: F booleans: of which of the two each field is, in their order.

        Returns:
            `[B * N, 1]` float32.
        """
        return self.logits_of_fields(_together(shared, own, is_own))

    def logits(self, ids, training=False):
        """Log odds of a click, `[B, 1]` float32."""
        fields = self.embedding(ids, training=training)  # [B, F, D]
        return self.logits_of_fields(fields, training=training)

    def gates(self):
        """Weights that fields are multiplied by: name -> tensor `[L, F]`."""
        return {}

    def call(self, ids, training=False):
        # In float32 whatever the policy: half precision cannot tell small
        # probabilities apart. Keras' loss recognizes the sigmoid and takes its logits.
        return ops.sigmoid(self.logits(ids, training=training))

    def make_train_function(self, force=False):
        # Made while the first step is traced, as Keras would, table and slots would
        # be drawn at once and then be copied: two or three times a table's memory.
        if not self.built:
            self.build((None, self.embedding.num_slots))
        self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 1)

    def get_config(self):
        return {**super().get_config(), "spec": self.spec}


@keras.saving.register_keras_serializable(package="edcn_tf")
class LogisticRegression(ClickModel):
    """One weight for each row of the table: the model to beat.

        p = sigmoid(b + sum over fields f of w[id_f])

    Args:
        spec: `FeatureSpec`.
        l2: Strength of the L2 by inverse frequency (`FieldEmbedding`).
    """

    def __init__(self, spec, *, l2=0.0, **kwargs):
        super().__init__(spec, **kwargs)
        self.l2 = l2
        self.embedding = self._field_embedding(1, l2, "zeros")

    def build(self, input_shape):
        self.embedding.build(input_shape)
        self.bias = self.add_weight(
            name="bias", shape=(1,), initializer="zeros", autocast=False
        )
        self.built = True

    def logits_of_fields(self, fields, training=False):
        return ops.sum(ops.cast(fields, "float32"), axis=1) + self.bias

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable(package="edcn_tf")
class EDCN(ClickModel):
    """Enhanced Deep & Cross Network: two towers, joined after every layer.

        E = embedding(ids)                                        [B, F, D]
        for each layer l:
            c, d = cross gate_l(E_l), deep gate_l(E_l)            E_0 = E
            x_l = cross_l(x_0, c),  h_l = deep_l(d)               x_0 = c of layer 0
            f_l = bridge_l(x_l, h_l)
            E_{l+1} = f_l as [B, F, D]
        p = sigmoid(w . [x_L, h_L, f_L] + b)

    Where the paper, its authors' code and other implementations disagree, an argument
    decides, and `PRESETS` name their choices. The defaults are those that measured
    best on small public data.

    Args:
        spec: `FeatureSpec`.
        embedding_dim: Width D of each field's embedding.
        num_layers: Layers of each tower, L.
        bridge: Kind of bridge, one of `edcn_tf.layers.bridge.KINDS`.
        bridge_shared_weights: Whether the attention bridges use one set of weights
            for both towers.
        gate: `"softmax"` (`FieldGate`) or `"none"`.
        temperature: tau of the gates.
        gate_scale: Whether gates have the mean 1 rather than the sum 1.
        gate_batch_norm: BatchNorm after each gate: `None`, `"scalar"`, `"feature"`.
        deep_batch_norm: Whether the deep layers normalize.
        activation_first: Whether the deep layers apply ReLU before the matrix.
        dropout: Share of the deep layers' outputs that training sets to 0.
        unseen_rate: Share of the ids that training replaces by their field's unseen
            row.
        l2: Strength of the L2 by inverse frequency on the embeddings of a batch.
        embeddings_initializer: Keras initializer of the table.

    Raises:
        ValueError: For a value out of its range, with the range.

    Example:
        >>> model = EDCN(spec, embedding_dim=16, num_layers=3)
        >>> model.compile(edcn_tf.SparseAdam(1e-3), "binary_crossentropy")

    Reference:
        Chen et al. 2021, "Enhancing Explicit and Implicit Feature Interactions via
        Information Sharing for Parallel Deep CTR Models", equations 6 to 9.
    """

    def __init__(
        self,
        spec,
        *,
        embedding_dim=16,
        num_layers=2,
        bridge="hadamard",
        bridge_shared_weights=False,
        gate="softmax",
        temperature=1.0,
        gate_scale=True,
        gate_batch_norm=None,
        deep_batch_norm=False,
        activation_first=False,
        dropout=0.3,
        unseen_rate=0.05,
        l2=10.0,
        embeddings_initializer=None,
        **kwargs,
    ):
        super().__init__(spec, **kwargs)
        if num_layers < 1:
            raise ValueError(f"`num_layers` must be at least 1. Received: {num_layers}")
        if gate not in GATES:
            raise ValueError(f"`gate` must be one of {list(GATES)}. Received: {gate!r}")
        self.options = {
            "embedding_dim": embedding_dim,
            "num_layers": num_layers,
            "bridge": bridge,
            "bridge_shared_weights": bridge_shared_weights,
            "gate": gate,
            "temperature": temperature,
            "gate_scale": gate_scale,
            "gate_batch_norm": gate_batch_norm,
            "deep_batch_norm": deep_batch_norm,
            "activation_first": activation_first,
            "dropout": dropout,
            "unseen_rate": unseen_rate,
            "l2": l2,
            "embeddings_initializer": keras.initializers.serialize(
                keras.initializers.get(
                    embeddings_initializer
                    or keras.initializers.RandomNormal(stddev=0.1)
                )
            ),
        }
        self.num_layers = num_layers
        self.embedding = self._field_embedding(
            embedding_dim,
            l2,
            self.options["embeddings_initializer"],
            unseen_rate,
        )
        self.cross_gates, self.deep_gates = [], []
        self.crosses, self.deeps, self.bridges = [], [], []
        policy = self.dtype_policy
        for layer in range(num_layers):
            if gate == "softmax":
                for tower, gates in [
                    ("cross", self.cross_gates),
                    ("deep", self.deep_gates),
                ]:
                    gates.append(
                        FieldGate(
                            temperature,
                            scale=gate_scale,
                            batch_norm=gate_batch_norm,
                            dtype=policy,
                            name=f"{tower}_gate_{layer}",
                        )
                    )
            self.crosses.append(Cross(dtype=policy, name=f"cross_{layer}"))
            self.deeps.append(
                Deep(
                    activation_first=activation_first,
                    batch_norm=deep_batch_norm,
                    dropout=dropout,
                    dtype=policy,
                    name=f"deep_{layer}",
                )
            )
            self.bridges.append(
                Bridge(
                    bridge,
                    shared_weights=bridge_shared_weights,
                    dtype=policy,
                    name=f"bridge_{layer}",
                )
            )
        self.output_layer = keras.layers.Dense(1, dtype=policy, name="output")

    @classmethod
    def from_preset(cls, spec, preset, **options):
        """An EDCN with the choices of one of `PRESETS`, changed by `options`."""
        if preset not in PRESETS:
            raise ValueError(
                f"`preset` must be one of {list(PRESETS)}. Received: {preset!r}"
            )
        return cls(spec, **{**PRESETS[preset], **options})

    def build(self, input_shape):
        self.embedding.build(input_shape)
        fields = self.embedding.compute_output_shape(input_shape)  # (B, F, D)
        self.fields_shape = fields[1:]
        width = fields[1] * fields[2]
        for gate in self.cross_gates + self.deep_gates:
            gate.build(fields)
        for deep in self.deeps:
            deep.build((None, width))
        for pair in self.crosses + self.bridges:
            pair.build((None, width), (None, width))
        self.output_layer.build((None, 3 * width))
        self.built = True

    def logits_of_fields(self, fields, training=False):
        x0, h = self._gated(0, fields, training)
        return self._towers(x0, h, training)

    def logits_of_candidates(self, shared, own, is_own):
        if any(gate.batch_norm for gate in self.deep_gates[:1]):
            return super().logits_of_candidates(shared, own, is_own)
        # A matrix times two parts side by side is a sum, one term of which the rows
        # share: half of the work of two layers, where most fields are shared.
        deep = self.deeps[0]
        shared_in, own_in = self._gated_parts(self.deep_gates, shared, own, is_own)
        if deep.activation_first:
            shared_in, own_in = ops.relu(shared_in), ops.relu(own_in)
        width = own.shape[2]
        kernel = [
            deep.dense.kernel[start * width : end * width]
            for mine, start, end in _runs(is_own)
            if mine
        ]
        kernel = kernel[0] if len(kernel) == 1 else ops.concatenate(kernel)
        kernel = ops.cast(kernel, own.dtype)
        hidden = ops.matmul(ops.reshape(own_in, (-1, kernel.shape[0])), kernel)
        absent = ops.zeros((ops.shape(shared)[0], *own.shape[1:]), own.dtype)
        shared_in = _together(shared_in, absent, is_own)  # [B, F, D]
        shared_in = ops.reshape(shared_in, (-1, len(is_own) * width))
        hidden = _plus(hidden, deep.dense(shared_in))
        shared_in, own_in = self._gated_parts(self.cross_gates, shared, own, is_own)
        x0 = _together(shared_in, own_in, is_own)
        x0 = ops.reshape(x0, (-1, len(is_own) * width))
        return self._towers(x0, deep.after_dense(hidden))

    def _gated_parts(self, gates, shared, own, is_own):
        """The first of these gates on fields that are in two parts."""
        if not gates:
            return shared, own
        mine = np.array(is_own)
        weights = ops.cast(gates[0].weights_of_fields(), own.dtype)[:, None]
        return (
            shared * ops.take(weights, np.flatnonzero(~mine), axis=0),
            own * ops.take(weights, np.flatnonzero(mine), axis=0),
        )

    def _gated(self, layer, fields, training):
        """What enters the cross layer and what leaves the deep one, `[B, F * D]`."""
        deep, width = self.deeps[layer], fields.shape[1] * fields.shape[2]
        flat = ops.reshape(fields, (-1, width))
        if not self.cross_gates:
            return flat, deep(flat, training=training)
        gate = self.deep_gates[layer]
        if training and not gate.batch_norm:  # where a batch is larger than a matrix
            weights = ops.repeat(gate.weights_of_fields(), fields.shape[2])
            h = deep(flat, weights, training=training)
        else:
            gated = gate(fields, training=training)
            h = deep(ops.reshape(gated, (-1, width)), training=training)
        gated = self.cross_gates[layer](fields, training=training)
        return ops.reshape(gated, (-1, width)), h

    def _towers(self, x0, h, training=False):
        """From what enters the first cross layer and what leaves the first deep one.

        x0 stays that of the first layer in every layer.
        """
        x = self.crosses[0](x0, x0)
        f = self.bridges[0](x, h)
        for layer in range(1, self.num_layers):
            fields = ops.reshape(f, (-1, *self.fields_shape))
            cross_in, h = self._gated(layer, fields, training)
            x = self.crosses[layer](x0, cross_in)
            f = self.bridges[layer](x, h)
        # The output layer on [x, h, f], without the copy that puts them side by side.
        logits = ops.cast(self.output_layer.bias, "float32")
        kernels = ops.split(self.output_layer.kernel, 3)
        for tower, kernel in zip((x, h, f), kernels):
            part = ops.matmul(tower, ops.cast(kernel, tower.dtype))  # [B, 1]
            logits += ops.cast(part, "float32")
        return logits

    def gates(self):
        """The weights of fields in each layer: `"cross"` and `"deep"`, `[L, F]`."""
        return {
            tower: ops.stack([gate.weights_of_fields() for gate in gates])
            for tower, gates in [("cross", self.cross_gates), ("deep", self.deep_gates)]
            if gates
        }

    def get_config(self):
        return {**super().get_config(), **self.options}


# The choices of those who have published EDCN; facts and figures from each source.
PRESETS = {
    "default": {},
    # Chen et al. 2021, section 5: D 40, three layers, BatchNorm in the deep layers.
    "paper": {
        "embedding_dim": 40,
        "num_layers": 3,
        "gate_scale": False,
        "deep_batch_norm": True,
        "dropout": 0.1,
        "unseen_rate": 0.0,
        "l2": 0.0,
    },
    # The authors' MindSpore code: D 80, one-channel BatchNorm after each gate, ReLU
    # before the matrix.
    "mindspore": {
        "embedding_dim": 80,
        "num_layers": 3,
        "gate_scale": False,
        "gate_batch_norm": "scalar",
        "activation_first": True,
        "dropout": 0.1,
        "unseen_rate": 0.0,
        "l2": 0.0,
    },
    # FuxiCTR as benchmarked by BARS on Criteo_x1: D 10, tau 20, BatchNorm after each
    # gate.
    "bars": {
        "embedding_dim": 10,
        "num_layers": 3,
        "temperature": 20.0,
        "gate_scale": False,
        "gate_batch_norm": "feature",
        "dropout": 0.0,
        "unseen_rate": 0.0,
        "l2": 0.0,
    },
}


def _together(shared, own, is_own):
    """`[B * N, F, D]` of fields that N rows share and fields of their own."""
    shared = _repeated(shared, own)
    taken, parts = [0, 0], []
    for mine, start, end in _runs(is_own):
        first = taken[mine]
        taken[mine] += end - start
        parts.append((shared, own)[mine][:, first : taken[mine]])
    return ops.concatenate(parts, axis=1)


def _runs(flags):
    """(flag, start, end) of each run of equal flags."""
    ends = [i for i in range(1, len(flags)) if flags[i] != flags[i - 1]]
    for start, end in zip([0, *ends], [*ends, len(flags)]):
        yield flags[start], start, end


def _repeated(shared, own):
    """Each row of B as often as there are rows of `own` for it."""
    rows = ops.maximum(ops.shape(shared)[0], 1)
    return ops.repeat(shared, ops.shape(own)[0] // rows, axis=0)


def _plus(rows, shared):
    """`[B * N, d]` plus what each N of them share, `[B, d]`."""
    batch, width = ops.shape(shared)[0], rows.shape[-1]
    number = ops.shape(rows)[0] // ops.maximum(batch, 1)
    total = ops.reshape(rows, (batch, number, width)) + shared[:, None]
    return ops.reshape(total, (-1, width))
