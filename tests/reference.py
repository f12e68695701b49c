"""EDCN, its layers and the optimizer in float64 NumPy, written from the papers."""

import numpy as np

BATCH_NORM_EPSILON = 1e-3  # Keras' default


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def relu(z):
    return np.maximum(z, 0)


def softmax(z):
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def batch_norm(x, gamma, beta, mean=None, variance=None):
    """BatchNorm of `[rows, channels]`, by the batch's own statistics if none given."""
    if mean is None:
        mean, variance = x.mean(axis=0), x.var(axis=0)
    return gamma * (x - mean) / np.sqrt(variance + BATCH_NORM_EPSILON) + beta


def pooled(table, ids, fields):
    """`[B, F, D]` embeddings of `[B, S]` ids; id 0 is an unused slot of a list."""
    rows = []
    for row in ids:
        embeddings, start = [], 0
        for field in fields:
            slots = row[start : start + field["slots"]]
            start += field["slots"]
            if field["slots"] > 1:
                slots = slots[slots != 0]
            total = sum((table[i] for i in slots), np.zeros(table.shape[1]))
            mean = field["slots"] > 1 and field["pooling"] == "mean"
            embeddings.append(total / len(slots) if mean and len(slots) else total)
        rows.append(embeddings)
    return np.array(rows)


def l2(table, ids, counts, strength):
    """L2 by inverse frequency: mean over rows of sum over ids of ||E_id||^2 / n_id."""
    total = 0.0
    for i in ids.ravel():
        if i != 0:
            total += np.sum(table[i] ** 2) / max(counts[i], 1)
    return strength * total / len(ids)


def gate_weights(g, temperature=1.0, scale=True):
    """Equation 6, and F times that with `scale`."""
    return softmax(g / temperature) * (len(g) if scale else 1)


def gate(fields, g, temperature=1.0, scale=True, kind=None, norm=None):
    """Equation 7, `[B, F, D]`; `kind` is that of the BatchNorm and `norm` its terms."""
    gated = gate_weights(g, temperature, scale)[None, :, None] * fields
    if kind is None:
        return gated
    channels = 1 if kind == "scalar" else gated[0].size
    return batch_norm(gated.reshape(-1, channels), *norm).reshape(gated.shape)


def cross(x0, x, w, b, residual=True):
    return x0 * (x @ w.reshape(-1))[:, None] + b + (x if residual else 0)


def matrix_cross(x0, x, w, b):
    """Equation 1 of DCN-V2; equation 2 where w is U V^T."""
    rows = [x0_row * (w @ row + b) + row for x0_row, row in zip(x0, x)]
    return np.array(rows)


def mixture_cross(x0, x, u, c, v, gate, b):
    """Equations 3 to 5 of DCN-V2: U, C and V of each expert, and W_g, `[K, d]`."""
    rows = []
    for x0_row, row in zip(x0, x):
        total = row
        for i, weight in enumerate(softmax(gate @ row)):
            code = np.tanh(c[i] @ np.tanh(v[i].T @ row))
            total = total + weight * x0_row * (u[i] @ code + b)
        rows.append(total)
    return np.array(rows)


def factorization_machine(fields):
    """The sum over pairs, not the form of Rendle's lemma."""
    rows = []
    for e in fields:
        pairs = [e[i] * e[j] for j in range(len(e)) for i in range(j)]
        rows.append(sum(pairs, np.zeros(e.shape[1])))
    return np.array(rows)


def compressed_interaction(x0, x, w):
    """Equation 6 of xDeepFM; w is `[H_k, H, F]`."""
    outputs = np.zeros((len(x), len(w), x.shape[2]))
    for row in range(len(x)):
        for h in range(len(w)):
            for i in range(x.shape[1]):
                for j in range(x0.shape[1]):
                    outputs[row, h] += w[h, i, j] * (x[row, i] * x0[row, j])
    return outputs


def field_attention(fields, query, key, value, residual=None):
    """Equations 5 to 8 of AutoInt; matrices of each head, `[N, d', D]`."""
    rows = []
    for e in fields:
        outputs = []
        for e_m in e:
            heads = []
            for w_q, w_k, w_v in zip(query, key, value):
                scores = np.array([(w_q @ e_m) @ (w_k @ e_k) for e_k in e])
                alpha = softmax(scores)
                heads.append(sum(a * (w_v @ e_k) for a, e_k in zip(alpha, e)))
            together = np.concatenate(heads)
            outputs.append(
                relu(together if residual is None else together + residual @ e_m)
            )
        rows.append(outputs)
    return np.array(rows)


def inner_products(fields, self_products=True):
    """z and p of the PNN's product layer."""
    rows = []
    for e in fields:
        first = 0 if self_products else 1
        pairs = [(i, j) for i in range(len(e)) for j in range(i + first, len(e))]
        rows.append([*e.reshape(-1), *(e[i] @ e[j] for i, j in pairs)])
    return np.array(rows)


def deep(h, w, b, norm=None, activation_first=False):
    z = (relu(h) if activation_first else h) @ w + b
    if norm is not None:
        z = batch_norm(z, *norm)
    return z if activation_first else relu(z)


def bridge(kind, x, h, w=None):
    """Section 4.1; `w` has the weights by name, `hidden_both` etc. where shared."""
    if kind == "add":
        return x + h
    if kind == "hadamard":
        return x * h
    if kind == "concat":
        joined = np.concatenate([x, h], axis=1)
        return relu(joined @ w["joint/kernel"] + w["joint/bias"])

    def score(z, tower):
        tower = "both" if "score_both/kernel" in w else tower
        hidden = relu(z @ w[f"hidden_{tower}/kernel"] + w[f"hidden_{tower}/bias"])
        return hidden @ w[f"score_{tower}/kernel"]

    score_x, score_h = score(x, "x"), score(h, "h")
    if kind == "attention":
        power_x, power_h = np.exp(score_x), np.exp(score_h)  # [B, 1]
        return (power_x * x + power_h * h) / (power_x + power_h)
    if kind == "attention_components":
        return softmax(score_x) * x + softmax(score_h) * h
    raise ValueError(kind)


def edcn_logits(weights, ids, fields, options, x0_of="first layer"):
    """Logits `[B, 1]`, by equations 6 to 8, without dropout.

    Args:
        weights: `table`, `output` (w, b) and a list `layers` of dicts with `cross`
            (w, b), `deep` (w, b), `deep_norm`, `bridge`, and for each tower
            `{tower}_gate` and `{tower}_gate_norm` (None where there is none).
        x0_of: "each layer" makes DeepCTR's mistake.
    """
    e = pooled(weights["table"], ids, fields)
    shape, x0 = e.shape, None
    for layer in weights["layers"]:
        towers = []
        for tower in ("cross", "deep"):
            gated = e
            if layer[f"{tower}_gate"] is not None:
                gated = gate(
                    e,
                    layer[f"{tower}_gate"],
                    options["temperature"],
                    options["gate_scale"],
                    options["gate_batch_norm"],
                    layer[f"{tower}_gate_norm"],
                )
            towers.append(gated.reshape(len(ids), -1))
        if x0 is None or x0_of == "each layer":
            x0 = towers[0]
        x = cross(x0, towers[0], *layer["cross"])
        h = deep(
            towers[1], *layer["deep"], layer["deep_norm"], options["activation_first"]
        )
        f = bridge(options["bridge"], x, h, layer["bridge"])
        e = f.reshape(shape)
    w, b = weights["output"]
    return np.concatenate([x, h, f], axis=1) @ w + b


def log_loss(labels, logits):
    p = sigmoid(logits)
    return -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))


def numeric_gradient(function, array, step=1e-5):
    """Central finite differences of a function of no arguments that reads `array`."""
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        above = function()
        array[index] = kept - step
        below = function()
        array[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient


class Rows:
    """A sparse gradient: `values[i]` is a gradient of row `rows[i]`."""

    def __init__(self, rows, values):
        self.rows, self.values = np.array(rows), np.array(values, np.float64)


class LazyAdam:
    """Adam whose untouched rows keep everything, and the average from its definition.

    `learning_rate` is a number or a function of the step, which counts from 0.
    """

    def __init__(
        self,
        weights,
        learning_rate=1e-3,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        average_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
    ):
        self.weights = [np.array(w, np.float64) for w in weights]
        self.m = [np.zeros_like(w) for w in self.weights]
        self.v = [np.zeros_like(w) for w in self.weights]
        self.learning_rate = learning_rate
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.average_decay = average_decay
        self.clipnorm, self.clipvalue = clipnorm, clipvalue
        self.global_clipnorm = global_clipnorm
        self.history = []  # the weights after each step

    def step(self, gradients):
        t = len(self.history) + 1
        dense, touched = zip(*map(self._dense, gradients, self.weights))
        rate = self.learning_rate
        rate = rate(t - 1) if callable(rate) else rate
        for w, m, v, g, rows in zip(
            self.weights, self.m, self.v, self._clipped(dense), touched
        ):
            m[rows] = self.beta_1 * m[rows] + (1 - self.beta_1) * g[rows]
            v[rows] = self.beta_2 * v[rows] + (1 - self.beta_2) * g[rows] ** 2
            alpha = rate * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
            w[rows] -= alpha * m[rows] / (np.sqrt(v[rows]) + self.epsilon)
        self.history.append([w.copy() for w in self.weights])

    @staticmethod
    def _dense(gradient, weight):
        """The gradient with duplicates summed, and the index of what it touches."""
        if gradient is None:
            return np.zeros_like(weight), np.zeros(0, int)
        if not isinstance(gradient, Rows):
            return np.array(gradient, np.float64), ...
        dense = np.zeros_like(weight)
        np.add.at(dense, gradient.rows, gradient.values)
        return dense, np.unique(gradient.rows)

    def _clipped(self, gradients):
        if self.clipvalue:
            return [np.clip(g, -self.clipvalue, self.clipvalue) for g in gradients]
        if self.clipnorm:
            norms = [np.sqrt(np.sum(g**2)) for g in gradients]
            return [g * min(1, self.clipnorm / n) for g, n in zip(gradients, norms)]
        if self.global_clipnorm:
            norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
            return [g * min(1, self.global_clipnorm / norm) for g in gradients]
        return gradients

    def averages(self):
        """u_t = (1 - a) sum over s of a^(t - s) w_s / (1 - a^t)."""
        a, t = self.average_decay, len(self.history)
        return [
            sum((1 - a) * a ** (t - s) * w for s, w in enumerate(steps, 1)) / (1 - a**t)
            for steps in zip(*self.history)
        ]
