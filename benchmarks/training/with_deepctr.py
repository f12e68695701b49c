"""The benchmark's network by DeepCTR's EDCN; run by a Python that has DeepCTR."""

import contextlib
import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before TensorFlow is imported

import tensorflow as tf
from deepctr.feature_column import SparseFeat
from deepctr.models import EDCN
from workload import LEARNING_RATE, arguments, batches, take_turns


def main():
    args = arguments()
    ids, labels = batches(args)
    names = [f"C{field}" for field in range(args.fields)]
    columns = [
        SparseFeat(name, args.rows // args.fields, embedding_dim=args.width)
        for name in names
    ]
    with contextlib.redirect_stdout(None):  # it prints while it builds
        model = EDCN(
            [],
            columns,
            cross_num=args.layers,
            bridge_type="hadamard_product",
            l2_reg_linear=0,
            l2_reg_embedding=0,
            l2_reg_cross=0,
        )
        model.compile(tf.keras.optimizers.Adam(LEARNING_RATE), "binary_crossentropy")
    columns = {name: ids[:, :, i].ravel() for i, name in enumerate(names)}
    data = tf.data.Dataset.from_tensor_slices((columns, labels.ravel()))
    data = data.batch(args.batch).cache().repeat().prefetch(tf.data.AUTOTUNE)

    def train(steps):
        model.fit(data, steps_per_epoch=steps, verbose=0)

    take_turns(train)


if __name__ == "__main__":
    main()
