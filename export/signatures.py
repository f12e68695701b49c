"""What an exported model answers to: its signatures, as TensorFlow functions."""

import tensorflow as tf

from edcn_tf.features.encoder import TF_DTYPES, Encoder, inner_shape
from edcn_tf.models import ClickModel

from .inputs import held, same_rows
from .scoring import Scoring

ANY_BITS = (-(2**31), 2**31, 0, False)  # of a slot: see `slot_ranges`
EXPLAINED_ROWS = 1024  # of one `explain` request, which scores each row F + 1 times


class Servable(tf.Module):
    """Variables, tables and signatures of a model; the Keras model stays out of it.

    TensorFlow would save a Keras 3 model so that it loads in Python and then fails
    every request to TF Serving, which restores no Keras variable. So only the plain
    variables that the signatures use are kept, once each.

    With B rows, S slots, F fields and N candidates, the signatures are:

    | name | inputs | outputs |
    |---|---|---|
    | `serving_default` | each field, `[B]` or `[B, length]` | `probability` `[B, 1]` |
    | `examples` | `inputs`: tf.Examples, `[B]` | `probability` `[B, 1]` |
    | `classify` | the same | `classes`, `scores` `[B, 2]`: of "0" and "1" |
    | `regress` | the same | `outputs` `[B, 1]`: the probability |
    | `fresh` | as `serving_default`, and each statistic | `probability` `[B, 1]` |
    | `ids` | `ids` `[B, S]` int32 | `probability` `[B, 1]` |
    | `rank` | the same, a candidate's fields `[B, N, ...]` | `probability` `[B, N]` |
    | `explain` | as `serving_default` | `probability` `[B, 1]`, `fields` and |
    | | | `contributions` `[B, F]`, of softmax gates `deep_gates` and |
    | | | `TOWER_gates` (EDCN: `cross_gates`) `[B, L, F]` |

    Fields that are crosses are no inputs. A statistic is one of `fresh` alone, and may
    be in a tf.Example: clicks and impressions of each of its levels, `[B, 2 * levels]`,
    which are taken in place of those that were counted; NaN for what is not known.

    A contribution is the probability less what it would be if that field's value were
    unseen (missing, for a number or a hashed field; nothing known, for a statistic); a
    cross or a statistic is a field of its own there, and stays where one of its parts
    goes.

    Inputs of another shape are refused by their names, and rows that wait for one
    another (`max_batch_size`) do so as ids, after all that can be wrong with a request
    and with one width, so that no request is refused for what another holds.

    `ids` runs on a GPU whole: no op of it lacks a GPU kernel (but for what counts the
    rounds of a recurrent layer's loop). Of its S slots a vector has one for its id,
    then the bits of its numbers (`Encoder`).

    Args:
        model: Ids to probability. `rank` is there if it is a `ClickModel` and some
            fields, but not all, are `candidate`.
        encoder: The `Encoder` of its `FeatureSpec`.
        calibration: The `Calibration` that makes of the model's probability the one
            that is served.
        max_batch_size: Rows of requests that are scored as one, at most (`Scoring`);
            by default each request is scored alone.
    """

    def __init__(self, model, encoder, calibration, max_batch_size=None):
        super().__init__(name="edcn_tf")
        self.encoder = encoder
        self.calibration = calibration
        scoring = Scoring(model, calibration, max_batch_size)
        self.served = {
            name: make_signature(name, encoder, scoring)
            for name in SIGNATURES
            if has_signature(name, model, encoder.spec.schema)
        }
        used = [v for f in self.served.values() for v in f.graph.variables]
        self.model_variables = list({id(v): v for v in used}.values())


def has_signature(name, model, schema):
    """Whether a model of a schema has the signature of that name."""
    if name == "fresh":
        return bool(schema.statistics)
    return name != "rank" or can_rank(model, schema)


def can_rank(model, schema):
    """Whether `rank` has something to do: fields of a user and of a candidate."""
    kinds = {field.candidate for field in schema.fields}
    return isinstance(model, ClickModel) and len(kinds) == 2


def rank_inputs(encoder):
    """Name -> `tf.TensorSpec`: as `Encoder.signature`, candidates' with N before."""
    inputs = {}
    for field in encoder.spec.schema.inputs:
        shape = [None] * (1 + field.candidate) + inner_shape(field)
        dtype = TF_DTYPES[field.dtype]
        inputs[field.name] = tf.TensorSpec(shape, dtype, name=field.name)
    return inputs


def slot_ranges(spec):
    """Of each slot: first id of its field, the end, the id for any other, if a list.

    Four lists of S. The id for any other is that of an unseen value, or, for a number,
    a vector or a hashed field, which have none, that of a missing one; of a statistic
    those of a key that nothing is known of. The numbers of a vector may be any, and 0
    where there are none.
    """
    slots = []
    for field in spec.fields:
        has_unseen = field.first_value > field.first_unseen
        other = field.first_unseen if has_unseen else field.offset
        slot = (field.offset, field.offset + field.rows, other, field.field.is_list)
        if field.field.is_vector:
            slots += [slot, *[ANY_BITS] * field.field.length]
        elif field.statistic:
            rate, shown = field.statistic.nothing_known()
            middle, end = field.first_value + field.statistic.rates, slot[1]
            slots += [
                (field.first_value, middle, field.offset + rate, False),
                (middle, end, field.offset + shown, False),
            ]
        else:
            slots += [slot] * field.field.slots
    return [list(column) for column in zip(*slots)]


def without_value(field, others):
    """What the slots of a field hold where its value is unseen: of a list, one value.

    Args:
        field: The `Field`.
        others: Of `slot_ranges`, those of its slots.
    """
    return others if field.is_statistic else [others[0], *[0] * (field.slots - 1)]


def fresh_inputs(encoder):
    """Name -> `tf.TensorSpec`: as `Encoder.signature`, and of each statistic."""
    inputs = encoder.signature()
    for field in encoder.spec.schema.statistics:
        shape = [None, 2 * len(field.counted)]
        inputs[field.name] = tf.TensorSpec(shape, tf.float32, name=field.name)
    return inputs


def _of_fields(inputs):
    """A signature over raw fields, of what inputs an encoder says: a probability."""

    def make(encoder, scoring):
        def of_fields(features):
            with tf.control_dependencies([same_rows(features)]):
                ids = encoder(features)
            return {"probability": scoring.together(ids)}

        return of_fields, inputs(encoder)

    return make


def _of_examples(outputs):
    """A signature over serialized tf.Examples: probability -> its outputs."""

    def make(encoder, scoring):
        def of_examples(inputs):
            features = tf.io.parse_example(inputs["inputs"], encoder.parsing())
            return outputs(scoring.together(encoder(features)))

        return of_examples, {"inputs": tf.TensorSpec([None], tf.string, name="inputs")}

    return make


def _classes(p):
    """Two outputs of these names: what TF Serving's classify API asks for."""
    classes = tf.tile(tf.constant([["0", "1"]]), [tf.shape(p)[0], 1])
    return {"classes": classes, "scores": tf.concat([1 - p, p], axis=1)}


def _ids(encoder, scoring):
    lows, highs, others, lists = slot_ranges(encoder.spec)
    lows, highs, others = (tf.constant(x, tf.int64) for x in (lows, highs, others))

    def of_ids(inputs):
        ids = inputs["ids"]
        # Out of range would be an error on a CPU and silently zeros on a GPU.
        legal = ((ids >= lows) & (ids < highs)) | ((ids == 0) & lists)
        return {"probability": scoring.together(tf.where(legal, ids, others))}

    slots = [None, encoder.spec.num_slots]
    return of_ids, {"ids": tf.TensorSpec(slots, tf.int32, name="ids")}


def _rank(encoder, scoring):
    """The user is encoded and embedded once, whatever the number of candidates.

    A cross, or a statistic, of a user's and a candidate's fields is made for each
    candidate.
    """
    schema = encoder.spec.schema
    fields = schema.fields
    users = [field.name for field in fields if not field.candidate]
    candidates = [field.name for field in fields if field.candidate]
    is_candidate = [field.candidate for field in fields]
    given = [field.name for field in schema.inputs if field.candidate]
    # What combinations of a user's and a candidate's fields have of the user.
    parts = {
        part
        for field in fields
        if field.candidate
        for part in (*field.parts, *field.counted)
    }
    repeated = sorted(parts - set(given))

    model = scoring.model

    def rank(features):
        shape = tf.shape(features[given[0]])[:2]  # B, N
        with tf.control_dependencies([same_rows(features, given)]):
            flat = {name: _merged(features[name]) for name in given}
            flat |= {n: tf.repeat(features[n], shape[1], axis=0) for n in repeated}
            user_ids = encoder(features, users)
        of_user = model.embed(user_ids, users)
        of_candidate = model.embed(encoder(flat, candidates), candidates)
        logits = model.logits_of_candidates(of_user, of_candidate, is_candidate)
        probability = tf.sigmoid(logits)
        return {"probability": tf.reshape(scoring.calibration(probability), shape)}

    return rank, rank_inputs(encoder)


def _explain(encoder, scoring):
    """Scores each row as it is, and with each field as if its value were unseen."""
    fields = encoder.spec.schema.fields
    left_out, others = [], []  # [F, S]: which slots; [S]: what stands there then
    _, _, unseen, _ = slot_ranges(encoder.spec)
    start = 0
    for field in fields:
        slots = range(start, start + field.slots)
        left_out.append([slot in slots for slot in range(len(unseen))])
        others += without_value(field, unseen[start : start + field.slots])
        start += field.slots
    names = [[field.name for field in fields]]

    def explain(features):
        with tf.control_dependencies([same_rows(features)]):
            ids = encoder(features)  # [B, S]
        rows = tf.shape(ids)[0]
        few = tf.debugging.Assert(
            rows <= EXPLAINED_ROWS,
            [f"explain takes at most {EXPLAINED_ROWS} rows; received", rows],
        )
        with tf.control_dependencies([few]):
            without = tf.where(left_out, others, ids[:, tf.newaxis])  # [B, F, S]
        everything = tf.concat([ids[:, tf.newaxis], without], axis=1)
        everything = tf.reshape(everything, [-1, ids.shape[1]])  # [B * (F + 1), S]
        scores = scoring(everything)
        scores = tf.reshape(scores, [-1, 1 + len(fields)])
        outputs = {
            "probability": scores[:, :1],
            "contributions": scores[:, :1] - scores[:, 1:],
            "fields": tf.tile(tf.constant(names), [rows, 1]),
        }
        model = scoring.model
        gates = model.gates() if isinstance(model, ClickModel) else {}
        for tower, weights in gates.items():
            weights = tf.cast(weights, tf.float32)[tf.newaxis]  # [1, L, F]
            outputs[f"{tower}_gates"] = tf.tile(weights, [rows, 1, 1])
        return outputs

    return explain, encoder.signature()


SIGNATURES = {
    "serving_default": _of_fields(Encoder.signature),
    "examples": _of_examples(lambda p: {"probability": p}),
    "classify": _of_examples(_classes),
    # One output of this name: what TF Serving's regress API asks for.
    "regress": _of_examples(lambda p: {"outputs": p}),
    "fresh": _of_fields(fresh_inputs),
    "ids": _ids,
    "rank": _rank,
    "explain": _explain,
}


def make_signature(name, encoder, scoring):
    """A signature as a concrete function, whose inputs have the shapes it states.

    Args:
        name: Of `SIGNATURES`.
        encoder: The `Encoder` of the model's `FeatureSpec`.
        scoring: The `Scoring` of the model.
    """
    function, inputs = SIGNATURES[name](encoder, scoring)

    def signature(**features):
        return function(held(features, inputs))

    signature.__name__ = name  # which the graph has from it
    return tf.function(signature, autograph=False).get_concrete_function(**inputs)


def _merged(value):
    """`[B, N]` -> `[B * N]`, `[B, N, length]` -> `[B * N, length]`."""
    if value.shape.rank == 2:
        return tf.reshape(value, [-1])
    shape = tf.shape(value)
    return tf.reshape(value, [shape[0] * shape[1], shape[2]])
