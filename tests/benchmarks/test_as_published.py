"""The published strategies with their defects: cubic against our theorem, counts, FLOPs, tables."""

import json
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compactproofs as cp
from benchmark_scripts import load_benchmark
from compactproofs._ladder import subcubic_strategies
from compactproofs.training import TrainSettings, train_max_of_k

as_published = load_benchmark("as_published")
K, V = 3, 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> cp.Model:
    settings = TrainSettings(k=K, v=V, d_model=16, steps=300, seed=1)
    trained = train_max_of_k(settings)
    folder = tmp_path_factory.mktemp("as_published") / "model"
    return cp.load_model(cp.save_model(folder, trained.config, trained.tensors))


@pytest.fixture(scope="module")
def found(model: cp.Model) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in as_published.published_strategies(model)}


def test_all_strategies_have_the_ladder_s_names_and_families(
    found: dict[str, dict[str, Any]],
) -> None:
    expected = {"cubic": "cubic"} | {s.name: s.family for s in subcubic_strategies()}
    assert {name: row["family"] for name, row in found.items()} == expected
    assert len(found) == 101


def test_cubic_counts_what_our_theorem_counts(
    model: cp.Model, found: dict[str, dict[str, Any]]
) -> None:
    proved = cp.prove(model, cp.parse_task(f"max:k={K},v={V}"), "cubic")
    assert found["cubic"]["count"] == proved.claim.correct > 0


def test_no_class_holds_more_than_its_sequences(found: dict[str, dict[str, Any]]) -> None:
    # Defect 3: of the smaller tokens 0 .. m-1 at most m - 1 are counted for each free place.
    def most(m: int) -> int:
        own = sum(comb(K - 1, c) * (m - 1) ** c for c in range(1, K)) if m else 0
        others = sum(comb(K - 1, c) * (m - 1) ** c for c in range(K - 1)) * m if m else 0
        return 1 + own + others

    for name, row in found.items():
        assert row["count"] == sum(row["by_label"]) and row["bound"] == row["count"] / V**K
        for m, count in enumerate(row["by_label"]):
            assert 0 <= count <= (m + 1) ** K - m**K
            assert name == "cubic" or count <= most(m)
    counts = [row["count"] for name, row in found.items() if name != "cubic"]
    assert max(counts) > V and len(set(counts)) > 20  # not vacuous, and told apart


def test_biases_are_refused(model: cp.Model) -> None:
    with pytest.raises(ValueError, match="without biases"):
        as_published.published_strategies(replace(model, b_Q=np.ones_like(model.b_Q)))


# Reference 4.2: every total of the two tables that the result files have.
@pytest.mark.parametrize(
    ("error", "total"),
    [
        ("svd", 4_455_721),
        ("max_diff_exact", 3_505_384),
        ("mean+max_diff", 3_257_671),
        ("max_diff", 3_249_352),
        ("mean+max_diff_subproduct", 2_516_099),
        ("max_diff_subproduct", 2_491_142),
        ("exact_EQKE+max_diff_exact", 2_272_487),
        ("mean_recursive+max_diff_subproduct_recursive", 1_987_555),
        ("mean+max_diff_subproduct_recursive", 1_973_125),
        ("max_diff_subproduct_recursive", 1_960_838),
    ],
)
def test_flops_at_k_4_are_the_published_ones(error: str, total: int) -> None:
    more = {
        "max_diff_exact": 256_096,
        "global_max_diff_exact": 264_351,
        "max_diff": 0,
        "mean_query+max_diff": 0,
        "svd_query+max_diff": -2_048,
    }
    for direct, extra in more.items():
        for averaging, less in (("mean_query+diff", 0), ("drop_average", 36_288)):
            name = f"subcubic {direct}/{averaging}/{error}"
            assert as_published.flops(name, 64, 4, 32) == (total + extra - less, "published")


def test_other_flops_are_lower_bounds() -> None:
    assert as_published.flops("cubic", 64, 4, 32) == (35_087_840, "published")
    assert as_published.flops("cubic", 64, 5, 32) == (52_397_344, "published")
    names = [s.name for s in subcubic_strategies()]
    at_4 = {name: as_published.flops(name, 64, 4, 32)[0] for name in names}
    for k, v, axis in ((5, 64, 21.2), (10, 64, 22.4), (20, 64, 24.1), (10, 128, 24.3)):
        least = 2 ** (axis - 0.05) - 2_048 * v // 64 - 1
        costs = {name: as_published.flops(name, v, k, 32) for name in names}
        assert all(kind == "lower bound" and cost >= least for cost, kind in costs.values())
        assert all(cost > at_4[name] for name, (cost, _) in costs.items())
    assert as_published.flops("cubic", 64, 10, 32) == (104_794_688, "lower bound")
    assert as_published.flops(names[0], 8, 3, 16) == (8 * 8 * 31, "lower bound")


def test_the_differences_follow_from_the_conventions() -> None:
    """What could be derived: these parts do not depend on k."""
    cost, v, d = as_published.FLOPS_OF_ERROR, 64, 32
    # A row times Y, its spread, the mean row, subtracting it, adding.
    centred = v * (2 * d - 1) + (2 * v - 1) + 2 * v * d + v
    # The spread of Y, absolute values, their product.
    split = d * (2 * v - 1) + v * d + v * (2 * d - 1)
    formed = v * v * (2 * d - 1) + v * (2 * v - 1)
    assert cost["mean+max_diff"] - cost["max_diff"] == centred
    assert cost["mean+max_diff_subproduct"] - cost["max_diff_subproduct"] == 3 * centred
    assert cost["max_diff_exact"] - cost["max_diff"] == formed - split
    chain = d * (2 * v - 1) + 2 * (d * d + d * (2 * d - 1)) + v * d + v * (2 * d - 1)
    three_splits = 4 * v * d * (2 * d - 1) + 3 * split
    plain = cost["max_diff_subproduct_recursive"]
    assert cost["max_diff_subproduct"] - plain == three_splits - chain


def test_tables_compare_only_the_same_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_published, "SWEEP", tmp_path / "sweep")
    monkeypatch.setattr(as_published, "RESULTS", tmp_path / "as_published")
    monkeypatch.setattr(as_published, "MODELS", tmp_path / "models")
    (tmp_path / "sweep").mkdir()
    settings = {"task": "max:k=2,v=4", "d_model": 4, "steps": 20, "batch": 16, "samples": 100}
    ours = {
        "settings": settings,
        "task": "max:k=2,v=4",
        "total": "16",
        "accuracy": {"value": 0.5},
        "model_sha256": "of another machine",
        "points": [{"flops": 1, "correct": "0"}],
    }
    lines = [json.dumps(ours | {"seed": seed}) for seed in (0, 1)]
    path = tmp_path / "sweep" / "k=2,v=4.jsonl"
    path.write_text("\n".join(lines) + '\n{"seed": 2, "cut')
    as_published.run("k=2,v=4", 1)
    as_published.run("k=2,v=4", 1)  # nothing is left to do
    stored = as_published.read_results(tmp_path / "as_published" / "k=2,v=4.jsonl")
    assert [r["seed"] for r in stored] == [0, 1]
    assert not any(r["same_model"] for r in stored) and len(stored[0]["points"]) == 101
    assert as_published.above_frontier("k=2,v=4") == ([], [0, 1])
    # Were it the same model: everything with a count is above a frontier of nothing.
    path.write_text(json.dumps(ours | {"seed": 1, "model_sha256": stored[1]["model_sha256"]}))
    above, other = as_published.above_frontier("k=2,v=4")
    counted = [(n, int(c)) for n, (c, _) in stored[1]["points"].items() if int(c)]
    assert other == [] and above == [(1, name, count, 0) for name, count in counted]
    means = as_published.summary("k=2,v=4")
    best = max((c for name, c in counted if name == "cubic"), default=0)
    assert means["cubic"] == (best / 16 / stored[1]["accuracy"], 0.0, 1)
