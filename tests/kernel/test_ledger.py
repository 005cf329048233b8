"""The ledger counts what its conventions say, and nothing depends on it."""

import numpy as np
import pytest

from compactproofs.kernel import (
    AdditiveOptions,
    BruteForceOptions,
    MaxOfK,
    additive,
    brute_force,
    integer_tables,
    verify_tables,
)
from compactproofs.kernel._enclosure import Ball, exp_bounds
from compactproofs.kernel._ledger import Counted, Ledger
from random_models import random_model


def counted(shape: tuple[int, ...]) -> tuple[Counted, Ledger]:
    ledger = Ledger()
    return Counted.of(np.arange(int(np.prod(shape))).reshape(shape), ledger), ledger


def test_elementwise_operations_count_one_a_result() -> None:
    a, ledger = counted((3, 4))
    total = a + 1
    assert ledger.flops == 12
    product = total * a[:, :1]
    assert ledger.flops == 24
    outer = a[:, :, None] + np.arange(5)
    assert ledger.flops == 24 + 60
    for result in (total, product, outer, 7 - a, -a, a // 2, a >> 1):
        assert isinstance(result, Counted)
        assert result.ledger is ledger


def test_comparisons_count_and_give_plain_truth_values() -> None:
    a, ledger = counted((3, 4))
    less = a < 5
    assert ledger.flops == 12
    assert type(less) is np.ndarray
    assert less.dtype == np.bool_


def test_reductions_count_one_less_than_they_read() -> None:
    a, ledger = counted((3, 4))
    assert a.max(axis=1).shape == (3,)
    assert ledger.flops == 9
    assert int(a.sum()) == 66
    assert ledger.flops == 9 + 11
    assert np.maximum.reduce(a, axis=0).ledger is ledger
    assert ledger.flops == 9 + 11 + 8


def test_in_place_and_out_count_and_change_the_array() -> None:
    a, ledger = counted((3, 4))
    before = np.asarray(a).copy()
    a += 1
    assert ledger.flops == 12
    np.testing.assert_array_equal(np.asarray(a), before + 1)
    target, _ = counted((3, 4))
    result = np.add(a, a, out=target)
    assert ledger.flops == 24
    assert result is target
    np.testing.assert_array_equal(np.asarray(target), 2 * (before + 1))


def test_indexing_reshaping_and_choosing_are_free() -> None:
    a, ledger = counted((3, 4))
    views = (a[1:], a.T, a.reshape(4, 3), a[[0, 2]], a[..., None], np.moveaxis(a, 0, 1))
    np.where(np.asarray(a) > 3, a, 0)
    assert ledger.flops == 0
    for view in views:
        assert isinstance(view, Counted)
        assert view.ledger is ledger


def test_counted_values_are_those_of_plain_arrays() -> None:
    rng = np.random.default_rng(0)
    plain, other = rng.integers(-(2**60), 2**60, (2, 5, 6))
    a = Counted.of(plain, Ledger())
    assert a.dtype == np.int64
    small = Counted.of(plain.astype(np.int32), Ledger())
    assert small.dtype == np.int64
    for operation in (np.add, np.subtract, np.maximum, np.right_shift):
        right = np.abs(other) % 60 if operation is np.right_shift else other
        np.testing.assert_array_equal(np.asarray(operation(a, right)), operation(plain, right))
        np.testing.assert_array_equal(np.asarray(operation(right, a)), operation(right, plain))


def test_a_matrix_product_counts_a_c_2b_minus_1() -> None:
    ledger = Ledger()
    a, b = (Ball.exact(np.ones(shape), ledger) for shape in ((3, 5), (5, 7)))
    product = a @ b
    assert ledger.flops == 3 * 7 * (2 * 5 - 1)
    assert ledger.radius_flops > 0
    assert product.ledger is ledger


def test_ball_operations_count_one_a_result_and_the_radius_apart() -> None:
    ledger = Ledger()
    a = Ball.exact(np.ones((3, 4)), ledger)
    expected = 0
    for result, operations in (
        (lambda: a + a, 12),
        (lambda: a - a, 12),
        (lambda: a * a, 12),
        (lambda: a[:1] + a, 12),
        (lambda: a.max(0), 12 - 4),
        (lambda: a.min(1), 12 - 3),
        (lambda: exp_bounds(a), 12),
        (lambda: a.T[1:], 0),
    ):
        radius = ledger.radius_flops
        result()
        expected += operations
        assert ledger.flops == expected
        assert operations == 0 or ledger.radius_flops > radius


def test_integers_count_their_limbs() -> None:
    for a, b, product in (
        (0, 5, 1),
        (1, 1, 1),
        (2**64 - 1, 1, 1),
        (2**64, 3, 2),
        (2**64, 2**130, 6),
    ):
        ledger = Ledger()
        ledger.integer_product(a, b)
        assert ledger.flops == product
    for a, limbs in ((0, 1), (2**64 - 1, 1), (2**64, 2), (2**640, 11)):
        ledger = Ledger()
        ledger.integer_sum(a)
        assert ledger.flops == limbs


@pytest.mark.parametrize(
    ("theorem", "options"),
    [(additive, AdditiveOptions(bins=8)), (brute_force, BruteForceOptions())],
)
def test_a_ledger_never_influences_a_result(
    theorem: object, options: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(np.random.default_rng(0), k=3, v=4, d=3, h=2)

    def run() -> tuple[object, ...]:
        proved = theorem(verify_tables(model, integer_tables(model)), MaxOfK(3, 4), options)  # type: ignore[operator]
        return proved.by_class, proved.claim.correct, proved.claim.undecided, proved.outcome

    honest = run()
    for method in ("point", "radius", "integer_sum", "integer_product"):
        monkeypatch.setattr(
            Ledger, method, lambda self, *numbers: setattr(self, "flops", -(10**30))
        )
    assert run() == honest
