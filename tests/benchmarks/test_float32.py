"""The benchmark of float32 evaluations, by numpy and torch: small, and able to find a liar."""

import numpy as np
import pytest

import compactproofs as cp
from benchmark_scripts import load_benchmark
from compactproofs.models import resolve_model

pytest.importorskip("torch", reason="evaluations by torch")


benchmark = load_benchmark("float32")
MODEL = cp.load_model(resolve_model("max-of-4-undertrained"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An undertrained model in the place of a good one: more sequences near a tie."""
    monkeypatch.setattr(
        benchmark, "resolve_model", lambda _: resolve_model("max-of-4-undertrained")
    )
    monkeypatch.setattr(benchmark, "STYLES", 6)


def test_no_evaluation_gets_a_certified_sequence_wrong(small: None) -> None:
    found = benchmark.attack("max-of-4", 0.001)
    assert found["certified_and_wrong"] == 0
    assert found["evaluated"] > 40_000 and found["wrong"] > 100
    assert found["near_ties_certified"] > 50


def test_a_proof_that_certified_everything_would_be_found_out(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark.Certified, "__call__", lambda _, t: np.ones(len(t), dtype=bool))
    assert benchmark.attack("max-of-4", 0.001)["certified_and_wrong"] > 100


def test_the_evaluations_agree_up_to_rounding() -> None:
    tokens = np.random.default_rng(0).integers(64, size=(500, 4))
    ways = [logits(tokens) for _, logits in benchmark.evaluators(MODEL)]
    for one in ways:
        assert one.dtype == np.float32
        assert np.abs(one - ways[0]).max() < 1e-3
    assert any((one != ways[0]).any() for one in ways[1:])
