from types import ModuleType
from typing import Any

import numpy as np
import pytest

from compactproofs import kernel
from random_models import vote_model

from .attack import exceeded, missed
from .cases import BATCHES, RealCase, edge_cases, random_cases
from .truth import exact_truth
from .witnesses import widened


def prove(case: RealCase, kernel: ModuleType) -> Any:
    tables = case.verified_for(kernel)
    return kernel.brute_force(tables, case.task_for(kernel), kernel.BruteForceOptions())


def check(proved: Any, case: RealCase) -> None:
    assert list(exceeded(proved, case.truth, case.name)) == []
    assert list(missed(proved, case.truth, case.name)) == []
    if proved.claim.undecided == 0:
        assert [part.correct for part in proved.by_class] == [
            case.truth[part.query, part.label].right for part in proved.by_class
        ]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_random_model_is_counted_exactly(batch: int, plain: ModuleType) -> None:
    for case in random_cases(batch):
        tables, task = case.verified_for(plain), case.task_for(plain)
        exact = plain.brute_force(tables, task, plain.BruteForceOptions())
        check(exact, case)
        # No two logits of these models come close enough by chance.
        assert exact.claim.undecided == 0
        bound = plain.additive(tables, task, plain.AdditiveOptions(512))
        assert all(
            a[:3] == b[:3] and a.correct <= b.correct
            for a, b in zip(bound.by_class, exact.by_class, strict=True)
        )


def test_random_models_are_counted_exactly_where_every_shape_is_checked() -> None:
    for case in random_cases(0):
        check(prove(case, kernel), case)


@pytest.mark.parametrize("case", edge_cases(), ids=lambda case: case.name)
def test_hostile_models_are_counted_exactly_or_left_undecided(
    case: RealCase, plain: ModuleType
) -> None:
    check(prove(case, plain), case)


@pytest.mark.parametrize("batch", range(0, BATCHES, 8))
def test_a_hostile_witness_leaves_more_undecided_and_proves_nothing_false(
    batch: int, plain: ModuleType
) -> None:
    rng = np.random.default_rng(batch)
    for case in random_cases(batch):
        honest = plain.integer_tables(case.model_for(plain))
        for amount in (0.1, 0.5, 1.0):
            witness = widened(rng, honest, amount)
            tables = plain.verify_tables(case.model_for(plain), witness)
            check(plain.brute_force(tables, case.task_for(plain), plain.BruteForceOptions()), case)


def test_ties_are_undecided_or_wrong_and_never_right(plain: ModuleType) -> None:
    for k, v in ((2, 2), (4, 2), (3, 3)):
        truth = exact_truth(vote_model(k, v))
        case = RealCase("votes", vote_model(k, v), "max", 0, truth)
        claim = prove(case, plain).claim
        assert claim.correct == case.right
        assert 0 < claim.undecided <= v**k - case.right
