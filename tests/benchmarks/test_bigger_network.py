"""The benchmark of a bigger network, at a toy's scale: text, training, measures, the norm ball."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark_scripts import load_benchmark
from compactproofs.crosscoders import Crosscoder, default_sites, load_crosscoder, residuals
from compactproofs.crosscoders.fidelity import fidelity
from compactproofs.kernel import Transformer, load_network

torch = pytest.importorskip("torch", reason="training")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
benchmark = load_benchmark("bigger_network")
characters, measures, norm_ball, page = (
    sys.modules[name]
    for name in ("character_model", "network_measures", "norm_ball", "network_page")
)
RECIPE = characters.Recipe(
    n_layers=2, n_heads=2, d_model=16, d_mlp=32, n_ctx=8, steps=60, batch=16, learning_rate=1e-2
)
SIZES = benchmark.Sizes(
    features=24,
    k=4,
    steps=150,
    batch=64,
    penalty_rows=16,
    train_sequences=120,
    held_out_sequences=12,
)
SAMPLES = measures.Samples(codes=20, ball_sequences=3, fidelity_sequences=6)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    for number in range(2 * characters.HELD_OUT_EVERY):
        words = " ".join(f"the {word} of file {number}" for word in ("first", "last") * 3)
        (folder / f"file_{number:02}.py").write_text(f'"""Says {words}."""\n')
    (folder / "twice.py").write_text(
        'def f():\n    """Says it.\n\n      And more.\n    """\n\n\ndef g():\n    """Says it.\n\n'
        '      And more."""\n\n\nclass C:\n    """Caf\u00e9."""\n'
    )
    (folder / "broken.py").write_text('"""Never closed.')
    (folder / "test").mkdir()
    (folder / "test" / "hidden.py").write_text('"""Not this one."""')
    return folder


@pytest.fixture(scope="module")
def out(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    benchmark.run(folder, folder / "r.json", RECIPE, SIZES, SAMPLES, (0.0, 1.0), 1, library=library)
    return folder


@pytest.fixture(scope="module")
def found(out: Path) -> dict[str, Any]:
    return json.loads((out / "r.json").read_text())


@pytest.fixture(scope="module")
def net(out: Path) -> Transformer:
    net = load_network(out / "model")
    assert isinstance(net, Transformer)
    return net


@pytest.fixture(scope="module")
def crosscoder(out: Path) -> Crosscoder:
    return load_crosscoder(out / "crosscoder-0" / "crosscoder")


def test_the_text_has_each_docstring_once(library: Path) -> None:
    text = characters.library_text(library)
    trained, held_out = (characters.text_of(part) for part in text[:2])
    assert text.docstrings == 2 * characters.HELD_OUT_EVERY + 1
    assert trained.count("Says it.\n\nAnd more.") == 1
    assert "file 19" in held_out and "file 19" not in trained
    assert "Caf" not in trained and "Never" not in trained and "Not this" not in trained
    assert text.sha256 == characters.library_text(library).sha256
    assert text.trained.max() < len(characters.CHARACTERS)


def test_windows_are_followed_by_their_next_characters() -> None:
    tokens, following = characters.windows(np.arange(90, dtype=np.uint8), 8, 5)
    assert tokens.shape == (5, 8) and tokens[0, 0] == 0 and following[-1, -1] == 89
    assert (following == tokens + 1).all()


def test_the_model_that_is_saved_is_the_one_that_was_trained(
    library: Path, out: Path, net: Transformer
) -> None:
    text = characters.library_text(library)
    tensors = characters.train(text, RECIPE, out / "training.safetensors")
    tokens, _ = characters.windows(text.held_out, 8, 4)
    theirs = characters.logits_of(tensors, torch.from_numpy(tokens), 2)
    last = residuals(net, tokens, ["blocks.1.hook_resid_post"], "all")[:, 0]
    ours = (last @ net.W_U + net.b_U).reshape(theirs.shape)
    assert np.abs(ours - theirs.numpy()).max() < 1e-4


def test_a_model_that_was_interrupted_ends_as_one_that_was_not(
    library: Path, tmp_path: Path
) -> None:
    text = characters.library_text(library)
    recipe = characters.Recipe(**{**vars(RECIPE), "steps": 4})
    whole = characters.train(text, recipe, tmp_path / "whole.safetensors")
    parts = [characters.train(text, recipe, tmp_path / "parts.safetensors", 0.0) for _ in range(4)]
    assert whole is not None and parts[:3] == [None] * 3
    assert all(torch.equal(one, parts[3][name]) for name, one in whole.items())


def test_figures_are_what_they_say(found: dict[str, Any], net: Transformer) -> None:
    nats = found["model"]["nats"]
    assert nats["model"] < nats["unigram"] < np.log(96)
    assert found["model"]["sha256"] == net.sha256
    assert [one["penalty"] for one in found["crosscoders"]] == [0, 1]
    for one in found["crosscoders"]:
        assert list(one["sites"]) == list(default_sites(net))
        assert 0 <= one["never_active"] <= SIZES.features
        for layer in one["layers"]:
            assert 0 < layer["dominant_share"] <= 1
            assert sum(layer["neurons_and_codes"]["shares"].values()) == pytest.approx(1)
            assert layer["fidelity"]["model"]["fidelity"] == 1
            assert layer["fidelity"]["none"]["fidelity"] == 0


def test_losses_at_the_last_position_are_those_of_the_package(
    net: Transformer, crosscoder: Crosscoder
) -> None:
    tokens = np.random.default_rng(2).integers(net.d_vocab, size=(5, net.n_ctx))
    source = measures.TransformerSource(net, tokens, tokens[:, 0], positions="all")
    rows = source.rows(np.arange(len(source)))
    codes = crosscoder.encode(rows.activations.numpy())
    for layer in range(2):
        losses = measures.losses_of(net, crosscoder, rows, codes, layer, 5)
        for one in fidelity(net, crosscoder, tokens, tokens[:, 0], layer):
            assert losses[one.scheme].shape == tokens.shape
            assert losses[one.scheme][:, -1].mean() == pytest.approx(one.loss, abs=1e-4)


def test_a_penalty_makes_its_layer_s_strongest_feature_stronger(found: dict[str, Any]) -> None:
    plain, penalised = (one["layers"][1]["dominant_share"] for one in found["crosscoders"])
    assert penalised > plain


def test_no_stream_in_the_ball_leaves_the_radius(net: Transformer, crosscoder: Crosscoder) -> None:
    tokens = np.random.default_rng(0).integers(net.d_vocab, size=(3, net.n_ctx))
    found = norm_ball.streams(net, crosscoder, tokens)
    for start in range(len(found.sites)):
        bounds = norm_ball.radii(net, found, start)
        assert len(bounds) == len(found.sites) - start
        for bound, place in zip(bounds, range(start, len(found.sites)), strict=True):
            assert (found.distance[:, :, place] <= bound * (1 + 1e-9)).all()


@pytest.mark.parametrize("size", [1e-3, 0.1, 1.0, 30.0])
def test_nothing_in_a_ball_moves_further_than_gamma(net: Transformer, size: float) -> None:
    rng = np.random.default_rng(0)
    u = rng.normal(size=(4, net.n_ctx, net.d_model))
    radius = size * rng.random((4, net.n_ctx))
    after, spread = norm_ball.attention_step(net, net.blocks[0], u, radius)
    after_mlp, spread_mlp = norm_ball.mlp_step(net.blocks[0], u, radius)
    nearest = np.inf
    for _ in range(50):
        step = rng.normal(size=u.shape)
        moved = u + radius[:, :, None] * step / np.linalg.norm(step, axis=2, keepdims=True)
        other, _ = norm_ball.attention_step(net, net.blocks[0], moved, 0 * radius)
        other_mlp, _ = norm_ball.mlp_step(net.blocks[0], moved, 0 * radius)
        far = np.linalg.norm(other - after, axis=2)
        assert (far <= spread * (1 + 1e-9)).all()
        assert (np.linalg.norm(other_mlp - after_mlp, axis=2) <= spread_mlp * (1 + 1e-9)).all()
        nearest = min(nearest, float((spread / far).min()))
    assert nearest < 100  # the bound is not infinite by mistake


def test_certified_predictions_are_the_model_s(net: Transformer, crosscoder: Crosscoder) -> None:
    tokens = np.random.default_rng(1).integers(net.d_vocab, size=(40, net.n_ctx))
    found = norm_ball.streams(net, crosscoder, tokens)
    end = norm_ball.certified(net, found, found.distance[:, :, -1])
    same = (found.true[:, :, -1] @ net.W_U).argmax(2) == (found.decoded[:, :, -1] @ net.W_U).argmax(
        2
    )
    assert (same | ~end.certain).all() and not same.all()
    assert norm_ball.certified(net, found, 0 * end.margin).certain.all()
    assert not norm_ball.certified(net, found, 1e3 + 0 * end.margin).certain.any()
    assert (end.certain <= (end.margin > end.lost)).all()


def test_it_resumes_and_says_when_time_is_up(out: Path, library: Path, tmp_path: Path) -> None:
    with pytest.raises(benchmark.OutOfTime):
        benchmark.run(
            tmp_path, tmp_path / "r.json", RECIPE, SIZES, SAMPLES, deadline=0.0, library=library
        )
    again = tmp_path / "again.json"
    run = benchmark.run(out, again, RECIPE, SIZES, SAMPLES, (0.0,), 1, library=library)
    first = json.loads((out / "r.json").read_text())["crosscoders"][0]
    assert json.loads(json.dumps(run["crosscoders"][0])) == first


def test_tables_are_put_between_the_marks(found: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    page.fill_page(file, found)
    assert not file.exists()
    file.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.fill_page(file, found)
    page.fill_page(file, found)
    text = file.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert f"{found['text']['characters']:,} characters" in text
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_a_picture_is_drawn_the_same_way_twice(found: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the picture")
    for name in ("a.svg", "b.svg"):
        page.draw(found, tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text() and "bound from the embedding on" in text


def test_the_page_says_what_the_committed_benchmark_measured() -> None:
    stored = json.loads(benchmark.RESULTS.read_text())
    pages = [file.read_text() for file in (benchmark.ROOT / "docs").glob("*.md")]
    marked = [text for text in pages if page.BEGIN in text]
    assert marked and all(page.tables(stored) in text for text in marked)
    for one in stored["crosscoders"]:
        ball = one["ball"]
        assert all(start["certified"] == 0 for start in ball["starts"][:-1])
        assert ball["starts"][0]["smallest_lost"] > ball["starts"][0]["largest_margin"]
