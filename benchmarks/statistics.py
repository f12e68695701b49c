"""What statistics cost a served model: `edcn benchmark statistics`."""

import dataclasses
import functools
import os
import tempfile
from pathlib import Path

import numpy as np

from edcn_tf import export
from edcn_tf.directories import PreparedData
from edcn_tf.export.c_api import Session
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.features.statistics.counter import FINGERPRINTS
from edcn_tf.field import Field
from edcn_tf.framing import record_dataset
from edcn_tf.logs.formats import SCHEMAS
from edcn_tf.logs.synthetic.writing import synthesize
from edcn_tf.models import EDCN
from edcn_tf.preparation.local import prepare
from edcn_tf.records.writing import record_files

from .serving import BATCHES, MIB, parsed_features, times

STATISTICS = 5
KEYS = 1_000_000  # of each
LOG_ROWS = 20_000


def benchmark_statistics(rows=KEYS):
    """Latency of `serving_default` with and without statistics, in turns.

    Criteo's 39 fields and five more, which are statistics of some of these, single
    ones and pairs; or ranges of numbers again; or none. Weights are random.

    Args:
        rows: Keys of each statistic.
    """
    criteo = SCHEMAS["criteo"]
    names = [field.name for field in criteo.fields if field.kind == "categorical"]
    numbers = [field for field in criteo.fields if field.kind == "numeric"]
    of = [*((name,) for name in names[:3]), tuple(names[3:5]), tuple(names[5:7])]
    more = {
        "39 fields": [],
        "and 5 of numbers": [
            dataclasses.replace(field, name=f"{field.name}_again", column=field.name)
            for field in numbers[:STATISTICS]
        ],
        "and 5 statistics": [
            Field(name=f"rate_{number}", kind="statistic", of=each)
            for number, each in enumerate(of)
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        versions = {
            kind: _version(Path(folder, str(number)), criteo, fields, rows)
            for number, (kind, fields) in enumerate(more.items())
        }
        sessions = {kind: Session(version) for kind, (version, _) in versions.items()}
        print(
            f"EDCN's defaults, width 16, {os.cpu_count()} processors, {rows:,} keys a "
            "statistic; serving_default by the C API, medians in turns\n"
        )
        print(f"{'ms':<20}" + "".join(f"{batch:>9}" for batch in BATCHES))
        found = {kind: [] for kind in versions}
        for batch in BATCHES:
            taken = times(
                {
                    kind: functools.partial(
                        sessions[kind].run,
                        "serving_default",
                        {name: value[:batch] for name, value in features.items()},
                    )
                    for kind, (_, features) in versions.items()
                }
            )
            for kind, each in taken.items():
                found[kind].append(np.median(each))
        for kind, medians in found.items():
            print(f"{kind:<20}" + "".join(f"{each:>9.2f}" for each in medians))
        for kind in ("39 fields", "and 5 of numbers"):
            ratios = np.divide(found["and 5 statistics"], found[kind])
            told = "".join(f"{ratio:>9.2f}" for ratio in ratios)
            print(f"{'ratio to ' + kind:<20}{told}")
        for kind, (version, _) in versions.items():
            files = [path for path in version.rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
            print(f"{kind:<20}{size / MIB:>9,.0f} MiB on disk")
        for session in sessions.values():
            session.close()


def _version(folder, criteo, more, keys):
    """An export with these fields too, and rows that it can be asked with."""
    folder.mkdir()
    synthesize(folder / "log.tsv", LOG_ROWS)
    schema = dataclasses.replace(criteo, fields=(*criteo.fields, *more))
    prepare([folder / "log.tsv"], schema, folder / "data", format="criteo", workers=1)
    features = PreparedData(folder / "data").features
    random = np.random.default_rng(0)
    for table in FeatureSpec.load(features).counters:
        own, counts = table.load()
        others = random.integers(0, FINGERPRINTS, max(0, keys - len(own)))
        all_keys, first = np.unique(np.concatenate([own, others]), return_index=True)
        made_up = np.concatenate([counts, np.full((len(others), 2), [1, 9])])
        np.save(table.keys, all_keys)
        np.save(table.counts, made_up[first].astype(np.float32))
    spec = FeatureSpec.load(features)
    model = EDCN(spec, embedding_dim=16)
    model.build((None, spec.num_slots))
    version = export.export_saved_model(model, spec, folder / "models")
    files = record_files(PreparedData(folder / "data").records("train"))
    records = next(iter(record_dataset(files[0]).batch(max(BATCHES))))
    names = {field.name for field in spec.schema.inputs}
    return version, parsed_features(records, spec, names)
