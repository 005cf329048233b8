"""The ladder of strategies, and what measuring one model says."""

import numpy as np
import pytest

from compactproofs import _ladder
from compactproofs.kernel import OptionError, parse_task
from random_models import max_like_model


def test_the_paper_has_a_hundred_sub_cubic_strategies_in_its_families() -> None:
    ladder = _ladder.subcubic_strategies()
    assert len({s.name for s in ladder}) == len({s.options for s in ladder}) == 100
    sizes = {f: sum(s.family == f for s in ladder) for f in {s.family for s in ladder}}
    assert sizes == {  # reference: 8, 20, 12, 30, 12, 18
        "subcubic": 8,
        "attention-vd²": 20,
        "direct-quadratic": 12,
        "attention-vd², direct-quadratic": 30,
        "attention-quadratic": 12,
        "attention-quadratic, direct-quadratic": 18,
    }


def test_strategies_are_chosen_by_name_family_and_theorem() -> None:
    assert {s.theorem for s in _ladder.strategies("windowed,cubic")} == {"windowed", "cubic"}
    assert [s.name for s in _ladder.strategies("additive bins=128")] == ["additive bins=128"]
    assert len(_ladder.strategies("cubic, cubic")) == 1
    with pytest.raises(OptionError, match=r"unknown strategy 'cubik'.*collapsed-cubic.*windowed"):
        _ladder.strategies("cubik")


def test_measuring_says_bound_length_and_accuracy() -> None:
    model = max_like_model(np.random.default_rng(4), k=3, v=5)
    task = parse_task("max:k=3,v=5")
    chosen = _ladder.strategies("brute-force,cubic,windowed,collapsed-cubic,additive")
    found = _ladder.measure(model, task, chosen, name="small")
    points = {p["name"]: p for p in found["points"]}
    assert len(points) == len(chosen)
    exact = points["brute-force"]
    assert found["accuracy"]["kind"] == "exact" and found["accuracy"]["value"] == exact["bound"]
    assert found["total"] == "125" and found["trivial"]["bound"] == pytest.approx(61 / 125)
    assert all(p["bound"] <= exact["bound"] and p["normalised"] <= 1 for p in points.values())
    assert all(p["flops"] > 0 and p["seconds_verify"] >= 0 for p in points.values())
    assert exact["unexplained_dimension"] == 5**4
    assert found["qk_singular_values"] == sorted(found["qk_singular_values"], reverse=True)


def test_a_model_without_exhaustive_truth_is_sampled() -> None:
    model = max_like_model(np.random.default_rng(4), k=18, v=3)
    found = _ladder.measure(
        model, parse_task("max:k=18,v=3"), _ladder.strategies("all")[:2], samples=500
    )
    assert [p["theorem"] for p in found["points"]] == ["cubic"]  # no brute force over 3^18
    accuracy = found["accuracy"]
    assert accuracy["kind"] == "sampled" and accuracy["sequences"] == 500
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]


def test_the_frontier_keeps_what_no_other_point_beats() -> None:
    def point(name: str, flops: int, correct: int) -> dict[str, object]:
        return {"name": name, "flops": flops, "correct": str(correct)}

    points = [
        point("long and worse", 50, 5),
        point("short", 10, 3),
        point("same length, worse", 10, 2),
        point("longer, same bound", 30, 7),
        point("best", 20, 7),
    ]
    assert _ladder.pareto(points) == ["short", "best"]
