"""How long training from TFRecords waits for its input."""

import time

import numpy as np

import edcn_tf
from edcn_tf.directories import PreparedData
from edcn_tf.logs.formats import SCHEMAS
from edcn_tf.logs.synthetic.writing import synthesize
from edcn_tf.preparation.local import prepare

WARM_UP = 5


def waiting(folder, rows, batch_size, options):
    """Seconds a step, and the share of them that the step waits for its batch."""
    synthesize(folder / "log.tsv", rows)
    prepare(
        [folder / "log.tsv"],
        SCHEMAS["criteo"],
        folder / "data",
        format="criteo",
        split=(1, 0, 0),
        workers=1,
    )
    prepared = PreparedData(folder / "data")
    spec = edcn_tf.FeatureSpec.load(prepared.features)
    model = edcn_tf.EDCN(spec, **options)
    model.compile(edcn_tf.SparseAdam(), "binary_crossentropy")
    data = edcn_tf.read_records(
        prepared.records("train"), spec, batch_size, shuffle=True, seed=0
    )
    waited, computed = [], []
    batches = iter(data.repeat())
    for _ in range(WARM_UP + max(1, rows // batch_size)):
        start = time.perf_counter()
        ids, labels = next(batches)
        arrived = time.perf_counter()
        model.train_on_batch(ids, labels)
        waited.append(arrived - start)
        computed.append(time.perf_counter() - arrived)
    waited, computed = np.sum(waited[WARM_UP:]), np.sum(computed[WARM_UP:])
    return waited / (waited + computed)
