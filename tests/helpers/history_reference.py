"""Layers over a history in float64 NumPy, row by row, written from the papers."""

import numpy as np

from helpers.reference import relu, sigmoid, softmax

LAYER_NORM_EPSILON = 1e-3  # Keras' default


def dice(s, alpha, mean, variance, epsilon=1e-8):
    """Zhou et al. 2018 (DIN), section 5.2."""
    p = sigmoid((s - mean) / np.sqrt(variance + epsilon))
    return p * s + (1 - p) * alpha * s


def used(mask):
    return np.asarray(mask) > 0.5


def local_activation(history, candidate, mask, layers, output, activation):
    """DIN, equation 3: `(v, a)`.

    Args:
        layers: Of each hidden layer (kernel, bias, dice), dice (alpha, mean, variance),
            whose mean and variance are those of the used positions where `None`.
        output: (kernel, bias).
    """
    mask = used(mask)
    rows, length, _ = history.shape
    z = np.array(
        [
            [np.concatenate([e, c, e - c, e * c]) for e in items]
            for items, c in zip(history, candidate)
        ]
    )
    for kernel, bias, of_dice in layers:
        z = z @ kernel + bias
        if activation == "dice":
            alpha, mean, variance = of_dice
            if mean is None:
                mean, variance = z[mask].mean(axis=0), z[mask].var(axis=0)
            z = dice(z, alpha, mean, variance)
        else:
            z = {"sigmoid": sigmoid, "relu": relu}[activation](z)
    a = (z @ output[0] + output[1])[:, :, 0]
    v = np.zeros_like(candidate)
    for row in range(rows):
        for t in range(length):
            if mask[row, t]:
                v[row] += a[row, t] * history[row, t]
    return v, np.where(mask, a, 0)


def gru(inputs, kernel, recurrent_kernel, bias):
    """States of one row's inputs `[T, d]`; Keras' order of gates, `reset_after`."""
    width, states = recurrent_kernel.shape[0], []
    h = np.zeros(width)
    for i in inputs:
        z_i, r_i, h_i = np.split(i @ kernel + bias[0], 3)
        z_h, r_h, h_h = np.split(h @ recurrent_kernel + bias[1], 3)
        z, r = sigmoid(z_i + z_h), sigmoid(r_i + r_h)
        h = z * h + (1 - z) * np.tanh(h_i + r * h_h)
        states.append(h)
    return np.array(states).reshape(-1, width)


def augru(inputs, attention, kernel, recurrent_kernel, bias):
    """DIEN's last state of one row: the update gate times the attention."""
    h = np.zeros(recurrent_kernel.shape[0])
    for i, a in zip(inputs, attention):
        u_i, r_i, h_i = np.split(i @ kernel + bias, 3)
        u_h, r_h, h_h = np.split(h @ recurrent_kernel, 3)
        u, r = a * sigmoid(u_i + u_h), sigmoid(r_i + r_h)
        h = (1 - u) * h + u * np.tanh(h_i + r * h_h)
    return h


def interest_evolution(history, candidate, mask, w):
    """DIEN: `(v, a, interests)`, of each row its own number of positions."""
    outputs, attention, interests = [], np.zeros(history.shape[:2]), []
    for row, (items, c) in enumerate(zip(history, candidate)):
        items = items[used(mask)[row]]
        states = gru(items, w["gru"], w["gru_recurrent"], w["gru_bias"])
        a = softmax(states @ w["attention"] @ c) if len(items) else np.zeros(0)
        attention[row, : len(items)] = a
        interests.append(states)
        outputs.append(augru(states, a, w["cell"], w["cell_recurrent"], w["cell_bias"]))
    return np.array(outputs), attention, interests


def auxiliary_loss(interests, history, mask):
    """DIEN, equation 7, with the item of the row before as the negative."""
    mask, total, number = used(mask), 0.0, 0
    for row, states in enumerate(interests):
        for t in range(len(states) - 1):
            number += 1
            total -= np.log(sigmoid(states[t] @ history[row, t + 1]))
            if mask[row - 1, t + 1]:
                other = sigmoid(states[t] @ history[row - 1, t + 1])
                total -= np.log(1 - other)
    return total / max(number, 1)


def layer_norm(x, gamma, beta):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return gamma * (x - mean) / np.sqrt(variance + LAYER_NORM_EPSILON) + beta


def transformer(history, candidate, mask, positions, blocks):
    """BST, equations 2 to 5, all places of each row: `(v, a)`.

    Args:
        positions: `[T + 1, D]`, by the distance from the candidate.
        blocks: Dicts of weights.
    """
    outputs, attention = [], np.zeros(history.shape[:2])
    for row, (items, c) in enumerate(zip(history, candidate)):
        items = items[used(mask)[row]]
        x = np.vstack([items, c[None]])
        x = x + positions[np.arange(len(items), -1, -1)]
        for w in blocks:
            heads, scores = [], []
            for head in range(w["query"].shape[1]):
                q = x @ w["query"][:, head] + w["query_bias"][head]
                k = x @ w["key"][:, head] + w["key_bias"][head]
                v = x @ w["value"][:, head] + w["value_bias"][head]
                scores.append(softmax(q @ k.T / np.sqrt(q.shape[1])))
                heads.append((scores[-1] @ v) @ w["output"][head])
            s = layer_norm(x + sum(heads) + w["output_bias"], *w["norm_0"])
            hidden = s @ w["first"] + w["first_bias"]
            hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
            x = layer_norm(s + hidden @ w["second"] + w["second_bias"], *w["norm_1"])
        attention[row, : len(items)] = np.mean(scores, axis=0)[-1, :-1]
        outputs.append(x[-1])
    return np.array(outputs), attention


# From the weights of a layer here, by their paths in it


def dice_weights(w, name, training):
    norm = f"{name}/moving_"
    moving = [None, None] if training else [w[f"{norm}mean"], w[f"{norm}variance"]]
    return (w[f"{name}/alpha"], *moving)


def expected_activation(w, *inputs, activation, training=False):
    layers = [
        (
            w[f"hidden_{i}/kernel"],
            w[f"hidden_{i}/bias"],
            dice_weights(w, f"dice_{i}", training) if activation == "dice" else None,
        )
        for i in range(2)
    ]
    output = w["activation/kernel"], w["activation/bias"]
    return local_activation(*inputs, layers, output, activation)


def evolution_weights(w):
    return {
        "gru": w["extractor/gru_cell/kernel"],
        "gru_recurrent": w["extractor/gru_cell/recurrent_kernel"],
        "gru_bias": w["extractor/gru_cell/bias"],
        "attention": w["attention_kernel"],
        "cell": w["evolution/cell/kernel"],
        "cell_recurrent": w["evolution/cell/recurrent_kernel"],
        "cell_bias": w["evolution/cell/bias"],
    }


def block_weights(w, name):
    weights = {}
    for part, stored in [
        *((part, f"attention/{part}") for part in ("query", "key", "value")),
        *(("output", "attention/attention_output"), ("first", "first")),
        ("second", "second"),
    ]:
        weights[part] = w[f"{name}/{stored}/kernel"]
        weights[f"{part}_bias"] = w[f"{name}/{stored}/bias"]
    for i in range(2):
        norm = f"{name}/normalization_{i}"
        weights[f"norm_{i}"] = w[f"{norm}/gamma"], w[f"{norm}/beta"]
    return weights


def expected_transformer(w, *inputs, blocks):
    blocks = [block_weights(w, f"block_{i}") for i in range(blocks)]
    return transformer(*inputs, w["positions"], blocks)
