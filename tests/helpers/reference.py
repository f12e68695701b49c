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


def batch_norm(x, gamma, beta, mean=None, variance=None, *, epsilon):
    """BatchNorm of `[rows, channels]`, by the batch's own statistics if none given."""
    if mean is None:
        mean, variance = x.mean(axis=0), x.var(axis=0)
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


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


def gate(
    fields,
    g,
    temperature=1.0,
    scale=True,
    kind=None,
    norm=None,
    field_widths=None,
    epsilon=BATCH_NORM_EPSILON,
):
    """Equation 7; `kind` is that of the BatchNorm and `norm` its terms.

    Fields are `[B, F, D]`, or `[B, d]` with `field_widths`.
    """
    weights = gate_weights(g, temperature, scale)
    if field_widths is None:
        gated = weights[None, :, None] * fields
    else:
        gated = np.repeat(weights, field_widths) * fields
    if kind is None:
        return gated
    channels = 1 if kind == "scalar" else gated[0].size
    normalized = batch_norm(gated.reshape(-1, channels), *norm, epsilon=epsilon)
    return normalized.reshape(gated.shape)


def lhuc(x, context, u, b, v, e):
    """LHUC's amplitudes, 2 sigmoid(.), from two layers; x is `[B, d]`."""
    return 2 * sigmoid(relu(context @ u + b) @ v + e) * x


def split_fields(x, widths):
    return np.split(x, np.cumsum(widths)[:-1], axis=1)


def doubled_sigmoid(z):
    return 2 * sigmoid(z)


def squeeze_excitation(x, widths, w1, w2, output=doubled_sigmoid):
    """FiBiNET's squeeze, excitation and re-weighting; x is `[B, d]`."""
    fields = split_fields(x, widths)
    z = np.stack([field.mean(axis=1) for field in fields], axis=1)
    a = output(relu(z @ w1) @ w2)
    return np.concatenate([a[:, [f]] * field for f, field in enumerate(fields)], axis=1)


def feature_embedding(x, widths, kernels, activation=doubled_sigmoid):
    """GateNet's g_f = sigma(W_f e_f); a kernel is `[D_f, 1]` or `[D_f, D_f]`."""
    fields = split_fields(x, widths)
    return np.concatenate(
        [activation(e @ kernel) * e for e, kernel in zip(fields, kernels)], axis=1
    )


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


def deep(h, w, b, norm=None, activation_first=False, epsilon=BATCH_NORM_EPSILON):
    z = (relu(h) if activation_first else h) @ w + b
    if norm is not None:
        z = batch_norm(z, *norm, epsilon=epsilon)
    return z if activation_first else relu(z)


def bridge(kind, x, h, w=None, scale=False):
    """Section 4.1; `w` has the weights by name, `hidden_both` etc. where shared.

    With `scale`, hadamard's h has the root mean square 1.
    """
    if kind == "add":
        return x + h
    if kind == "hadamard" and scale:
        return x * h / np.sqrt((h**2).sum(axis=1, keepdims=True) / h.shape[1] + 1e-6)
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


def parallel_logits(w, e, widths, options, linear=None, x0_of="first layer"):
    """Logits `[B, 1]` of two towers, without dropout: EDCN's equations 6 to 8.

    Args:
        w: The model's weights by their path in it.
        e: The embeddings, flat, `[B, d]`.
        widths: Width of each field.
        options: Those of `ParallelCTR`.
        linear: The linear term's weights of each row's ids, `[B, F]`.
        x0_of: "each layer" makes DeepCTR's mistake.
    """
    explicit, stacked = options["explicit"], options["structure"] == "stacked"
    layers = options["num_layers"]
    explicit_depth = {"none": 0, "fm": 1, "inner_products": 1}.get(explicit, layers)
    units = options["deep_units"]
    deep_depth = len(units) if isinstance(units, list) else layers
    logit = w["output/bias"] + (0 if linear is None else linear.sum(1, keepdims=True))

    def gated(tower, layer, x):
        only_input = options["gate_layers"] == "input"
        is_later = layer or (stacked and tower == "deep")
        if options["gate"] == "none" or (only_input and is_later):
            return x
        return model_gate(part(w, f"{tower}_gate_{layer}"), x, e, widths, options, w)

    def deep_layer(layer, x):
        own = part(w, f"deep_{layer}")
        return deep(
            gated("deep", layer, x.reshape(len(x), -1)),
            own["dense/kernel"],
            own["dense/bias"],
            norm_terms(own),
            options["activation_first"],
            options["batch_norm_epsilon"],
        )

    xs, x0, x, h, f = [], None, e, e, None
    for layer in range(explicit_depth if stacked else max(explicit_depth, deep_depth)):
        below = (x, h) if f is None else (f, f)
        if layer < explicit_depth:
            c = gated(explicit, layer, below[0])
            x0 = c if x0 is None or x0_of == "each layer" else x0
            x = interact(
                explicit, part(w, f"{explicit}_{layer}"), x0, c, widths, options
            )
            xs.append(x)
        if not stacked and layer < deep_depth:
            h = deep_layer(layer, below[1])
        if options["bridge"] != "none":
            own = part(w, f"bridge_{layer}")
            scale = options["bridge_scale"]
            f = model_bridge(options["bridge"], x.reshape(len(x), -1), h, own, scale)
    seen = [xs[-1].reshape(len(e), -1)] if xs else []
    if explicit == "cin":
        seen = [np.concatenate([maps.sum(axis=2) for maps in xs], axis=1)]
    if stacked:
        h = seen[0]
        for layer in range(deep_depth):
            h = deep_layer(layer, h)
        seen = [h]
    else:
        if explicit == "fm":
            logit, seen = logit + x.sum(axis=1, keepdims=True), []
        seen += [h] * (deep_depth > 0) + [f] * (f is not None)
    if seen:
        logit = logit + np.concatenate(seen, axis=1) @ w["output/kernel"]
    return logit


def part(w, prefix):
    """The weights under a prefix, by the rest of their path."""
    prefix += "/"
    return {k.removeprefix(prefix): v for k, v in w.items() if k.startswith(prefix)}


def norm_terms(w, prefix="normalization"):
    """Terms of a BatchNorm at inference, or none."""
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    if f"{prefix}/gamma" not in w:
        return None
    return [w[f"{prefix}/{name}"] for name in names]


def model_gate(own, x, e, widths, options, w):
    """A gate of a model on flat `[B, d]`."""
    kind = options["gate"]
    if kind == "softmax":
        norm, norm_kind = norm_terms(own), options["gate_batch_norm"]
        if norm_kind == "shared_scalar":  # whose terms stand with the tower's first
            tower = next(k for k in w if any(v is w[k] for v in own.values()))
            tower = tower.split("_gate_")[0]
            norm = norm_terms(w, f"{tower}_gate_0/{tower}_gate_normalization")
            norm_kind = "scalar"
        scale = options["gate_scale"]
        return gate(
            x,
            own["gate"],
            options["temperature"],
            scale,
            norm_kind,
            norm,
            widths,
            options["batch_norm_epsilon"],
        )
    if kind == "lhuc":
        context = x
        if options["gate_fields"]:
            # The tests' fields are f0, f1, ...
            split = split_fields(e, widths)
            chosen = [split[int(name[1:])] for name in options["gate_fields"]]
            context = np.concatenate(chosen, axis=1)
        names = ("hidden/kernel", "hidden/bias", "amplitude/kernel", "amplitude/bias")
        return lhuc(x, context, *(own[name] for name in names))
    activation = doubled_sigmoid if options["gate_scale"] else sigmoid
    if kind == "squeeze_excitation":
        return squeeze_excitation(x, widths, *own.values(), activation)
    if kind == "gatenet_scalar":
        kernels = [k[:, None] for k in np.split(own["kernel"], np.cumsum(widths)[:-1])]
        return feature_embedding(x, widths, kernels, activation)
    if kind == "gatenet_vector":
        return feature_embedding(x, widths, own["kernel"], activation)
    if kind == "dense":
        return x @ own["dense/kernel"] + own["dense/bias"]
    raise ValueError(kind)


def interact(kind, own, x0, x, widths, options):
    """A layer of a model's explicit tower; inputs flat, or CIN's maps `[B, H, D]`."""

    def fields(x):
        return x if x.ndim == 3 else x.reshape(len(x), len(widths), -1)

    if kind == "cross":
        return cross(x0, x, own["kernel"], own["bias"], options["cross_residual"])
    if kind == "cross_matrix":
        return matrix_cross(x0, x, own["kernel"].T, own["bias"])
    if kind == "cross_low_rank":
        kernel = own["down_kernel"] @ own["up_kernel"]
        return matrix_cross(x0, x, kernel.T, own["bias"])
    if kind == "cross_mixture":
        experts, rank, _ = own["code_kernel"].shape
        down = own["down_kernel"].reshape(-1, experts, rank).transpose(1, 0, 2)
        up = own["up_kernel"].reshape(experts, rank, -1).transpose(0, 2, 1)
        code = own["code_kernel"].transpose(0, 2, 1)
        gate_kernel = own["gate_kernel"].T
        return mixture_cross(x0, x, up, code, down, gate_kernel, own["bias"])
    if kind == "fm":
        return factorization_machine(fields(x))
    if kind == "cin":
        x0, x = fields(x0), fields(x)
        kernel = own["kernel"].T.reshape(-1, x.shape[1], x0.shape[1])
        return compressed_interaction(x0, x, kernel)
    if kind == "self_attention":
        heads, (width, _) = options["attention_heads"], own["query_kernel"].shape
        query, key, value = (
            own[f"{name}_kernel"].T.reshape(heads, -1, width)
            for name in ("query", "key", "value")
        )
        residual = own["residual_kernel"].T
        return field_attention(fields(x), query, key, value, residual)
    if kind == "inner_products":
        return inner_products(fields(x))
    raise ValueError(kind)


def model_bridge(kind, x, h, own, scale=False):
    """A bridge, after the projections of towers of another width."""
    x = x @ own["project_x/kernel"] if "project_x/kernel" in own else x
    h = h @ own["project_h/kernel"] if "project_h/kernel" in own else h
    return bridge(kind, x, h, own, scale)


def log_loss(labels, logits):
    # -log p and -log(1 - p) from the logits: 1 - p itself has few digits near p = 1.
    return np.mean(np.logaddexp(0, logits) - labels * logits)


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
