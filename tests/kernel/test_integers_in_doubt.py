"""Integer tables whose ends float64 cannot tell from the numbers: Arb decides them, exactly."""

from dataclasses import replace
from math import floor

import numpy as np
import pytest
from exact import exact_tables
from random_models import model_of

from compactproofs.kernel import IntegerTables, Model, RejectedError, _integers, verify_tables
from compactproofs.kernel._ledger import Ledger
from compactproofs.kernel._tables import enclose_tables


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
        for index in np.ndindex(array.shape):
            other = array.copy()
            other[index] += step
            with pytest.raises(RejectedError, match="1 entries fail"):
                verify_tables(model, tables._replace(**{field: other}))


def with_tail(size: int) -> tuple[Model, IntegerTables]:
    """Values ``n / 4 + 2^-size`` for integers ``n``, enclosed between ``n`` and ``n + 1``."""
    base = dyadic_model()
    W_U = base.W_U.copy()
    W_U[2] = 2.0**-size  # the head's third direction is 1 for every token
    W_E = np.hstack([np.eye(2), np.zeros((2, 1)), np.ones((2, 1))])
    model = replace(base, W_U=W_U, W_E=W_E)
    _, values, direct = exact_tables(model)
    floors, below = (np.frompyfunc(lambda x: floor(4 * x), 1, 1)(t) for t in (values, direct))
    ones = np.ones((2, 2, 2), dtype=np.int32)
    return model, IntegerTables(
        weight_low=ones << 29,
        weight_high=ones << 29,
        weight_exponent=-29 * ones,
        value_low=floors.astype(np.int32),
        value_high=floors.astype(np.int32) + 1,
        direct_low=below.astype(np.int32),
        direct_high=below.astype(np.int32) + 1,
        shift=np.zeros(2),
        grid=np.array([2]),
    )


@pytest.mark.parametrize("size", [40, 70, 120, 200, 400])
def test_a_tail_below_float64_is_resolved(size: int) -> None:
    model, claimed = with_tail(size)
    verify_tables(model, claimed)
    with pytest.raises(RejectedError):
        verify_tables(model, claimed._replace(value_high=claimed.value_low))
    with pytest.raises(RejectedError):
        verify_tables(model, claimed._replace(value_low=claimed.value_high))


def test_what_no_precision_used_decides_is_rejected() -> None:
    with pytest.raises(RejectedError, match="value table"):
        verify_tables(*with_tail(700))
