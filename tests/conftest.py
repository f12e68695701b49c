import os

# Before TensorFlow is imported, here and in the server that tests/helpers/forked.py
# forks: its start-up lines are not for test reports, nor for those who run `edcn`.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import pytest

LONG = [  # files of a minute and more
    *("test_tuning.py", "test_resume.py", "test_cli.py", "test_bad_records.py"),
    *("test_warm_start.py", "test_search.py", "test_tutorial.py", "test_fuzz.py"),
    *("test_export.py", "test_distribution.py", "test_family.py", "test_client.py"),
    *("test_export_variety.py", "test_benchmarks.py", "test_signatures.py"),
    *("test_history_way.py", "test_history_layers.py", "test_history_models.py"),
    *("test_vector_way.py", "test_vector_models.py", "test_crossed_way.py"),
    "test_client_connections.py",
]
FAST = [  # files of tests that train nothing and export nothing: make test-fast
    *("test_checks.py", "test_choices.py", "test_layout.py", "test_schema.py"),
    *("test_types.py", "test_draws.py", "test_encoder.py", "test_feature_spec.py"),
    *("test_sequences.py", "test_log_reading.py", "test_one_meaning.py"),
    *("test_record_frames.py", "test_record_writing.py", "test_comparison.py"),
    *("test_importance.py", "test_metrics.py", "test_value_figures.py"),
    *("test_options.py", "test_tuning_page.py", "test_client_rows.py"),
    *("test_usable.py", "test_vector_columns.py", "test_vector_features.py"),
    *("test_timestamps.py", "test_json_lines.py", "test_folders.py"),
    *("test_framing.py", "test_crosses.py", "test_bins.py", "test_divergences.py"),
    *("test_prediction_logs.py", "test_operation.py", "test_client_errors.py"),
]


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONG)  # else as they were
    for item in items:
        if item.path.name in FAST:
            item.add_marker("fast")


def optimize_graphs(optimize):
    import tensorflow as tf

    options = {"disable_meta_optimizer": not optimize}
    tf.config.optimizer.set_experimental_options(options)


@pytest.fixture(scope="session", autouse=True)
def quick_graphs():
    """TensorFlow runs a graph as it was traced.

    To optimize one takes longer than all the steps of a small training. Processes that
    tests start, and exported models, have theirs optimized.
    """
    optimize_graphs(False)


@pytest.fixture
def optimized_graphs(quick_graphs):
    """Graphs as other processes have them: for what equals theirs to the last digit."""
    optimize_graphs(True)
    yield
    optimize_graphs(False)


@pytest.fixture
def random():
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(20240229)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A model trained for an epoch on a small log with every kind of field."""
    import edcn_tf

    folder = tmp_path_factory.mktemp("export")
    random = np.random.default_rng(0)
    lines = ["click,user,age,country,tags,price,device_id,site"]
    for i in range(900):
        tags = "|".join(random.choice(list("abcdef"), random.integers(0, 4)))
        price = "" if i % 11 == 0 else f"{random.lognormal():.3f}"
        age = "" if i % 13 == 0 else 20 + i % 50
        country = f"c{random.zipf(1.5) % 60}"
        row = f"u{i % 40},{age},{country},{tags},{price},d{i % 70},{i % 5}"
        lines.append(f"{i % 3 == 0:d},{row}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    schema = edcn_tf.Schema.from_dict(
        {
            "label": "click",
            "group": "user",
            "fields": [
                {"name": "user"},
                {"name": "age", "kind": "numeric", "dtype": "int64", "buckets": 4},
                {"name": "country", "min_count": 5, "unseen_rows": 3},
                {
                    "name": "tags",
                    "multiple": True,
                    "max_length": 3,
                    "candidate": True,
                },
                {
                    "name": "price",
                    "kind": "numeric",
                    "buckets": 5,
                    "candidate": True,
                },
                {"name": "device_id", "hash_buckets": 16},
                {"name": "site", "dtype": "int64", "candidate": True},
            ],
        }
    )
    edcn_tf.prepare([folder / "log.csv"], schema, folder / "data")
    config = edcn_tf.TrainingConfig.from_dict(
        {"epochs": 1, "batch_size": 64, "embedding_dim": 4}
    )
    edcn_tf.train(folder / "data", folder / "run", config)
    return folder / "run"


@pytest.fixture(scope="session")
def loaded(run):
    """Its model and its FeatureSpec."""
    import edcn_tf

    return edcn_tf.evaluation.scoring.load_run(run)


@pytest.fixture(scope="session")
def records(run):
    """Serialized rows of its validation split."""
    import tensorflow as tf

    dataset = tf.data.TFRecordDataset(str(run / "sample.tfrecord"))
    return [record.numpy() for record in dataset]


@pytest.fixture(scope="session")
def version(loaded, records, tmp_path_factory):
    """It, exported."""
    import edcn_tf

    base = tmp_path_factory.mktemp("models") / "clicks"
    return edcn_tf.export.export_saved_model(*loaded, base, records=records)


@pytest.fixture(scope="session")
def session(version):
    """The exported version, loaded as TF Serving loads it."""
    from edcn_tf.export.c_api import Session

    with Session(version) as session:
        yield session
