"""What an exported model answers, through TensorFlow's C++ session loader."""

import numpy as np
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf.export.c_api import Session
from edcn_tf.export.signatures import EXPLAINED_ROWS, slot_ranges
from edcn_tf.features.encoder import MISSING
from helpers.gpu_kernels import without_gpu_kernel

CANDIDATES = ("tags", "price", "site")


@pytest.fixture(scope="module")
def rows(loaded, records):
    """Raw features of rows of the log by name, NumPy arrays, lists padded."""
    _, spec = loaded
    parsed = tf.io.parse_example(tf.constant(records), edcn_tf.Encoder(spec).parsing())
    parsed["tags"] = parsed["tags"].to_tensor("")
    return {name: value.numpy() for name, value in parsed.items()}


@pytest.fixture(scope="module")
def ids(loaded, records):
    """What training reads of the same rows."""
    _, spec = loaded
    encoder = edcn_tf.Encoder(spec)
    return encoder(tf.io.parse_example(records, encoder.parsing())).numpy()


@pytest.fixture(scope="module")
def expected(loaded, ids):
    """What the model makes of them."""
    return loaded[0](ids, training=False).numpy()


def taken(rows, places):
    return {name: value[places] for name, value in rows.items()}


def ask(session, signature, inputs):
    return session.run(signature, inputs)["probability"]


def test_names_types_and_shapes(session):
    lists = {"tags": (None, None)}
    dtypes = {"age": np.int64, "site": np.int64, "price": np.float32}
    names = ["user", "age", "country", "tags", "price", "device_id", "site"]
    assert sorted(session.signatures) == [
        "classify",
        "examples",
        "explain",
        "ids",
        "rank",
        "regress",
        "serving_default",
    ]

    def specs(signature, side):
        return {
            name: (dtype, shape)
            for name, (_, dtype, shape) in session.signatures[signature][side].items()
        }

    default = {n: (dtypes.get(n, object), lists.get(n, (None,))) for n in names}
    assert specs("serving_default", "inputs") == default
    assert specs("explain", "inputs") == default
    ranked = {
        n: (dtype, (None, *shape) if n in CANDIDATES else shape)
        for n, (dtype, shape) in default.items()
    }
    assert specs("rank", "inputs") == ranked
    assert specs("ids", "inputs") == {"ids": (np.int32, (None, 9))}
    for name in ("examples", "classify", "regress"):
        assert specs(name, "inputs") == {"inputs": (object, (None,))}
    for name in ("serving_default", "examples", "ids"):
        assert specs(name, "outputs") == {"probability": (np.float32, (None, 1))}
    assert specs("rank", "outputs") == {"probability": (np.float32, (None, None))}
    assert specs("regress", "outputs") == {"outputs": (np.float32, (None, 1))}
    assert specs("classify", "outputs") == {
        "classes": (object, (None, 2)),
        "scores": (np.float32, (None, 2)),
    }
    assert specs("explain", "outputs") == {
        "probability": (np.float32, (None, 1)),
        "contributions": (np.float32, (None, 7)),
        "fields": (object, (None, 7)),
        "cross_gates": (np.float32, (None, 2, 7)),
        "deep_gates": (np.float32, (None, 2, 7)),
    }


def test_method_names_are_those_of_the_apis(version):
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(version))
    methods = {name: s.method_name for name, s in graph.signature_def.items()}
    assert methods["classify"] == "tensorflow/serving/classify"
    assert methods["regress"] == "tensorflow/serving/regress"
    assert methods["serving_default"] == "tensorflow/serving/predict"


@pytest.mark.parametrize("number", [1, 7, 60])
def test_every_signature_gives_the_score_of_training(
    session, rows, records, ids, expected, number
):
    """Training's reader and four ways to ask agree, row by row."""
    few = expected[:number]
    inputs = {"inputs": np.array(records[:number], object)}
    np.testing.assert_allclose(
        ask(session, "serving_default", taken(rows, slice(number))), few, atol=1e-6
    )
    np.testing.assert_allclose(ask(session, "examples", inputs), few, atol=1e-6)
    np.testing.assert_allclose(
        ask(session, "ids", {"ids": ids[:number]}), few, atol=1e-6
    )
    regress = session.run("regress", inputs)["outputs"]
    np.testing.assert_allclose(regress, few, atol=1e-6)
    classes = session.run("classify", inputs)
    assert classes["classes"].tolist() == [[b"0", b"1"]] * number
    np.testing.assert_allclose(classes["scores"][:, 1:], few, atol=1e-6)
    np.testing.assert_allclose(classes["scores"].sum(axis=1), 1, atol=1e-6)


def test_missing_and_unseen_values_are_different_rows_when_served(
    loaded, session, rows
):
    _, spec = loaded
    encoder = edcn_tf.Encoder(spec)
    scores = []
    for user, first in [
        (b"u1", spec.fields[0].first_value),
        ("\u2603".encode(), spec.fields[0].first_unseen),
        (b"", spec.fields[0].offset),
    ]:
        row = {**taken(rows, slice(1)), "user": np.array([user], object)}
        tensors = {name: tf.constant(value) for name, value in row.items()}
        assert int(encoder(tensors)[0, 0]) >= first
        scores.append(ask(session, "serving_default", row).item())
    assert len(set(scores)) == 3


def test_all_ways_to_leave_a_value_out_are_one(session, rows):
    one = {
        **taken(rows, slice(1)),
        "tags": np.empty((1, 0), object),
        "price": np.array([MISSING["float32"]], np.float32),
    }
    empty = np.array([[b"", b"", b"", b""]], object)
    score = ask(session, "serving_default", one)
    assert ask(session, "serving_default", {**one, "tags": empty}) == score
    some = np.array([[b"", b"a", b"", b"b"]], object)
    packed = np.array([[b"a", b"b"]], object)
    assert ask(session, "serving_default", {**one, "tags": some}) == ask(
        session, "serving_default", {**one, "tags": packed}
    )


def test_ids_out_of_range_go_to_the_unseen_row(loaded, session, ids):
    _, spec = loaded
    by_name = {field.field.name: field for field in spec.fields}
    for slot, other in [
        (0, by_name["user"].first_unseen),
        (1, by_name["age"].offset),  # a number has no unseen row: as if missing
        (2, by_name["country"].first_unseen),
        (3, by_name["tags"].first_unseen),
        (7, by_name["device_id"].offset),
    ]:
        right = ids[:1].copy()
        right[0, slot] = other
        wrong_ids = [-1, -(2**31), 2**31 - 1, spec.num_rows]
        if slot != 3:
            wrong_ids.append(0)  # padding, where there is no list
        wrong_ids.append(int(ids[0, slot - 1]))  # of another field
        for wrong in wrong_ids:
            given = right.copy()
            given[0, slot] = wrong
            assert ask(session, "ids", {"ids": given}) == ask(
                session, "ids", {"ids": right}
            ), (slot, wrong)
    lows, highs, _, lists = slot_ranges(spec)
    assert [lows[0], highs[0]] == [1, 1 + spec.fields[0].rows]
    assert lists == [False] * 3 + [True] * 3 + [False] * 3


def test_ids_of_every_slot_need_only_gpu_kernels(version):
    """What depends on the ids has a kernel that computes on the GPU itself.

    Read from the wheel, which is built with CUDA; nothing here ran on a GPU.
    """
    assert without_gpu_kernel(version, "ids") == {}
    # The same walk finds what is known to have none.
    found = without_gpu_kernel(version, "serving_default")
    assert "LookupTableFindV2" in set(found.values())


def test_rank_gives_what_each_candidate_gives_alone(session, rows):
    users, candidates = np.array([3, 0]), np.array([[5, 6, 7], [8, 9, 10]])
    inputs = {
        name: value[candidates if name in CANDIDATES else users]
        for name, value in rows.items()
    }
    ranked = ask(session, "rank", inputs)
    assert ranked.shape == (2, 3)
    for b in range(2):
        for n in range(3):
            one = {
                name: value[[candidates[b, n]] if name in CANDIDATES else [users[b]]]
                for name, value in rows.items()
            }
            alone = ask(session, "serving_default", one).item()
            assert ranked[b, n] == pytest.approx(alone, abs=1e-6)
    assert len(np.unique(ranked)) == 6


@pytest.mark.parametrize("batch, number", [(0, 3), (3, 0), (1, 1), (2, 500)])
def test_rank_of_any_size(session, rows, batch, number):
    shape = (batch, number)
    inputs = {
        name: value[np.zeros(shape if name in CANDIDATES else batch, int)]
        for name, value in rows.items()
    }
    assert ask(session, "rank", inputs).shape == shape


def test_rank_embeds_the_user_once(version, rows):
    """The shapes that the session traced: the user's ids are not repeated."""
    number = 50
    inputs = {
        name: value[np.zeros((1, number) if name in CANDIDATES else 1, int)]
        for name, value in rows.items()
    }
    trace = tf.compat.v1.RunMetadata()
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(version))
        rank = graph.signature_def["rank"]
        session.run(
            rank.outputs["probability"].name,
            {rank.inputs[name].name: value for name, value in inputs.items()},
            options=tf.compat.v1.RunOptions(trace_level=3),
            run_metadata=trace,
        )
    gathered = [
        tuple(d.size for d in output.tensor_description.shape.dim)
        for device in trace.step_stats.dev_stats
        for node in device.node_stats
        if "ResourceGather" in node.timeline_label
        for output in node.output
    ]
    assert sorted(gathered) == [(1, 4, 4), (number, 5, 4)]


def test_rank_is_there_only_where_there_is_something_to_rank(loaded, tmp_path):
    model, spec = loaded
    without = edcn_tf.FeatureSpec.load(spec.directory)
    fields = [dict(f.to_dict(), candidate=False) for f in spec.schema.fields]
    schema = edcn_tf.Schema.from_dict({"label": "click", "fields": fields})
    without.schema = schema
    published = edcn_tf.export.export_saved_model(model, without, tmp_path / "m")
    with Session(published) as session:
        assert "rank" not in session.signatures


def test_explain_leaves_one_field_out_at_a_time(loaded, session, rows, ids, expected):
    model, spec = loaded
    explained = session.run("explain", taken(rows, slice(20)))
    names = [field.name for field in spec.schema.fields]
    assert explained["fields"].tolist() == [[n.encode() for n in names]] * 20
    np.testing.assert_allclose(explained["probability"], expected[:20], atol=1e-6)
    slots = {"user": [0], "age": [1], "country": [2], "tags": [3, 4, 5]}
    slots |= {"price": [6], "device_id": [7], "site": [8]}
    by_name = {field.field.name: field for field in spec.fields}
    for f, name in enumerate(names):
        without = ids[:20].copy()
        without[:, slots[name]] = 0
        field = by_name[name]
        plain = name in ("age", "price", "device_id")  # no unseen row
        without[:, slots[name][0]] = field.offset if plain else field.first_unseen
        left = model(without, training=False).numpy()
        np.testing.assert_allclose(
            explained["contributions"][:, f], (expected[:20] - left)[:, 0], atol=1e-6
        )
    assert np.abs(explained["contributions"]).max() > 1e-3
    for tower in ("cross", "deep"):
        weights = model.gates()[tower].numpy()
        np.testing.assert_allclose(
            explained[f"{tower}_gates"], np.repeat(weights[None], 20, axis=0), atol=1e-6
        )


def test_explain_takes_a_limited_number_of_rows(session, rows):
    many = taken(rows, np.zeros(EXPLAINED_ROWS + 1, int))
    with pytest.raises(RuntimeError, match="explain takes at most 1024 rows"):
        session.run("explain", many)
    assert len(ask(session, "explain", taken(rows, np.zeros(EXPLAINED_ROWS, int))))


# Requests that are wrong, or odd. What each leads to is in docs/serving.md.


def test_unequal_numbers_of_rows_are_named(session, rows):
    wrong = {**taken(rows, slice(4)), "price": rows["price"][:3]}
    with pytest.raises(RuntimeError, match=r"same number of rows.*price.*\[?4.*3"):
        session.run("serving_default", wrong)
    with pytest.raises(RuntimeError, match="same number of rows"):
        session.run("explain", wrong)


def test_candidates_of_unequal_numbers_are_named(session, rows):
    def inputs(**shapes):
        return {
            name: value[
                np.zeros(shapes.get(name, (2, 3)) if name in CANDIDATES else 2, int)
            ]
            for name, value in rows.items()
        }

    assert ask(session, "rank", inputs()).shape == (2, 3)
    # As many values in all, so that nothing inside would notice.
    for wrong in [{"price": (3, 2)}, {"price": (2, 4)}, {"site": (1, 6)}]:
        with pytest.raises(RuntimeError, match="same number of rows.*candidates"):
            session.run("rank", inputs(**wrong))


@pytest.mark.parametrize(
    "name, value",
    [
        ("price", np.array([1], np.int64)),
        ("price", np.array([b"1"], object)),
        ("user", np.array([1], np.int64)),
        ("age", np.array([1], np.float32)),
    ],
)
def test_a_value_of_another_type_is_an_error(session, rows, name, value):
    wrong = {**taken(rows, slice(1)), name: value}
    with pytest.raises(ValueError, match=f"{name!r}: expected"):
        session.run("serving_default", wrong)


def test_a_value_of_another_type_is_an_error_of_tensorflow_too(
    version, rows, monkeypatch
):
    """TF Serving leaves it to TensorFlow, which says what it expected."""
    with Session(version) as session:
        tensor, _, shape = session.signatures["serving_default"]["inputs"]["price"]
        inputs = session.signatures["serving_default"]["inputs"]
        inputs["price"] = (tensor, np.dtype(np.int64), shape)  # past our own check
        wrong = {**taken(rows, slice(1)), "price": np.array([1], np.int64)}
        with pytest.raises(RuntimeError, match="float.*int64"):
            session.run("serving_default", wrong)
        inputs["price"] = (tensor, np.dtype(np.float32), shape)
        session._prepared.clear()
        assert session.run("serving_default", taken(rows, slice(1)))  # still serves


def test_a_missing_input_is_named(session, rows):
    wrong = taken(rows, slice(1))
    del wrong["country"]
    with pytest.raises(ValueError, match="missing: .*country"):
        session.run("serving_default", wrong)


@pytest.mark.parametrize("signature", ["serving_default", "explain", "examples", "ids"])
def test_an_empty_batch_has_an_empty_answer(session, rows, ids, signature):
    inputs = {
        "examples": {"inputs": np.empty(0, object)},
        "ids": {"ids": ids[:0]},
    }.get(signature, taken(rows, slice(0)))
    assert ask(session, signature, inputs).shape == (0, 1)


def test_a_large_batch_scores_each_row_as_alone(session, rows, ids, expected):
    places = np.arange(100_000) % len(ids)
    answer = ask(session, "serving_default", taken(rows, places))
    np.testing.assert_allclose(answer, expected[places], atol=1e-6)
    answer = ask(session, "ids", {"ids": ids[places]})
    np.testing.assert_allclose(answer, expected[places], atol=1e-6)


@pytest.mark.parametrize(
    "name, value, like",
    [
        ("price", np.nan, None),  # missing
        ("price", np.inf, 3e38),  # the last range
        ("price", -np.inf, -3e38),
        ("price", -0.0, 0.0),
        ("age", -(2**63), None),
        ("age", 2**63 - 1, 2**40),
        ("user", b"x" * 1_000_000, b"never seen"),
        ("user", b"\xff\xfe\x00", b"never seen"),
        ("user", b"u1\0", b"never seen"),
        ("device_id", b"", None),
    ],
)
def test_odd_values_score_as_documented_and_disturb_no_other_row(
    loaded, session, rows, ids, expected, name, value, like
):
    """One row of ten is odd; `like` is a value that counts as the same."""
    model, spec = loaded
    given = {n: v[:10].copy() for n, v in rows.items()}
    given[name][4] = value
    answer = ask(session, "serving_default", given)
    others = np.arange(10) != 4
    np.testing.assert_allclose(answer[others], expected[:10][others], atol=1e-6)
    if like is None:
        row = ids[4:5].copy()
        field = next(f for f in spec.fields if f.field.name == name)
        slot = {"user": 0, "age": 1, "price": 6, "device_id": 7}[name]
        row[0, slot] = field.offset
        like_score = model(row, training=False).numpy().item()
    else:
        given[name][4] = like
        like_score = ask(session, "serving_default", given)[4].item()
    assert answer[4].item() == pytest.approx(like_score, abs=1e-6)


def test_a_broken_example_is_an_error_for_the_request_alone(session, records):
    good = np.array(records[:3], object)
    for broken, message in [
        (b"\x0a\xff nonsense", "Could not parse example"),
        (_example(price=b"cheap"), "price.*[Dd]ata types don't match"),
    ]:
        wrong = good.copy()
        wrong[1] = broken
        with pytest.raises(RuntimeError, match=message):
            session.run("examples", {"inputs": wrong})
    assert ask(session, "examples", {"inputs": good}).shape == (3, 1)


def test_an_example_without_any_feature_is_all_missing(loaded, session):
    model, spec = loaded
    row = [[f.offset] + [0] * (f.field.slots - 1) for f in spec.fields]
    all_missing = np.concatenate(row, dtype=np.int32)[np.newaxis]
    score = ask(session, "examples", {"inputs": np.array([b""], object)})
    np.testing.assert_allclose(score, model(all_missing, training=False), atol=1e-6)


def _example(**features):
    example = tf.train.Example()
    for name, value in features.items():
        example.features.feature[name].bytes_list.value.append(value)
    return example.SerializeToString()
