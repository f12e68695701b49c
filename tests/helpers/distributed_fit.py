"""A process of test_distribution.py: `distributed_fit.py STRATEGY DATA OUT KIND`.

Fits a model and writes to OUT (.npz) what the test compares: the history, the weights,
the optimizer's state and what a step sends.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

import edcn_tf

BATCH_SIZE = 64
MODEL = {"embedding_dim": 4, "l2": 0.1, "dropout": 0.0, "unseen_rate": 0.0}
KINDS = {
    "edcn": {},
    "clipped": {},
    "normalized": {"gate_batch_norm": "feature", "deep_batch_norm": True},
    "mixed": {"dtype": "mixed_bfloat16"},
    "random": {"dropout": 0.3, "unseen_rate": 0.1},
    "adam": {},
    # With Dice, whose statistics are of the used positions of all replicas.
    "history": {"history": "din", "history_units": [4, 3]},
}


def compiled(spec, kind):
    keras.utils.set_random_seed(1)
    optimizer = edcn_tf.SparseAdam(
        1e-2,
        average_decay=0.9,
        global_clipnorm=0.3 if kind == "clipped" else None,
    )
    if kind == "adam":
        optimizer = keras.optimizers.Adam(1e-2)
    if kind == "linear":
        model = edcn_tf.LogisticRegression(spec, l2=0.1)
    else:
        model = edcn_tf.EDCN(spec, **{**MODEL, **KINDS[kind]})
    model.compile(
        optimizer,
        "binary_crossentropy",
        metrics=["auc"],
    )
    return model


def fit(data, kind, strategy=None):
    """Name -> array of what came out."""
    strategy = strategy or tf.distribute.get_strategy()
    spec = edcn_tf.FeatureSpec.load(f"{data}/features")
    with strategy.scope():
        model = compiled(spec, kind)
    train, valid = (
        edcn_tf.read_records(f"{data}/{split}-*", spec, BATCH_SIZE)
        for split in ("train", "valid")
    )
    history = model.fit(train, validation_data=valid, epochs=3, verbose=0).history
    out = {f"history/{name}": values for name, values in history.items()}
    for index, weight in enumerate(model.get_weights()):
        out[f"weight/{index}"] = weight
    for index, variable in enumerate(model.optimizer.variables):
        out[f"optimizer/{index}"] = variable.numpy()
    with edcn_tf.training.optimizers.averaged_weights(model.optimizer):
        out["averaged"] = model.evaluate(valid, verbose=0)
    if strategy.num_replicas_in_sync > 1:
        out["sent"] = sent(model, strategy, train)
        states = [v for v in model.variables if v.name == "seed_generator_state"]
        for index, state in enumerate(states):
            replicas = strategy.experimental_local_results(state.value)
            out[f"seeds/{index}"] = [replica.numpy()[0] for replica in replicas]
    return out


def sent(model, strategy, train):
    """The tensors of a step that cross between replicas: `op dtype shape` lines."""

    @tf.function
    def step(iterator):
        return strategy.run(model.train_step, args=(next(iterator),))

    dataset = strategy.experimental_distribute_dataset(train)
    graph = step.get_concrete_function(iter(dataset)).graph
    definition, seen = graph.as_graph_def(add_shapes=True), []
    nodes = [*definition.node]
    for function in definition.library.function:
        nodes += function.node_def
    for node in nodes:
        if node.op.startswith("Collective"):
            dtype = tf.as_dtype(node.attr["T"].type).name
            shapes = node.attr["_output_shapes"].list.shape
            shape = [d.size for d in shapes[0].dim] if shapes else "?"
            seen.append(f"{node.op} {dtype} {shape}")
    return seen


def main(mode, data, out, kind):
    if mode == "mirrored":
        (cpu,) = tf.config.list_physical_devices("CPU")
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    else:
        strategy = edcn_tf.training.workers.make_strategy(mode)
    np.savez(out, **fit(data, kind, strategy))


if __name__ == "__main__":
    main(*sys.argv[1:])
