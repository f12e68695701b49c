"""What each layer of a model computes for one example, and how many parameters it has.

Counted operation by operation in the graph that TensorFlow runs, so a layer of one's
own is counted as any other.
"""

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

# What one example costs is the difference of two batches: what is computed once for a
# batch is in both.
BATCH_SIZES = (2, 3)
SCOPE = re.compile(r"sublayer\.(\d+)/")


def count_flops(model: keras.Model) -> dict[str, int]:
    """Floating-point operations of each sublayer for one example, at inference.

    By type of operation, if its output is of floating-point numbers:

        product of [m, k] and [k, n]     2 m n k, a convolution likewise
        arithmetic, ReLU, exp, tanh      1 for each number of the output
        softmax                          5 for each (maximum, -, exp, sum, /)
        sum, mean, maximum of an axis    1 for each number of the input

    Lookups, reshapes, concatenations, casts, comparisons and selections move memory
    and do not compute: they count 0, as do operations on integers. Not counted either
    is what is the same for all examples of a batch, such as the softmax over a gate's
    free parameters, and what the output does not depend on.

    Args:
        model: A `ClickModel`; built here if it is not. It must not be called in
            another thread meanwhile.

    Returns:
        Name of a direct sublayer -> operations, an int, in the order in which the
        model calls them; then those it does not call (0), such as an output layer
        whose weights it uses itself; last the model's own name -> what it computes
        outside of its sublayers' calls.

    Raises:
        ValueError: If the model has a loop (but that of a recurrent layer), a branch or
            a `tf.function` inside, or an operation whose shapes depend on values: what
            these cost is not in the graph.
    """
    fewer, more = (_costs(model, rows) for rows in BATCH_SIZES)
    flops = {name: more[name] - fewer[name] for name in more}
    own = flops.pop(model.name, 0)
    for layer in model.layers:
        flops.setdefault(layer.name, 0)
    return {**flops, model.name: own}


def parameters_by_layer(model: keras.Model) -> dict[str, int]:
    """Trainable parameters of each sublayer: the keys of `count_flops`, the model last.

    The sum is the model's number of trainable parameters: weights that sublayers share
    count for the first of them.

    Args:
        model: A `ClickModel`, built.
    """
    parameters: dict[str, int] = {}
    seen: set[int] = set()
    for layer in [*model.layers, model]:
        weights = [w for w in layer.trainable_weights if id(w) not in seen]
        seen.update(id(weight) for weight in weights)
        number = sum(math.prod(weight.shape) for weight in weights)
        parameters[layer.name] = parameters.get(layer.name, 0) + number
    return parameters


def unknown_operations(model: keras.Model) -> list[str]:
    """Types of operations that `count_flops` does not know, a sorted list.

    It takes them for arithmetic: 1 for each number of the output.
    """
    return sorted(
        {
            op.type
            for op in _operations(model, BATCH_SIZES[0])
            if _computes(op) and op.type not in COSTS
        }
    )


def _costs(model: keras.Model, rows: int) -> dict[str, int]:
    """Name of a sublayer, or of the model -> operations for a batch."""
    costs: dict[str, int] = {}
    for op in _operations(model, rows):
        scope = SCOPE.match(op.name)
        name = model.layers[int(scope[1])].name if scope else model.name
        costs[name] = costs.get(name, 0) + _cost(op)
    return costs


def _operations(model: keras.Model, rows: int) -> list[tf.Operation]:
    """What inference on a batch runs, in the order in which it was made."""
    slots = model.embedding.num_slots
    if not model.built:
        model.build((None, slots))
    with _scopes(model.layers), _unrolled(model):
        function = tf.function(
            lambda ids: model(ids, training=False), autograph=False
        ).get_concrete_function(tf.TensorSpec((rows, slots), tf.int32))
    needed, found = set(), [output.op for output in function.graph.outputs]
    while found:
        op = found.pop()
        if op.name not in needed:
            needed.add(op.name)
            found += [tensor.op for tensor in op.inputs]
    return [op for op in function.graph.get_operations() if op.name in needed]


@contextlib.contextmanager
def _scopes(layers: Iterable[keras.Layer]) -> Iterator[None]:
    """Has the operations of each layer made under a name scope of its number.

    Keras' own scopes do not tell layers apart: it adds a suffix where a name was
    there before, so `cross_1` may be the layer of that name or another call of `cross`.
    """
    own = [vars(layer).get("call") for layer in layers]  # most have that of their class
    try:
        for number, layer in enumerate(layers):
            layer.call = _scoped(f"sublayer.{number}/", layer.call)
        yield
    finally:
        for layer, call in zip(layers, own):
            del layer.call
            if call is not None:
                layer.call = call


@contextlib.contextmanager
def _unrolled(model: keras.Model) -> Iterator[None]:
    """Has recurrent layers do step after step, each of which then counts."""
    recurrent = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.RNN) and not layer.unroll
    ]
    try:
        for layer in recurrent:
            layer.unroll = True
        yield
    finally:
        for layer in recurrent:
            layer.unroll = False


def _scoped(scope: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        with tf.name_scope(scope):  # from the root, for it ends in a slash
            return call(*args, **kwargs)

    return scoped


def _cost(op: tf.Operation) -> int:
    if any("func" in attribute.type for attribute in op.op_def.attr):
        raise ValueError(
            f"The model has an operation of its own graph, {op.type}, which cannot be "
            f"counted. Received: {op.name!r}"
        )
    return COSTS.get(op.type, _outputs)(op) if _computes(op) else 0


def _computes(op: tf.Operation) -> bool:
    return any(output.dtype.is_floating for output in op.outputs)


def _size(tensor: tf.Tensor) -> int:
    if tensor.shape.num_elements() is None:
        raise ValueError(
            "The model has an operation whose shape depends on values, which cannot "
            f"be counted. Received: {tensor.name!r} of shape {tensor.shape}"
        )
    return tensor.shape.num_elements()


def _nothing(op: tf.Operation) -> int:
    return 0


def _outputs(op: tf.Operation) -> int:
    return _size(op.outputs[0])


def _inputs(op: tf.Operation) -> int:
    return _size(op.inputs[0])


def _sum_of_inputs(op: tf.Operation) -> int:
    return (len(op.inputs) - 1) * _outputs(op)


def _softmax(op: tf.Operation) -> int:
    return 5 * _outputs(op)


def _product(op: tf.Operation) -> int:
    transposed = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
    return 2 * _outputs(op) * op.inputs[0].shape[-2 if transposed else -1]


def _convolution(op: tf.Operation) -> int:
    kernel = op.inputs[1]  # [height, width, channels, output channels]
    return 2 * _outputs(op) * (_size(kernel) // kernel.shape[-1])


def _einsum(op: tf.Operation) -> int:
    inputs, output = op.get_attr("equation").decode().split("->")
    sizes: dict[str, int] = {}
    for labels, tensor in zip(inputs.split(","), op.inputs):
        front, _, back = labels.partition("...")
        shape = tensor.shape.as_list()
        sizes |= {**dict(zip(front, shape)), **dict(zip(back[::-1], shape[::-1]))}
    summed = [size for label, size in sizes.items() if label not in output]
    if len(op.inputs) == 1:
        return _inputs(op) if summed else 0
    return (2 if summed else 1) * _outputs(op) * math.prod(summed)


MEMORY = (
    "Bitcast BroadcastTo Cast ConcatV2 Const ExpandDims Fill GatherNd GatherV2 "
    "Identity IdentityN MatrixDiagPartV3 MatrixDiagV3 OnesLike Pack Pad PadV2 "
    "Placeholder PreventGradient ReadVariableOp Reshape ResourceGather "
    "ResourceGatherNd ReverseV2 SelectV2 Slice Split SplitV Squeeze StopGradient "
    "StridedSlice Tile Transpose Unpack ZerosLike"
)
ARITHMETIC = (
    "Abs Add AddV2 BiasAdd Cos Div DivNoNan Elu Erf Exp Expm1 Inv LeakyRelu Log Log1p "
    "Maximum Minimum Mul MulNoNan Neg Pow RealDiv Reciprocal Relu Relu6 Rsqrt Selu "
    "Sigmoid Sign Sin Softplus Softsign Sqrt Square SquaredDifference Sub Tanh"
)
REDUCTIONS = "Cumprod Cumsum Max Mean Min Prod Sum"
COSTS = {
    **dict.fromkeys(MEMORY.split(), _nothing),
    **dict.fromkeys(ARITHMETIC.split(), _outputs),
    **dict.fromkeys(REDUCTIONS.split(), _inputs),
    **dict.fromkeys(("LogSoftmax", "Softmax"), _softmax),
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "MatMul"), _product),
    "AddN": _sum_of_inputs,
    "Conv2D": _convolution,
    "Einsum": _einsum,
}
