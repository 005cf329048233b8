from decimal import Decimal, localcontext
from fractions import Fraction
from math import comb

import pytest

from compactproofs.estimate import clopper_pearson


def _upper_tail(successes: int, samples: int, p: Fraction) -> Fraction:
    """P(X >= successes), exactly."""
    return sum(
        (comb(samples, j) * p**j * (1 - p) ** (samples - j) for j in range(successes, samples + 1)),
        Fraction(0),
    )


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("samples", [1, 2, 7, 20])
def test_ends_solve_the_defining_equations_exactly(samples: int, confidence: float) -> None:
    tail = (1 - Fraction(confidence)) / 2
    step = Fraction(1, 10**12)
    for correct in range(samples + 1):
        low, high = (Fraction(end) for end in clopper_pearson(correct, samples, confidence))
        assert 0 <= low <= Fraction(correct, samples) <= high <= 1
        if correct == 0:
            assert low == 0
        else:
            assert _upper_tail(correct, samples, low - step) < tail
            assert _upper_tail(correct, samples, low + step) > tail
        if correct == samples:
            assert high == 1
        else:
            below_or_equal = [
                1 - _upper_tail(correct + 1, samples, high + sign * step) for sign in (-1, 1)
            ]
            assert below_or_equal[0] > tail > below_or_equal[1]


@pytest.mark.parametrize(
    ("correct", "samples", "low", "high"),
    [  # standard tables at 95 %; the last one is the example of R's binom.test
        (0, 10, 0.0, 0.308497),
        (5, 10, 0.187086, 0.812914),
        (10, 10, 0.691503, 1.0),
        (1, 100, 0.000253, 0.054459),
        (682, 925, 0.7076683, 0.7654066),
    ],
)
def test_known_values(correct: int, samples: int, low: float, high: float) -> None:
    assert clopper_pearson(correct, samples, 0.95) == pytest.approx((low, high), abs=1e-6)


def _lower_tail(most: int, samples: int, p: Decimal) -> Decimal:
    """P(X <= most), summed from 0 in the context's precision."""
    term = (1 - p) ** samples
    total = term
    for j in range(most):
        term *= p / (1 - p) * (samples - j) / (j + 1)
        total += term
    return total


@pytest.mark.parametrize("samples", [1000, 1_000_000])
@pytest.mark.parametrize("wrong", [1, 3, 640])
def test_large_samples_agree_with_a_sum_in_60_digits(samples: int, wrong: int) -> None:
    low, high = clopper_pearson(samples - wrong, samples, 0.95)
    with localcontext(prec=60):
        at_low = _lower_tail(wrong, samples, 1 - Decimal(low))
        at_high = 1 - _lower_tail(wrong - 1, samples, 1 - Decimal(high))
    assert float(at_low) == pytest.approx(0.025, abs=1e-6)
    assert float(at_high) == pytest.approx(0.025, abs=1e-6)


def test_nothing_wrong_in_many_samples_is_the_rule_of_three() -> None:
    low, high = clopper_pearson(10**9, 10**9, 0.90)
    assert high == 1
    assert (1 - low) * 10**9 == pytest.approx(2.9957, abs=1e-3)


def test_half_right_in_many_samples_is_quick_and_symmetric() -> None:
    low, high = clopper_pearson(500_000, 1_000_000, 0.95)
    assert low + high == pytest.approx(1, abs=1e-12)
    assert 0.5 - low == pytest.approx(1.96 * 0.0005, rel=1e-2)


@pytest.mark.parametrize(
    ("correct", "samples", "confidence", "message"),
    [
        (0, 0, 0.95, "samples=0"),
        (-1, 4, 0.95, "correct=-1"),
        (5, 4, 0.95, "correct=5"),
        (1, 4, 0.0, "confidence=0.0"),
        (1, 4, 1.0, "confidence=1.0"),
        (1, 4, float("nan"), "confidence=nan"),
    ],
)
def test_out_of_range_is_refused(
    correct: int, samples: int, confidence: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        clopper_pearson(correct, samples, confidence)
