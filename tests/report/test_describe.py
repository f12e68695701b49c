"""`edcn describe`: what a model consists of and costs, in a table and a drawing."""

import math

import pytest

from edcn_tf import FAMILY, LogisticRegression, make_model
from edcn_tf.errors import InputError
from edcn_tf.models.flops import count_flops, parameters_by_layer
from edcn_tf.report.describe import described_model, description
from edcn_tf.report.diagram import draw_model

SPEC = {
    "fields": [
        {"name": n, "slots": 1, "rows": 5, "pooling": "mean"} for n in ("a", "b", "c")
    ],
    "num_rows": 16,
}
# Table 5 of Chen et al. 2021: 3 layers, D = 40, baselines of 400-400-400, Avazu.
AVAZU = {"fields": 23, "rows": 212_000}
PAPER = ["embedding_dim=40", "num_layers=3"]


def parameters(*settings):
    model = described_model(settings=[*PAPER, *settings], **AVAZU)
    return sum(parameters_by_layer(model).values())


def test_parameters_are_those_of_the_papers_table_5():
    """EDCN 11.03 M, DCN 9.17 M, +20.3 %, with the number of fields that fits both."""
    edcn, dcn = parameters(), parameters("model=dcn", "deep_units=400")
    assert round(edcn / 1e6, 2) == 11.03
    assert dcn / 1e6 == pytest.approx(9.17, abs=0.01)
    assert edcn / dcn - 1 == pytest.approx(0.203, abs=0.002)
    # All of it is the deep tower's width: gates and bridges are a thousandth of that.
    wide = parameters("model=dcn")
    assert edcn - wide == 6 * 23 + 23 * 40
    cin = ("model=xdeepfm", "linear=false", "feature_maps=100", "deep_units=400")
    assert parameters(*cin) / dcn - 1 == pytest.approx(0.053, abs=0.003)


def test_the_table_adds_up():
    model = make_model(SPEC, "xdeepfm", bridge="hadamard", gate="softmax")
    lines = [line.split() for line in description(model).splitlines() if line]
    head, *rows, everything, without = lines
    assert head == ["layer", "kind", "parameters", "FLOPs"]
    numbers = [[int(n.replace(",", "")) for n in row[-2:]] for row in rows]
    total = [int(n.replace(",", "")) for n in everything[-2:]]
    assert [sum(column) for column in zip(*numbers)] == total
    assert total == [
        sum(parameters_by_layer(model).values()),
        sum(count_flops(model).values()),
    ]
    tables = 16 * 32 + 16  # the embeddings' and the linear term's
    assert int(without[-1].replace(",", "")) == total[0] - tables
    assert ["cin_0", "CompressedInteraction"] in [row[:2] for row in rows]


def test_the_model_of_data_and_of_a_run(run):
    of_run = described_model(run)
    assert of_run.get_config()["embedding_dim"] == 4  # the run's own setting
    of_data = described_model(run.parent / "data", settings=["model=deepfm"])
    assert of_data.get_config()["explicit"] == "fm"
    assert of_data.embedding.num_rows == of_run.embedding.num_rows


def test_made_up_fields_have_all_rows():
    model = described_model(fields=3, rows=11, settings=["embedding_dim=auto"])
    assert model.embedding.num_rows == 12
    assert [field["rows"] for field in model.spec["fields"]] == [3, 4, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a directory"),
        ({"fields": 3}, "either a directory"),
        ({"path": "x", "fields": 3, "rows": 9}, "either a directory"),
        ({"fields": 3, "rows": 2}, "--rows must be at least --fields.*2 and 3"),
        ({"path": "nowhere"}, "nowhere/features/features.json"),
        (
            {"fields": 3, "rows": 9, "settings": ["model=xdeepfm", "gate=softmax"]},
            "layer 2 of the cin tower.*gate_layers='input'",
        ),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(InputError, match=message):
        described_model(**arguments)


# The drawing


def drawn(tmp_path, name, **options):
    draw_model(make_model(SPEC, name, **options), tmp_path / "model.svg")
    return (tmp_path / "model.svg").read_text()


def test_edcn_is_drawn(tmp_path):
    text = drawn(tmp_path, "edcn", num_layers=3)
    for label, times in [
        ("embedding: 3 fields x 32", 1),
        ("softmax gate", 6),
        (">cross<", 3),
        ("deep 96", 3),
        ("hadamard", 3),
        ("sigmoid", 1),
    ]:
        assert text.count(label) == times, label


def test_unequal_towers_are_drawn(tmp_path):
    text = drawn(
        tmp_path,
        "deepfm",
        **{"bridge": "attention_components", "deep_units": [32, 16, 8]},
    )
    assert text.count(">FM<") == 1
    assert text.count(">components<") == 3
    assert [text.count(f"deep {width}") for width in (32, 16, 8)] == [1, 1, 1]
    assert "sigmoid + linear term" in text
    (tmp_path / "model.svg").unlink()
    assert "3 fields x 2 to 8" in drawn(tmp_path, "dcn", embedding_dim=[2, 8, 4])


def made(name):
    """On the small log, with a history where the member needs one."""
    if not FAMILY[name].needs_history:
        return make_model(SPEC, name)
    past = {"name": "past", "slots": 4, "rows": 5, "pooling": "mean"}
    past.update(kind="sequence", of="a", along=None)
    return make_model({**SPEC, "fields": [*SPEC["fields"], past]}, name)


@pytest.mark.parametrize("name", [name for name in FAMILY if "log" not in name])
def test_every_member_is_drawn(tmp_path, name):
    model = made(name)
    for form in ("svg", "png", "pdf"):
        draw_model(model, tmp_path / f"{name}.{form}")
    again = tmp_path / "again.svg"
    draw_model(model, again)
    assert again.read_bytes() == (tmp_path / f"{name}.svg").read_bytes()
    boxes = len(model.explicit_layers) + len(model.deep_layers) + len(model.histories)
    assert again.read_text().count("<text") == boxes + len(model.bridges) + 2 + len(
        [*model.explicit_gates, *model.deep_gates]
    )


def test_a_drawing_is_never_overwritten(tmp_path):
    path = tmp_path / "model.svg"
    path.write_text("mine")
    with pytest.raises(InputError, match="model.svg: exists already"):
        draw_model(make_model(SPEC, "dcn"), path)
    assert path.read_text() == "mine"
    for name, message in [("model.jpg", "must end in one of .svg"), ("m", ".svg")]:
        with pytest.raises(InputError, match=message):
            draw_model(make_model(SPEC, "dcn"), tmp_path / name)
    with pytest.raises(InputError, match="LogisticRegression has no towers"):
        draw_model(LogisticRegression(SPEC), tmp_path / "new.svg")
    assert [file.name for file in tmp_path.iterdir()] == ["model.svg"]


def test_the_flops_of_the_paper_follow_the_towers():
    """EDCN's deep tower is 920 wide, DCN's baseline 400: 3 * 2 * 920^2 of 5.1 M."""
    model = described_model(settings=PAPER, **AVAZU)
    flops = count_flops(model)
    deep = [flops[f"deep_{layer}"] for layer in range(3)]
    assert deep == [2 * 920**2 + 2 * 920] * 3
    assert math.isclose(sum(flops.values()), sum(deep), rel_tol=0.01)
