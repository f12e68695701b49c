"""Which operations of an exported signature TensorFlow can run on a GPU.

Read from the kernels that the wheel has, which is built with CUDA: no GPU is needed.
"""

import tensorflow as tf


def without_gpu_kernel(version, signature):
    """Nodes that depend on a signature's inputs and cannot run on a GPU: name -> op."""
    # There is no public list of kernels.
    from tensorflow.python.framework import kernels

    loaded = tf.saved_model.load(str(version)).signatures[signature]
    library = {
        f.signature.name: f for f in loaded.graph.as_graph_def().library.function
    }
    names = {name for name in library if f"inference_{signature}_" in name}
    assert names  # the function that the signature is
    failing = {}

    def walk(function):
        tainted = {argument.name for argument in function.signature.input_arg}
        for node in function.node_def:  # in topological order
            data = [i.split(":")[0] for i in node.input if not i.startswith("^")]
            if not tainted & set(data):
                continue
            called = [a.func.name for a in node.attr.values() if a.func.name]
            for name in called:
                walk(library[name])
            if node.op != "Shape":  # shapes are for the host
                tainted.add(node.name)
            # Shapes are read from what the host knows of a tensor, not from its values.
            if called or node.op == "Shape" or _has_gpu_kernel(kernels, node):
                continue
            failing[node.name] = node.op

    for name in names:
        walk(library[name])
    return failing


def _has_gpu_kernel(kernels, node):
    for kernel in kernels.get_registered_kernels_for_op(node.op).kernel:
        fits = all(
            node.attr[c.name].type in c.allowed_values.list.type
            for c in kernel.constraint
        )
        # `resource` is the handle of a variable.
        in_host_memory = set(kernel.host_memory_arg) - {
            "resource", "shape", "size", "begin", "end", "strides", "perm",
            "reduction_indices", "axis", "multiples", "paddings", "dims",
            "split_dim", "dim", "input_sizes", "concat_dim",
        }  # fmt: skip
        # TensorFlow registers what needs no code of the device's for DEFAULT.
        on_gpu = kernel.device_type in ("GPU", "DEFAULT")
        if on_gpu and fits and not in_host_memory:
            return True
    return False
