"""A small SavedModel with every kind of signature, and rows for it."""

import tensorflow as tf

PARTS = [
    {"user": "ab", "tags": ["x", "yz"], "price": 5.0},
    {"user": None, "tags": [], "price": 1.5},
    {"user": "abc", "tags": ["☃☃"], "price": None},
]
CANDIDATES = [
    {"tags": ["x", "yz"], "price": 5.0},
    {"tags": None, "price": 2},
    {"tags": ["xyz"], "price": 1.0},
]


class Parts(tf.Module):
    """A model by hand with every kind of signature, whose numbers are easily told.

    A probability is the number of characters of the user and the tags, plus the price,
    over 100, plus for each candidate that of its item.
    """

    names = tf.constant([["user", "tags", "price"]])

    @staticmethod
    def parts(user, tags, price):
        lengths = tf.reduce_sum(tf.strings.length(tags), axis=-1)
        price = tf.where(tf.math.is_nan(price), 0.0, price)
        both = [tf.cast(x, tf.float32) for x in (tf.strings.length(user), lengths)]
        return tf.stack([*both, price], axis=-1) / 100

    @tf.function(autograph=False)
    def serving_default(self, user, tags, price):
        parts = self.parts(user, tags, price)
        return {"probability": tf.reduce_sum(parts, axis=1, keepdims=True)}

    @tf.function(autograph=False)
    def explain(self, user, tags, price):
        parts = self.parts(user, tags, price)
        rows = tf.shape(parts)[0]
        return {
            "probability": tf.reduce_sum(parts, axis=1, keepdims=True),
            "contributions": parts,
            "fields": tf.tile(self.names, [rows, 1]),
            "cross_gates": tf.ones([rows, 2, 3]),
        }

    @tf.function(autograph=False)
    def rank(self, user, tags, price):
        lengths = tf.reduce_sum(tf.strings.length(tags), axis=-1)  # [B, N]
        numbers = tf.cast(lengths + tf.strings.length(user)[:, None], tf.float32)
        return {"probability": (numbers + price) / 100}

    @tf.function(autograph=False)
    def slots(self, ids):
        """Does not hold its shape: one column counts for all three."""
        weighted = tf.cast(ids * [1, 2, 3], tf.float32)
        return {"probability": tf.reduce_sum(weighted, axis=-1, keepdims=True) / 100}

    @tf.function(autograph=False)
    def regress(self, inputs):
        parsed = tf.io.parse_example(
            inputs, {"price": tf.io.FixedLenFeature([], "float")}
        )
        return {"outputs": parsed["price"][:, None] / 100}

    @tf.function(autograph=False)
    def classify(self, inputs):
        p = self.regress(inputs)["outputs"]
        classes = tf.tile([["0", "1"]], [tf.shape(p)[0], 1])
        return {"classes": classes, "scores": tf.concat([1 - p, p], axis=1)}

    def save(self, path):
        """Writes it, as a version's directory."""
        text, number = tf.string, tf.float32
        one, two, three = ([None] * rank for rank in (1, 2, 3))
        spec = tf.TensorSpec
        row = {
            "user": spec(one, text, "user"),
            "tags": spec(two, text, "tags"),
            "price": spec(one, number, "price"),
        }
        ranked = {
            "user": row["user"],
            "tags": spec(three, text, "tags"),
            "price": spec(two, number, "price"),
        }
        inputs = {"inputs": spec(one, text, "inputs")}
        ids = spec([None, 3], tf.int32, "ids")
        signatures = {
            "serving_default": self.serving_default.get_concrete_function(**row),
            "explain": self.explain.get_concrete_function(**row),
            "rank": self.rank.get_concrete_function(**ranked),
            "slots": self.slots.get_concrete_function(ids),
            "regress": self.regress.get_concrete_function(**inputs),
            "classify": self.classify.get_concrete_function(**inputs),
        }
        tf.saved_model.save(self, str(path), signatures=signatures)
