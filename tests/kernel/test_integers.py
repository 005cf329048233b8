"""Integer tables: the true ones verify, anything that does not enclose is refused."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from exact import ends, exact_tables
from flint import arb

from compactproofs.kernel import (
    AdditiveOptions,
    EnclosureError,
    IntegerTables,
    MalformedError,
    MaxOfK,
    Model,
    Proved,
    RejectedError,
    VerifiedTables,
    _integers,
    additive,
    integer_tables,
    verify_tables,
)
from compactproofs.kernel._enclosure import exp_bounds
from compactproofs.kernel._ledger import Ledger
from compactproofs.kernel._tables import enclose_tables
from compactproofs.kernel._tables_arb import arb_precision, arb_tables
from random_models import model_of, random_model

INTERVALS = ("weight", "value", "direct")


def moderate(seed: int = 0, **settings: Any) -> Model:
    rng = np.random.default_rng(seed)
    sizes = {"k": 3, "v": 5, "d": 4, "h": 2, "outputs": 6, "biases": True}
    return random_model(rng, **{"scale": 3.0, **sizes, **settings})


MODEL = replace(moderate(), score_divisor_squared=Fraction(9, 4))
TABLES = integer_tables(MODEL)


def true_numbers(model: Model, tables: IntegerTables) -> dict[str, np.ndarray]:
    """Exact ends of every table in units of the integers: objects ``(low, high)``."""
    _, values, direct = exact_tables(model)
    unit = Fraction(2) ** int(tables.grid[0])
    weights = np.empty(tables.weight_low.shape, dtype=object)
    scores = arb_tables(model, 400).scores
    with arb_precision(400):
        for (i, q, t), exponent in np.ndenumerate(tables.weight_exponent):
            low, high = ends((scores[i][q][t] - arb(float(tables.shift[q]))).exp())
            weights[i, q, t] = tuple(end / Fraction(2) ** int(exponent) for end in (low, high))

    def points(numbers: np.ndarray) -> np.ndarray:
        both = np.empty(numbers.shape, dtype=object)
        for index, number in np.ndenumerate(numbers):
            both[index] = (number * unit, number * unit)
        return both

    return {"weight": weights, "value": points(values), "direct": points(direct)}


TRUE = true_numbers(MODEL, TABLES)


@pytest.mark.parametrize("name", INTERVALS)
def test_every_integer_encloses_the_exact_number_tightly(name: str) -> None:
    fields = TABLES._asdict()
    lows, highs = fields[f"{name}_low"], fields[f"{name}_high"]
    for index, (low, high) in np.ndenumerate(TRUE[name]):
        assert int(lows[index]) <= low
        assert high <= int(highs[index])
        assert int(highs[index]) - int(lows[index]) <= 3


def test_the_integers_use_their_bits() -> None:
    # The largest value fills 28 bits or more; every weight has its own exponent and does.
    assert max(np.abs(TABLES.value_high).max(), np.abs(TABLES.direct_high).max()) >= 2**28
    assert (TABLES.weight_high >= 2**28).all()
    assert (TABLES.weight_high <= _integers.MANTISSA_LIMIT).all()
    largest = np.ldexp(TABLES.weight_high.astype(float), TABLES.weight_exponent).max(axis=(0, 2))
    assert ((0.6 < largest) & (largest < 1.7)).all(), "shift is within half a nat of the largest"


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0, 300.0])
def test_the_provers_tables_verify(scale: float) -> None:
    model = moderate(7, scale=scale)
    tables = integer_tables(model)
    verified = verify_tables(model, tables)
    assert (verified.n_ctx, verified.d_vocab, verified.d_vocab_out) == (3, 5, 6)
    assert verified.model_sha256 == model.sha256
    assert verified.enclosing_cost.flops > 0
    started = verified.start_ledger()
    assert started.flops == verified.enclosing_cost.flops
    assert started.radius_flops == verified.enclosing_cost.radius_flops


def changed(field: str, index: tuple[int, ...] | None, value: object) -> IntegerTables:
    """The tables with one entry (or all of them) of a field replaced."""
    array = getattr(TABLES, field).copy()
    array[... if index is None else index] = value
    return TABLES._replace(**{field: array})


def random_indices(name: str, count: int) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(11)
    return [tuple(int(rng.integers(n)) for n in TRUE[name].shape) for _ in range(count)]


@pytest.mark.parametrize("name", INTERVALS)
def test_an_end_inside_the_true_number_by_any_amount_is_rejected(name: str) -> None:
    for index in random_indices(name, 4):
        low, high = TRUE[name][index]
        where = ", ".join(map(str, index))
        for field, end, step in (
            (f"{name}_low", floor(low) + 1, 1),
            (f"{name}_high", ceil(high) - 1, -1),
        ):
            for wrong in (end, end + 5 * step, end + 100_000 * step):
                with pytest.raises(RejectedError) as caught:
                    verify_tables(MODEL, changed(field, index, wrong))
                assert f"the {name} table does not enclose" in str(caught.value)
                assert f"[{where}]" in str(caught.value)


@pytest.mark.parametrize("name", INTERVALS)
def test_the_tightest_true_enclosure_is_accepted(name: str) -> None:
    for index in random_indices(name, 8):
        low, high = TRUE[name][index]
        verify_tables(MODEL, changed(f"{name}_low", index, floor(low)))
        verify_tables(MODEL, changed(f"{name}_high", index, ceil(high)))


@pytest.mark.parametrize("name", INTERVALS)
def test_wider_enclosures_are_accepted(name: str) -> None:
    lowest = 0 if name == "weight" else -(2**30)
    for index in random_indices(name, 4):
        for field, wide in ((f"{name}_low", lowest), (f"{name}_high", 2**30)):
            verify_tables(MODEL, changed(field, index, wide))
            closer = int(getattr(TABLES, field)[index]) + (-7 if field.endswith("low") else 7)
            verify_tables(MODEL, changed(field, index, closer))


@pytest.mark.parametrize("nats", [-1.0, 1.0, 2.0**-20, -(2.0**-20), 1e9, -1e9, 1.7e308])
def test_another_shift_is_rejected(nats: float) -> None:
    for query in range(MODEL.d_vocab):
        with pytest.raises(RejectedError):
            verify_tables(MODEL, changed("shift", (query,), TABLES.shift[query] + nats))


@pytest.mark.parametrize("by", [-1, 1, 40, -400])
def test_another_grid_is_rejected(by: int) -> None:
    with pytest.raises(RejectedError):
        verify_tables(MODEL, TABLES._replace(grid=TABLES.grid + by))


@pytest.mark.parametrize("by", [-1, 1, 1000, -1000, 4_000_000])
def test_another_exponent_is_rejected(by: int) -> None:
    for index in random_indices("weight", 3):
        other = int(TABLES.weight_exponent[index]) + by
        with pytest.raises(RejectedError, match="weight table"):
            verify_tables(MODEL, changed("weight_exponent", index, other))


def test_any_exponent_is_accepted_with_mantissas_that_enclose_all_the_same() -> None:
    # Far exponents are clipped before they are compared: the clipping must not cost truth.
    index = (0, 1, 2)
    for exponent in (0, 500, 900, 1000, 4_000_000):
        loose = changed("weight_exponent", index, exponent)
        low, high = loose.weight_low.copy(), loose.weight_high.copy()
        low[index], high[index] = 0, 2**30
        verify_tables(MODEL, loose._replace(weight_low=low, weight_high=high))
        high[index] = 0
        with pytest.raises(RejectedError):
            verify_tables(MODEL, loose._replace(weight_low=low, weight_high=high))
        low[index], high[index] = 1, 2**30
        if exponent > 0:
            with pytest.raises(RejectedError):
                verify_tables(MODEL, loose._replace(weight_low=low, weight_high=high))
    for exponent in (-1000, -4_000_000):
        tiny = changed("weight_exponent", index, exponent)
        low = tiny.weight_low.copy()
        low[index] = 2**30
        with pytest.raises(RejectedError):
            verify_tables(MODEL, tiny._replace(weight_low=low))


def test_scores_a_million_nats_apart_verify_and_a_positive_lower_weight_must_be_true() -> None:
    # exp(-1.5e6) is about 2^-2164042.56: below EXP_LIMIT only Arb can prove a lower end.
    key = np.array([[1.0], [0.0]])
    model = model_of(
        W_E=np.array([[0.0, 1.0], [-1.5e6, 1.0]]),
        W_pos=np.zeros((1, 2)),
        W_Q=key[::-1],
        W_K=key,
        W_V=key,
        W_O=key.T,
        W_U=np.ones((2, 3)),
    )
    tables = integer_tables(model)
    assert tables.weight_low[0, 0].tolist()[1] == 0
    verify_tables(model, tables)
    low, exponent = tables.weight_low.copy(), tables.weight_exponent.copy()
    high = tables.weight_high.copy()
    low[0, 0, 1], high[0, 0, 1], exponent[0, 0, 1] = 1, 2, -2_164_043
    verify_tables(
        model, tables._replace(weight_low=low, weight_high=high, weight_exponent=exponent)
    )
    exponent[0, 0, 1] += 1
    with pytest.raises(RejectedError):
        verify_tables(
            model, tables._replace(weight_low=low, weight_high=high, weight_exponent=exponent)
        )


# Form.


@pytest.mark.parametrize("field", IntegerTables._fields)
def test_wrong_shapes_are_malformed(field: str) -> None:
    array = getattr(TABLES, field)
    for other in (array[:0], array[None], np.concatenate([array, array])):
        with pytest.raises(MalformedError, match=f"tensor {field} has shape"):
            verify_tables(MODEL, TABLES._replace(**{field: other}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: changed("weight_low", (0, 0, 0), -1), "weight_low is negative"),
        (lambda: changed("weight_high", (0, 0, 0), 2**30 + 1), "weight_high exceeds"),
        (lambda: changed("value_low", (0, 0, 0), -(2**30) - 1), "value_low exceeds"),
        (lambda: changed("value_low", (0, 0, 0), -(2**31)), "value_low exceeds"),
        (lambda: changed("value_high", (0, 0, 0), 2**31 - 1), "value_high exceeds"),
        (lambda: changed("direct_low", (0, 0), -(2**31)), "direct_low exceeds"),
        (lambda: changed("direct_high", (0, 0), 2**31 - 1), "direct_high exceeds"),
        (lambda: changed("weight_exponent", (0, 0, 0), 2**22 + 1), "weight_exponent exceeds"),
        (lambda: changed("weight_exponent", (0, 0, 0), -(2**31)), "weight_exponent exceeds"),
        (lambda: changed("grid", None, 901), "grid 901 exceeds"),
        (lambda: changed("grid", None, -(2**63)), "grid -9223372036854775808 exceeds"),
        (lambda: changed("shift", (0,), np.nan), "shift holds NaN"),
        (lambda: changed("shift", (0,), np.inf), "shift holds NaN or infinity"),
    ],
)
def test_numbers_out_of_range_are_malformed(
    change: Callable[[], IntegerTables], message: str
) -> None:
    with pytest.raises(MalformedError, match=message):
        verify_tables(MODEL, change())


def test_a_table_of_floats_is_malformed() -> None:
    # Without the type-checking import hook these verify: every comparison with NaN is false.
    nothing = np.full(TABLES.value_low.shape, np.nan)
    with pytest.raises(MalformedError):
        verify_tables(MODEL, TABLES._replace(value_low=nothing, value_high=nothing))


# Seals.


def test_only_verify_tables_makes_verified_tables() -> None:
    for seal in (None, object(), "seal"):
        with pytest.raises(TypeError, match="verify_tables"):
            VerifiedTables(TABLES, MODEL.sha256, Ledger(), seal=seal)


def test_only_a_theorem_makes_a_proved_claim() -> None:
    model = moderate(v=3, outputs=3)
    verified = verify_tables(model, integer_tables(model))
    proved = additive(verified, MaxOfK(3, 3), AdditiveOptions())
    claim = replace(proved.claim, correct=proved.claim.total)
    for seal in (None, object(), _integers._SEAL):
        with pytest.raises(TypeError, match="theorem alone"):
            Proved(claim, proved.outcome, proved.tables, None, proved.by_class, seal=seal)


def test_verified_tables_cannot_be_changed_afterwards() -> None:
    tables = IntegerTables(*(array.copy() for array in TABLES))
    verified = verify_tables(MODEL, tables)
    try:
        tables.value_high[0, 0, 0] -= 1000
    except ValueError:
        pass  # read-only: as good as a copy
    np.testing.assert_array_equal(verified.claimed.value_high, TABLES.value_high)


def test_logits_beyond_the_grid_are_refused_by_name() -> None:
    model = replace(MODEL, W_U=MODEL.W_U * 1e285)
    with pytest.raises(EnclosureError):
        integer_tables(model)


def test_exp_of_unshifted_scores_is_refused_as_a_bad_shift() -> None:
    model = moderate(1, scale=1e8)
    tables = integer_tables(model)
    with pytest.raises(EnclosureError):
        exp_bounds(enclose_tables(model, Ledger()).scores)
    with pytest.raises(RejectedError, match="the shift does not suit the scores"):
        verify_tables(model, tables._replace(shift=np.zeros(5)))
