"""Ball: every operation contains the exact result for every choice of reals in its operands."""

import operator
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from exact import Rationals, misses, rationals
from hypothesis import given, settings
from hypothesis import strategies as st

from compactproofs.kernel import EnclosureError
from compactproofs.kernel._enclosure import Ball, reciprocal_sqrt
from compactproofs.kernel._ledger import Ledger

LEDGER = Ledger()
OVERFLOW = Fraction(2) ** 1023  # an operation may refuse only results of about this size
SIZE = 4

CORNERS = [
    *(0.0, -0.0, 1.0, -1.0, 1.0 + 2.0**-52, 1.0 - 2.0**-53, 1 / 3, -0.1),
    *(5e-324, -5e-324, 2.0**-1022, -(2.0**-1022), 2.0**-1022 - 2.0**-1074, 2.0**-1018, 2.0**-537),
    *(2.0**53, 2.0**53 - 1, -(2.0**53) - 2, 1e16, 1e150, -1e154, 1e300, 1.7e308, -1.7e308),
]
hostile = st.one_of(
    st.sampled_from(CORNERS),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-4, 4),
    st.floats(-1e-300, 1e-300),
    st.builds(lambda m, e: m * 2.0**e, st.integers(-(2**53), 2**53), st.integers(-1070, 960)),
)
radius = st.one_of(st.just(0.0), hostile.map(abs))
# Where in its ball an operand's real number lies: an end, the middle, or in between.
place = st.one_of(
    st.sampled_from([Fraction(-1), Fraction(0), Fraction(1)]),
    st.fractions(-1, 1, max_denominator=7),
)
quick = settings(max_examples=120, deadline=None, derandomize=True, database=None)


def row(of: st.SearchStrategy, size: int = SIZE) -> st.SearchStrategy:
    return st.lists(of, min_size=size, max_size=size)


@st.composite
def balls(draw: st.DrawFn, finite_size: float = 1.7e308) -> tuple[Ball, Rationals]:
    """A ball and one real number in each entry."""

    def limited(values: list[float]) -> np.ndarray:
        return np.clip(np.array(values), -finite_size, finite_size)

    ball = Ball(limited(draw(row(hostile))), limited(draw(row(radius))), LEDGER)
    places = np.array(draw(row(place)), dtype=object)
    return ball, rationals(ball.mid) + rationals(ball.rad) * places


def exact_ball(values: np.ndarray) -> Ball:
    return Ball.exact(np.asarray(values, dtype=np.float64), LEDGER)


def checked(
    operation: Callable[[Ball, Ball], Ball], a: Ball, b: Ball, largest: Fraction
) -> Ball | None:
    """The result, or None if it was refused and could have overflowed."""
    try:
        return operation(a, b)
    except EnclosureError:
        assert largest >= OVERFLOW, f"refused, but nothing exceeds {float(largest)}"
        return None


def size(ball: Ball) -> Fraction:
    return max(rationals(np.abs(ball.mid)) + rationals(ball.rad))


@quick
@given(row(hostile), row(radius), row(place))
def test_the_constructor_only_widens(
    mid: list[float], rad: list[float], places: list[Fraction]
) -> None:
    # Radii below 1e-291: above, a subnormal midpoint is lost (see the next test).
    rad = [r if r < 1e-291 else 0.0 for r in rad]
    ball = Ball(np.array(mid), np.array(rad), LEDGER)
    points = rationals(np.array(mid)) + rationals(np.array(rad)) * np.array(places, dtype=object)
    assert misses(ball, points) == 0
    for part in (ball.mid, ball.rad):
        assert ((part == 0) | (np.abs(part) >= 2.0**-1022)).all(), "a subnormal operand was kept"


def test_the_constructor_only_widens_a_subnormal_midpoint_with_a_large_radius() -> None:
    ball = Ball(np.array([5e-324]), np.array([1.0]), LEDGER)
    assert misses(ball, np.array([Fraction(5e-324) + 1], dtype=object)) == 0


@quick
@given(balls(), balls())
def test_sums_and_differences(a: tuple[Ball, Rationals], b: tuple[Ball, Rationals]) -> None:
    for operation in (operator.add, operator.sub):
        result = checked(operation, a[0], b[0], size(a[0]) + size(b[0]))
        if result is not None:
            assert misses(result, operation(a[1], b[1])) == 0


@quick
@given(balls(), balls())
def test_products(a: tuple[Ball, Rationals], b: tuple[Ball, Rationals]) -> None:
    # The radius of a product that does not overflow may: at most four times its size.
    result = checked(operator.mul, a[0], b[0], 4 * size(a[0]) * size(b[0]))
    if result is not None:
        assert misses(result, a[1] * b[1]) == 0


@quick
@given(balls(1e150), balls(1e150))
def test_matrix_products(a: tuple[Ball, Rationals], b: tuple[Ball, Rationals]) -> None:
    left, right = a[0][None, :], b[0][:, None]
    assert misses(left @ right, np.array([[a[1].dot(b[1])]], dtype=object)) == 0
    outer = b[0][:, None] @ a[0][None, :]
    assert misses(outer, b[1][:, None] * a[1][None, :]) == 0


@quick
@given(balls(), st.booleans())
def test_extrema(a: tuple[Ball, Rationals], largest: bool) -> None:
    column = a[0][:, None]
    extremum = Ball.max if largest else Ball.min
    result = checked(lambda x, _: extremum(x, 0), column, column, 2 * size(a[0]))
    if result is not None:
        assert misses(result, np.array([max(a[1]) if largest else min(a[1])], dtype=object)) == 0


@quick
@given(row(hostile.filter(lambda x: abs(x) < 1e307)), st.integers(0, 5))
def test_a_ball_between_neighbours_contains_both(low: list[float], apart: int) -> None:
    ends = np.array(low), np.array(low)
    for _ in range(apart):
        ends = ends[0], np.nextafter(ends[1], np.inf)
    between = exact_ball(ends[0])._between(*ends)
    assert misses(between, rationals(ends[0])) + misses(between, rationals(ends[1])) == 0


@quick
@given(balls())
def test_ends_are_outward_and_exact_for_points(a: tuple[Ball, Rationals]) -> None:
    ball, points = a
    try:
        low, high = rationals(ball.lower()), rationals(ball.upper())
    except EnclosureError:
        assert size(ball) >= OVERFLOW
        return
    assert (low <= points).all()
    assert (points <= high).all()
    point = ball.rad == 0
    assert (ball.lower()[point] == ball.mid[point]).all()
    assert (ball.upper()[point] == ball.mid[point]).all()


@quick
@given(balls(1e300), balls(1e300))
def test_certainly_less_is_never_wrong(
    a: tuple[Ball, Rationals], b: tuple[Ball, Rationals]
) -> None:
    less = a[0].certainly_less(b[0])
    assert (a[1][less] < b[1][less]).all()


def test_certainly_less_is_strict_and_decides_clear_cases() -> None:
    one = exact_ball(np.array([1.0, 1.0, 1.0]))
    other = Ball(np.array([1.0, 2.0, 1.5]), np.array([0.0, 0.5, 0.5]), LEDGER)
    assert one.certainly_less(other).tolist() == [False, True, False]
    next_up = exact_ball(np.array([np.nextafter(1.0, 2.0)] * 3))
    assert one.certainly_less(next_up).all()


def test_operations_on_points_are_tight() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 30, 30))
    for result in (exact_ball(a) + exact_ball(b), exact_ball(a) * exact_ball(b)):
        assert (result.rad <= np.abs(result.mid) * 2.0**-51 + 2.0**-1017).all()
    product = exact_ball(a) @ exact_ball(b)
    assert (product.rad <= 40 * 2.0**-52 * (np.abs(a) @ np.abs(b))).all()


# Matrix products: the a-priori radius, its underflow term, any order of summation.


def matrices(rng: np.random.Generator, case: int) -> tuple[np.ndarray, np.ndarray]:
    """Random factors; a third cancel heavily, most products are near the underflow threshold."""
    inner, low = int(rng.integers(1, 40)), int(rng.choice([0, -150, -155, -160, -161]))
    a = rng.standard_normal((2, inner)) * 10.0 ** rng.uniform(low - 8, low, (2, inner))
    b = rng.standard_normal((inner, 2)) * 10.0 ** rng.uniform(low - 8, low, (inner, 2))
    if case % 3 == 0:
        half = inner // 2
        b[half:] = -b[: inner - half] * (1 + 1e-15)
        a[:, half:] = a[:, : inner - half]
    return a, b


def count_misses_of_matmul(cases: int, with_radius: bool) -> int:
    rng = np.random.default_rng(cases)
    missed = 0
    for case in range(cases):
        a, b = matrices(rng, case)
        spread = 10.0 ** rng.uniform(-18, 0) if with_radius else 0.0
        left = Ball(a, np.abs(a) * spread, LEDGER)
        right = Ball(b, np.abs(b) * spread, LEDGER)
        # Corners of the operands move the product farthest; a random place hardly moves it.
        signs = [rng.choice([-1, 1], m.shape).astype(object) for m in (a, b)]
        if case % 2:
            signs = [np.sign(m).astype(int).astype(object) for m in (a, b)]
        inside = [
            rationals(m.mid) + rationals(m.rad) * s
            for m, s in zip((left, right), signs, strict=True)
        ]
        missed += misses(left @ right, inside[0].dot(inside[1]))
    return missed


@pytest.mark.parametrize("with_radius", [False, True])
def test_matrix_products_near_underflow_and_cancelling(with_radius: bool) -> None:
    assert count_misses_of_matmul(150, with_radius) == 0


def test_without_the_absolute_term_matrix_products_would_miss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from compactproofs.kernel import _enclosure

    monkeypatch.setattr(_enclosure, "_RHO", 0.0)
    monkeypatch.setattr(_enclosure, "_outward", lambda radius: radius * (1 + 2.0**-48))
    assert count_misses_of_matmul(150, with_radius=False) > 50


def test_without_the_relative_term_matrix_products_would_miss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from compactproofs.kernel import _enclosure

    monkeypatch.setattr(_enclosure, "_U2", 2.0**-60)
    assert count_misses_of_matmul(150, with_radius=False) > 50


def test_any_order_of_summation_stays_in_the_radius() -> None:
    rng = np.random.default_rng(5)
    for case in range(60):
        a, b = matrices(rng, case)
        a, b = a[:1], b[:, :1]
        ball, truth = exact_ball(a) @ exact_ball(b), rationals(a).dot(rationals(b))[0, 0]
        terms = (a[0] * b[:, 0]).tolist()
        orders = [terms, terms[::-1], sorted(terms), sorted(terms, key=abs, reverse=True)]
        orders += [rng.permutation(terms).tolist() for _ in range(5)]
        for order in orders:
            total = 0.0
            for term in order:
                total += term
            assert abs(Fraction(total) - truth) <= Fraction(ball.rad[0, 0])


def test_matrix_products_of_strided_and_transposed_operands() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((12, 9)), rng.standard_normal((11, 9))
    result = exact_ball(a)[::2, ::-1] @ exact_ball(b)[:, ::-1].T
    assert misses(result, rationals(a[::2]).dot(rationals(b.T))) == 0


# What is refused.


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_numbers_are_refused(bad: float) -> None:
    with pytest.raises(EnclosureError, match="a midpoint left the range"):
        exact_ball(np.array([1.0, bad]))
    with pytest.raises(EnclosureError, match="a radius left the range"):
        Ball(np.ones(2), np.array([0.0, abs(bad)]), LEDGER)


def test_a_negative_radius_is_refused() -> None:
    with pytest.raises(EnclosureError, match="a radius is negative"):
        Ball(np.ones(2), np.array([0.0, -5e-324]), LEDGER)


HUGE = exact_ball(np.full((2, 2), 1.7e308))
WIDE = Ball(np.zeros((2, 2)), np.full((2, 2), 1.7e308), LEDGER)


@pytest.mark.parametrize(
    "overflows",
    [
        lambda: HUGE + HUGE,
        lambda: HUGE - (exact_ball(np.zeros((2, 2))) - HUGE),
        lambda: HUGE * HUGE,
        lambda: HUGE @ HUGE,
        lambda: HUGE @ (exact_ball(np.array([[1.0, -1.0], [-1.0, 1.0]])) * HUGE),
        lambda: WIDE + WIDE,
        lambda: WIDE * WIDE,
        lambda: WIDE @ WIDE,
        lambda: exact_ball(np.zeros((2, 2))) @ (HUGE + WIDE),
        lambda: (HUGE + WIDE).upper(),
        lambda: (HUGE - WIDE - WIDE).lower(),
    ],
)
def test_overflow_is_refused_with_advice(overflows: Callable[[], object]) -> None:
    with pytest.raises(EnclosureError, match="rescale the model's weights"):
        overflows()


def test_inner_lengths_are_checked() -> None:
    with pytest.raises(EnclosureError, match="inner lengths must be equal"):
        _ = exact_ball(np.ones((2, 3))) @ exact_ball(np.ones((2, 3)))
    with pytest.raises(EnclosureError, match="at most 1048576"):
        _ = exact_ball(np.zeros((1, 2**20 + 1))) @ exact_ball(np.zeros((2**20 + 1, 1)))


# Reciprocal square roots.


@quick
@given(st.fractions(Fraction(1, 10**12), 10**12).filter(bool))
def test_reciprocal_sqrt(square: Fraction) -> None:
    ball = reciprocal_sqrt(square, LEDGER)
    mid, rad = Fraction(float(ball.mid)), Fraction(float(ball.rad))
    assert 0 < mid - rad
    assert (mid - rad) ** 2 * square <= 1 <= (mid + rad) ** 2 * square
    assert rad <= mid / 2**49


@pytest.mark.parametrize("factor", [1 - 1e-14, 1 + 1e-14, 0.5, 2.0])
def test_reciprocal_sqrt_does_not_trust_its_guess(factor: float) -> None:
    class Misread(Fraction):
        def __float__(self) -> float:
            return 3.0 * factor

    with pytest.raises(EnclosureError, match="too extreme"):
        reciprocal_sqrt(Misread(3), LEDGER)


@pytest.mark.parametrize("square", [Fraction(10) ** 400, Fraction(10) ** -400, Fraction(0)])
def test_reciprocal_sqrt_refuses_what_it_cannot_enclose(square: Fraction) -> None:
    with pytest.raises(EnclosureError, match="too extreme"):
        reciprocal_sqrt(Fraction(square), LEDGER)
