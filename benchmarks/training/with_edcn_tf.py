"""The benchmark's network by this library."""

import json

import tensorflow as tf
from workload import LEARNING_RATE, STEPS, arguments, batches, take_turns

import edcn_tf

PLAIN = {"dropout": 0.0, "unseen_rate": 0.0, "l2": 0.0}


def main():
    args = arguments()
    options = {**PLAIN, **json.loads(args.options)}
    ids, labels = batches(args)
    values = args.rows // args.fields
    fields = [
        {"name": f"C{field}", "slots": 1, "pooling": "mean"}
        for field in range(args.fields)
    ]
    average_decay = options.pop("average_decay", None)
    model = edcn_tf.EDCN(
        {"fields": fields, "num_rows": args.rows},
        embedding_dim=args.width,
        num_layers=args.layers,
        **options,
    )
    model.compile(
        edcn_tf.SparseAdam(LEARNING_RATE, average_decay=average_decay),
        "binary_crossentropy",
        steps_per_execution=STEPS,
    )
    offsets = values * tf.range(args.fields)
    data = tf.data.Dataset.from_tensor_slices((ids, labels))
    data = data.map(lambda ids, labels: (ids + offsets, labels[:, None]))
    data = data.cache().repeat().prefetch(tf.data.AUTOTUNE)

    def train(steps):
        model.fit(data, steps_per_epoch=steps, verbose=0)

    take_turns(train)


if __name__ == "__main__":
    main()
