"""What a model makes of a schema's fields as they are: its logits, out of fold.

A factorization machine of the single values: cheap, and it knows what their embeddings
tell of each pair, so that an addition must bring what these do not.

Reference:
    Rendle 2010, "Factorization Machines".
"""

import numpy as np
import scipy.sparse

from edcn_tf.preparation.choosing.rows import one_hot

MIN_COUNT = 2  # of values, as of a field by default
MOST_VALUES = 1 << 16  # that have a weight; the rarer ones of a field share one
FACTORS = 8
BATCH = 2048
EPOCHS = 8  # at most
RATE = 0.05  # of Adagrad
L2 = (1e-4, 1e-1)  # of which one is chosen: where values drift, more
FOLDS = 4
LEVELLING = 4  # Newton steps


def baseline_logits(rows):
    """The logit of each row by a model that was not fitted on it.

    Rows that are judged: by a model of all that are fitted on. Those in the order of
    their times: by a model of the quarters before theirs. Others: by one of the other
    quarters.

    Args:
        rows: `edcn_tf.preparation.choosing.rows.Rows`.

    Returns:
        Logits `[N]`, and which rows have one, `[N]` of bool: the oldest quarter does
        not.
    """
    values = _values(rows)
    logits, has_one = np.zeros(len(rows)), np.ones(len(rows), bool)
    fitted = np.arange(rows.fitted)
    fold = fitted * FOLDS // rows.fitted
    l2, epochs = _setting(rows, values, fitted)
    judged = np.arange(rows.fitted, len(rows))
    model = _Machine(values.shape[1], rows, fitted, l2)
    model.fit(values, rows, fitted, epochs)
    logits[judged] = model.logits(values[judged])
    for number in range(FOLDS):
        own = fitted[fold == number]
        rest = fitted[fold < number if rows.by_time else fold != number]
        if not len(rest):
            has_one[own] = False
            continue
        model = _Machine(values.shape[1], rows, rest, l2)
        model.fit(values, rows, rest, epochs)
        own_logits = model.logits(values[own])
        logits[own] = levelled(own_logits, rows.labels[own], rows.weights[own])
    return logits, has_one


def log_loss(labels, logits):
    """Of each row, in nats."""
    return np.logaddexp(0, np.where(labels == 1, -logits, logits))


def probabilities(logits):
    """The logistic function."""
    return 1 / (1 + np.exp(-logits))


def levelled(logits, labels, weights):
    """Logits, scaled and moved as fits the labels best (Platt's two numbers).

    Rates rise and fall with time, and models are too sure of themselves, whatever the
    fields: no addition is to be praised for mending that.
    """
    move, scale = 0.0, 1.0
    for _ in range(LEVELLING):
        rates = probabilities(move + scale * logits)
        errors, curves = weights * (labels - rates), weights * rates * (1 - rates)
        first, second = errors.sum(), (errors * logits).sum()
        # Of two by two numbers, the diagonal a little larger so that it has an inverse.
        a, b = curves.sum() + 1, (curves * logits).sum()
        c = (curves * logits**2).sum() + 1
        move += (c * first - b * second) / (a * c - b * b)
        scale += (a * second - b * first) / (a * c - b * b)
    return move + scale * logits


def _values(rows):
    """CSR `[N, values]` of all fields, those seen often enough in the fitted rows."""
    parts = [one_hot(codes + 1) for codes in rows.columns.values()]
    parts += list(rows.others.values())
    values = scipy.sparse.hstack(parts, format="csr")
    seen = np.asarray((values[: rows.fitted] > 0).sum(axis=0)).ravel()
    least = MIN_COUNT
    if len(seen) > MOST_VALUES:
        least = max(least, np.partition(seen, -MOST_VALUES)[-MOST_VALUES])
    return values[:, np.flatnonzero(seen >= least)].astype(np.float64)


def _setting(rows, values, fitted):
    """L2 and number of epochs that serve best the last quarter of the fitted rows."""
    first, held = np.split(fitted, [int(len(fitted) * 0.75)])
    best, least = (L2[0], 1), np.inf
    for l2 in L2:
        model, before = _Machine(values.shape[1], rows, first, l2), np.inf
        for epoch in range(1, EPOCHS + 1):
            model.fit(values, rows, first, 1)
            each = log_loss(rows.labels[held], model.logits(values[held]))
            loss = np.average(each, weights=rows.weights[held])
            if loss < least:
                best, least = (l2, epoch), loss
            if loss >= before:
                break
            before = loss
    return best


class _Machine:
    """w_0 + sum_i w_i x_i + sum_(i<j) <v_i, v_j> x_i x_j, by Adagrad."""

    def __init__(self, values, rows, chosen, l2):
        self.l2 = l2
        self.random = np.random.default_rng(0)
        rate = np.average(rows.labels[chosen], weights=rows.weights[chosen])
        self.bias = np.log(max(rate, 1e-9) / max(1 - rate, 1e-9))
        shape = (values, 1 + FACTORS)
        self.table = self.random.normal(0, 0.05, shape)
        self.table[:, 0] = 0
        self.squares = np.full(shape, 1e-8)

    def fit(self, values, rows, chosen, epochs):
        """Goes through some rows so many times, in an order of its own."""
        for _ in range(epochs):
            order = self.random.permutation(chosen)
            shuffled = values[order]
            labels, weights = rows.labels[order], rows.weights[order]
            weights = weights / weights.mean()
            for start in range(0, len(order), BATCH):
                some = slice(start, start + BATCH)
                self._step(shuffled[some], labels[some], weights[some])
        return self

    def logits(self, values):
        return self._forward(values)[0]

    def _forward(self, values):
        sums = values @ self.table
        squared = values.power(2) @ (self.table[:, 1:] ** 2)
        pairs = (sums[:, 1:] ** 2 - squared).sum(axis=1) / 2
        return self.bias + sums[:, 0] + pairs, sums

    def _step(self, values, labels, weights):
        logits, sums = self._forward(values)
        error = weights * (probabilities(logits) - labels) / len(labels)
        self.bias -= RATE * error.sum()
        touched, places = np.unique(values.indices, return_inverse=True)
        shape = len(labels), len(touched)
        # Only what the batch has, turned round: [touched, rows].
        own = scipy.sparse.csr_matrix((values.data, places, values.indptr), shape).T
        sums[:, 0] = 1
        gradient = own @ (error[:, None] * sums)
        table = self.table[touched]
        gradient[:, 1:] -= (own.power(2) @ error)[:, None] * table[:, 1:]
        seen = np.bincount(places, minlength=len(touched)) / len(labels)
        gradient += self.l2 * seen[:, None] * table
        self.squares[touched] += gradient**2
        self.table[touched] -= RATE * gradient / np.sqrt(self.squares[touched])
