"""The anytime proof: within budgets, never too much, exact where the remainder can be listed."""

import numpy as np
import pytest

from compactproofs import prove
from compactproofs.explain.refine import Budget, parse_budget, refine
from compactproofs.kernel import OptionError, integer_tables, load_model, parse_task, verify_tables
from compactproofs.models import resolve_model
from random_models import max_like_model

TASK = parse_task("max:k=3,v=6")


def model(seed: int):  # type: ignore[no-untyped-def]
    return max_like_model(np.random.default_rng(seed), k=3, v=6, sharpness=0.8, noise=0.5)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("2e8", Budget(flops=200_000_000)),
        ("1500flops", Budget(flops=1500)),
        ("5s", Budget(seconds=5)),
        ("0.5min", Budget(seconds=30)),
        ("0", Budget(flops=0)),
    ],
)
def test_budgets_are_read(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "fast", "-5s", "5h", "1e999", "5 s", "nan"])
def test_other_budgets_are_refused_with_the_ways_to_write_one(text: str) -> None:
    with pytest.raises(OptionError, match="2e8, or 5s"):
        parse_budget(text)


@pytest.mark.parametrize("seed", range(6))
def test_without_a_limit_the_exact_accuracy_is_reached(seed: int) -> None:
    network = model(seed)
    witness = refine(network, TASK, Budget())
    exact = prove(network, TASK, "brute-force").claim
    assert prove(network, TASK, witness=witness).claim.correct == exact.correct


@pytest.mark.parametrize("seed", range(3))
def test_a_budget_of_flops_is_kept_and_more_buys_more(seed: int) -> None:
    network = model(seed)
    enclosing = verify_tables(network, integer_tables(network)).start_ledger().flops
    bounds = []
    for extra in (0, 300, 2_000, 10_000, 100_000, 10**7):
        budget = Budget(flops=enclosing + extra)
        claim = prove(network, TASK, witness=refine(network, TASK, budget)).claim
        assert claim.flops <= enclosing + extra
        bounds.append(claim.correct)
    assert bounds == sorted(bounds) and bounds[0] == 0 and bounds[-1] > 0


def test_a_budget_too_small_for_any_class_proves_0() -> None:
    network = model(0)
    for budget in (Budget(flops=0), Budget(seconds=0)):
        proved = prove(network, TASK, witness=refine(network, TASK, budget))
        assert (proved.claim.correct, proved.outcome.name) == (0, "VACUOUS")


def test_the_bundled_model_is_proved_exactly() -> None:
    network, task = load_model(resolve_model("max-of-4")), parse_task("max:k=4,v=64")
    claim = prove(network, task, witness=refine(network, task, Budget())).claim
    assert claim.correct == 16_774_110
