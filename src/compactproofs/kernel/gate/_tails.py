"""Binomial tails bounded from above, in integers and Arb, and the ends that follow from them.

Ends of intervals live on a grid: floats with 36 significant bits. An end is the best point of the
grid that is *verified*, so it does not depend on how the search went, and a smaller level gives an
end that is no tighter.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Final

from flint import arb, fmpq

from .._tables_arb import arb_precision

PRECISION: Final = 160
"""Bits of the logarithms that are compared."""

_STEPS: Final = 1 << 35
"""Points of the grid between two powers of two."""

_LOWEST: Final = -1000 * _STEPS
_UNIT: Final = 1 << 80
_NEGLIGIBLE: Final = 64
_NEWTON: Final = 80


def log_of(value: Fraction) -> arb:
    """An enclosure of ``log value``, value > 0."""
    return arb(fmpq(value.numerator, value.denominator)).log()


def log_likelihood(k: int, n: int, p: Fraction) -> arb:
    """An enclosure of ``k log p + (n - k) log(1 - p)``, 0 < p < 1."""
    exact = arb(fmpq(p.numerator, p.denominator))
    return k * exact.log() + (n - k) * (-exact).log1p()


def largest_on_grid(start: float, holds: Callable[[Fraction], bool]) -> Fraction:
    """The largest p of the grid that ``holds``; 0 if none does.

    holds: true below some point of (0, 1), false above; start: where to begin the search.
    Cost: two calls if ``start`` is next to the answer, twice the logarithm of the distance else.
    """
    found = _last(
        _index(start),
        lambda i: i < 0 and (i <= _LOWEST or holds(_grid(i))),
    )
    return _grid(found) if found > _LOWEST else Fraction(0)


def smallest_on_grid(start: float, holds: Callable[[Fraction], bool]) -> Fraction:
    """The smallest p of the grid that ``holds``; 1 if none does.

    holds: false below some point of (0, 1), true above.
    """
    found = _last(
        -_index(start),
        lambda i: i <= 0 or (-i > _LOWEST and holds(_grid(-i))),
    )
    return _grid(-found)


def _grid(index: int) -> Fraction:
    exponent, rest = divmod(index, _STEPS)
    return Fraction(_STEPS + rest, 1) * Fraction(2) ** (exponent - 35)


def _index(p: float) -> int:
    mantissa, exponent = math.frexp(min(max(p, 2.0**-999), 1.0))
    return (exponent - 1) * _STEPS + int((2 * mantissa - 1) * _STEPS)


def _last(start: int, holds: Callable[[int], bool]) -> int:
    """The last integer that ``holds``, which is true up to some integer and false beyond."""
    step = 1
    if holds(start):
        low = start
        while holds(low + step):
            low, step = low + step, 2 * step
        high = low + step
    else:
        high = start
        while not holds(high - step):
            high, step = high - step, 2 * step
        low = high - step
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


@lru_cache(maxsize=1 << 16)
def lower_end(k: int, n: int, level: Fraction) -> Fraction:
    """The largest p of the grid with ``P(X >= k) <= level`` for X binomial(n, p): verified.

    So the end exceeds the true p with probability at most ``level``: let k be the least count
    whose end does; then ``P(X >= k) <= level`` already at that end, and p is below it. 0 <= k <= n;
    the end of k = 0 is 0. A level above 1/2 is used as 1/2. Cost: a few sums of O(sqrt(n))
    integers.
    """
    if k == 0:
        return Fraction(0)
    level = min(level, Fraction(1, 2))
    with arb_precision(PRECISION):
        log_choose, log_level = _log_choose(k, n), log_of(level)

        def holds(p: Fraction) -> bool:
            return bool(_log_tail(k, n, p, log_choose) <= log_level)

        return largest_on_grid(math.exp(_guess(k, n, log_choose, level)), holds)


@lru_cache(maxsize=1 << 16)
def upper_end(k: int, n: int, level: Fraction) -> Fraction:
    """The smallest p of the grid with ``P(X <= k) <= level`` for X binomial(n, p): verified.

    The mirror image of ``lower_end``; 1 for k = n.
    """
    if k == n:
        return Fraction(1)
    level = min(level, Fraction(1, 2))
    with arb_precision(PRECISION):
        log_choose, log_level = _log_choose(k, n), log_of(level)

        def holds(p: Fraction) -> bool:
            return bool(_log_tail(n - k, n, 1 - p, log_choose) <= log_level)

        return smallest_on_grid(-math.expm1(_guess(n - k, n, log_choose, level)), holds)


def _log_choose(k: int, n: int) -> arb:
    return arb(n + 1).lgamma() - arb(k + 1).lgamma() - arb(n - k + 1).lgamma()


def _log_tail(k: int, n: int, p: Fraction, log_choose: arb) -> arb:
    """An upper bound on ``log P(X >= k)``, 0 < k <= n, 0 < p < 1; 0 from the mean on."""
    if p * n >= k:
        return arb(0)
    ratio = arb(fmpq(_tail_over_first(k, n, p), _UNIT))
    return log_choose + log_likelihood(k, n, p) + ratio.log()


def _tail_over_first(k: int, n: int, p: Fraction) -> int:
    """At least ``P(X >= k) / P(X = k)``, in units of ``2^-80``; p below k / n.

    Terms are rounded up. Their ratios (n - j) p / ((j + 1) (1 - p)) are below 1 and fall, so what
    comes after a term is at most the geometric series of its ratio.
    """
    p_part, q_part = p.numerator, p.denominator - p.numerator
    total = term = _UNIT
    for j in range(k, n):
        above, below = (n - j) * p_part, (j + 1) * q_part
        rest = -(-term * above // (below - above))
        if rest << _NEGLIGIBLE < total:
            return total + rest
        term = -(-term * above // below)
        total += term
    return total


def _guess(k: int, n: int, log_choose: arb, level: Fraction) -> float:
    """About ``log p`` with ``P(X >= k) = level``: only where to begin, so in plain floats.

    ``log P(X >= k)`` is concave in ``log p`` with slope k P(X = k) / P(X >= k), so Newton's steps
    stay below the root from the second on.
    """
    target = math.log(level.numerator) - math.log(level.denominator)
    if k == n:
        return target / n
    at = math.log(k / n)
    for _ in range(_NEWTON):
        other = -math.expm1(at)
        total = term = 1.0
        odds = math.exp(at) / other
        for j in range(k, n):
            term *= (n - j) / (j + 1) * odds
            if total + term == total:
                break
            total += term
        value = float(log_choose.mid()) + k * at + (n - k) * math.log(other) + math.log(total)
        step = (value - target) * total / k
        at -= step
        if abs(step) < 2.0**-44 * abs(at):
            break
    return at
