"""How far one comes on Frappe_x1 without a model, by looking rows up.

Its positives are apps that a user used; for each of them there are two negatives in the
same situation, of apps that this user never used, all equally likely (BARS' valid and
test split are so; the training split too). So whether a user has used an app is the
label itself, wherever the training split has the pair.
"""

import numpy as np

from edcn_tf.directories import PreparedData
from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.scoring import BATCH_ROWS
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.records.reading import read_records


def lookups(data, split="test"):
    """What training rows say of the rows of a split, by counting alone.

    Args:
        data: Directory of prepared Frappe_x1.
        split: `"valid"` or `"test"`.

    Returns:
        Name -> figure, a dict: `decided`, the share of the split's positives whose user
        and app are in a positive of training; `both`, the number of such pairs that
        training has with either label; and test AUCs: `popularity`, by the number of
        the app's positives; `pair`, by the label of user and app (unseen ones are
        between); `pair_popularity`, by that, then by popularity; `situation`, by how
        many positives the situation lacks, two negatives a positive; `cost`, by the
        app's positives at this row's cost; `pair_cost`, by pair, then that.
    """
    spec = FeatureSpec.load(PreparedData(data).features)
    names = [field["name"] for field in spec.layout()]
    train_ids, train = _rows(data, "train", spec)
    ids, labels = _rows(data, split, spec)

    def counted(fields):
        """Positives and negatives of training with this row's values, `[N]` each."""
        columns = [names.index(name) for name in fields]
        known, of = np.unique(train_ids[:, columns], axis=0, return_inverse=True)
        rows = {tuple(row): i for i, row in enumerate(known)}
        counts = [np.bincount(of.ravel(), train == label) for label in (1, 0)]
        # Values that training has not, in a row of zeros.
        counts = [np.append(count, 0) for count in counts]
        at = [rows.get(tuple(row), len(known)) for row in ids[:, columns]]
        return counts[0][at], counts[1][at], (counts[0] > 0) & (counts[1] > 0)

    used, unused, both = counted(("user", "item"))
    pair = np.sign(used) - np.sign(unused)
    popularity, *_ = counted(("item",))
    cost, *_ = counted(("item", "cost"))
    there, not_there, _ = counted([name for name in names if name != "item"])
    scores = {
        "popularity": popularity,
        "pair": pair,
        "pair_popularity": pair * (1 + popularity.max()) + popularity,
        "situation": not_there - 2 * there,
        "cost": cost,
        "pair_cost": pair * (1 + cost.max()) + cost,
    }
    return {
        "decided": float((used[labels == 1] > 0).mean()),
        "both": int(both.sum()),
        **{name: float(metrics.auc(labels, score)) for name, score in scores.items()},
    }


def _rows(data, split, spec):
    """Ids `[N, S]` and labels `[N]` of a split."""
    records = read_records(PreparedData(data).records(split), spec, BATCH_ROWS)
    ids, labels = zip(*((ids.numpy(), labels.numpy()) for ids, labels, *_ in records))
    return np.concatenate(ids), np.concatenate(labels)
