"""Integer tables whose ends float64 cannot tell from the numbers: Arb decides them, exactly."""

from dataclasses import replace

import numpy as np
import pytest
from exact import exact_tables

from compactproofs.kernel import (
    IntegerTables,
    Model,
    RejectedError,
    _integers,
    integer_tables,
    verify_tables,
)
from compactproofs.kernel._ledger import Ledger
from compactproofs.kernel._tables import enclose_tables
from random_models import model_of


def dyadic_model() -> Model:
    """Scores 0, values and direct logits dyadic numbers."""
    values = np.array([[1.0, 2.5, -3.0, 0.0], [0.25, -1.0, 7.0, 3.0]])
    return model_of(
        W_E=np.hstack([np.eye(2), np.full((2, 1), 2.0), np.array([[1.0], [3.0]])]),
        W_pos=np.zeros((2, 4)),
        W_Q=np.zeros((4, 3)),
        W_K=np.ones((4, 3)),
        W_V=np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]),
        W_O=np.eye(3, 4),
        W_U=np.vstack([values, np.zeros((2, 4))]) + np.array([[0], [0], [1], [0]]) * np.ones(4),
    )


def exact_integers(model: Model, grid: int) -> IntegerTables:
    """Lower and upper ends both equal to the exact numbers, which must lie on the grid."""
    _, values, direct = exact_tables(model)
    k, v = model.n_ctx, model.d_vocab

    def on_grid(numbers: np.ndarray) -> np.ndarray:
        scaled = [x * 2**grid for x in numbers.ravel()]
        assert all(x.denominator == 1 for x in scaled)
        return np.array([int(x) for x in scaled], dtype=np.int32).reshape(numbers.shape)

    ones = np.ones((k, v, v), dtype=np.int32)
    value, direct = on_grid(values), on_grid(direct)
    return IntegerTables(
        weight_low=ones << 29,
        weight_high=ones << 29,
        weight_exponent=-29 * ones,
        value_low=value,
        value_high=value.copy(),
        direct_low=direct,
        direct_high=direct.copy(),
        shift=np.zeros(v),
        grid=np.array([grid]),
    )


def test_numbers_on_the_grid_are_accepted_at_width_zero_and_rejected_one_unit_off() -> None:
    model = dyadic_model()
    tables = exact_integers(model, 10)
    in_doubt = _integers._not_enclosed(enclose_tables(model, Ledger()), tables, Ledger())
    assert all(entries.any() for entries in in_doubt.values()), "float64 cannot decide these"
    verify_tables(model, tables)
    names = tuple(in_doubt)
    for field, step in [(f"{name}_low", 1) for name in names] + [
        (f"{name}_high", -1) for name in names
    ]:
        array = getattr(tables, field)
        for index in list(np.ndindex(array.shape))[::3]:
            other = array.copy()
            other[index] += step
            with pytest.raises(RejectedError, match="1 entries fail"):
                verify_tables(model, tables._replace(**{field: other}))


def with_tail(tail: float) -> tuple[Model, IntegerTables]:
    """Every number is a multiple of 1/4 plus ``tail`` (or e to that), on or next to the grid.

    The tables enclose them by neighbours: the grid number and the next one on the tail's side.
    """
    base = dyadic_model()
    W_U = base.W_U.copy()
    W_U[2] = tail  # the head's third direction is 1 for every token
    model = replace(
        base,
        W_E=np.hstack([np.eye(2), np.zeros((2, 1)), np.ones((2, 1))]),
        W_U=W_U,
        b_U=np.full(4, tail),
        W_K=np.zeros((4, 3)),
        b_K=np.ones(3),
        b_Q=np.array([tail, 0.0, 0.0]),
    )
    _, values, direct = exact_tables(model)
    nearest = [np.frompyfunc(lambda x: round(4 * x), 1, 1)(t) for t in (values, direct)]
    value, direct = (numbers.astype(np.int32) for numbers in nearest)
    weight = np.full((2, 2, 2), 1 << 29, dtype=np.int32)
    below, above = (0, 1) if tail > 0 else (1, 0)
    return model, IntegerTables(
        weight_low=weight - below,
        weight_high=weight + above,
        weight_exponent=np.full((2, 2, 2), -29, dtype=np.int32),
        value_low=value - below,
        value_high=value + above,
        direct_low=direct - below,
        direct_high=direct + above,
        shift=np.zeros(2),
        grid=np.array([2]),
    )


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("size", [40, 60, 70, 120, 200, 400])
def test_a_tail_below_float64_is_resolved(size: int, sign: int) -> None:
    model, claimed = with_tail(sign * 2.0**-size)
    verify_tables(model, claimed)
    # Now the grid number itself, which is on the wrong side of the true one by the tail. The
    # other end is far away, so that this end alone must raise the doubt.
    wrong, right = ("high", "low") if sign > 0 else ("low", "high")
    for name in ("weight", "value", "direct"):
        on_grid = getattr(claimed, f"{name}_{right}")
        for index in [(0,) * on_grid.ndim, tuple(n - 1 for n in on_grid.shape)]:
            near, far = getattr(claimed, f"{name}_{wrong}").copy(), on_grid.copy()
            near[index] = on_grid[index]
            far[index] -= sign * 1000
            spoilt = claimed._replace(**{f"{name}_{wrong}": near, f"{name}_{right}": far})
            with pytest.raises(RejectedError, match=f"the {name} table .* .1 entries fail"):
                verify_tables(model, spoilt)


@pytest.mark.parametrize("tail", [2.0**-700, -(2.0**-700)])
def test_what_no_precision_used_decides_is_rejected(tail: float) -> None:
    with pytest.raises(RejectedError, match="table does not enclose"):
        verify_tables(*with_tail(tail))


def test_scores_that_float64_knows_within_some_nats_are_decided() -> None:
    # Huge terms cancel in every score: the float64 ball spans several powers of two.
    model = model_of(
        W_E=np.array([[1.0, 1.0, 0.0], [1.0, 1.0, -1.0]]),
        W_pos=np.zeros((1, 3)),
        W_Q=np.zeros((3, 1)),
        W_K=np.array([[2.0**50], [-(2.0**50)], [1.0]]),
        W_V=np.zeros((3, 1)),
        W_O=np.zeros((1, 3)),
        W_U=np.ones((3, 2)),
        b_Q=np.array([1.0]),
    )
    scores = enclose_tables(model, Ledger()).scores
    assert (scores.rad > 2).all()
    prover = integer_tables(model)
    verify_tables(model, prover)
    row = np.array([2.0**29, 2.0**29 / np.e])  # the weights of tokens 0 and 1, for any query
    tight = prover._replace(
        weight_low=np.broadcast_to(np.floor(row), (1, 2, 2)).astype(np.int32),
        weight_high=np.broadcast_to(np.ceil(row), (1, 2, 2)).astype(np.int32),
        weight_exponent=np.full((1, 2, 2), -29, dtype=np.int32),
        shift=np.zeros(2),
    )
    verify_tables(model, tight)
    # One end wrong by a little or a lot, the other far away: this end alone must raise the doubt.
    for field, sign, other, far in (
        ("weight_low", 1, "weight_high", 2**30),
        ("weight_high", -1, "weight_low", 0),
    ):
        for by in (1, 2**20, 2**26):
            for index in np.ndindex(1, 2, 2):
                wrong, wide = getattr(tight, field).copy(), getattr(tight, other).copy()
                wrong[index] += sign * by
                wide[index] = far
                with pytest.raises(RejectedError, match="1 entries fail"):
                    verify_tables(model, tight._replace(**{field: wrong, other: wide}))
