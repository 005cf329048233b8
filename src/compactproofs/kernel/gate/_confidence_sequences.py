"""Confidence sequences: intervals that hold at every look at a growing count, at once.

For each p the beta-binomial likelihood ratio

    E_n(p) = B(k + 1/2, n - k + 1/2) / (B(1/2, 1/2) p^k (1 - p)^(n - k))

is a martingale with mean 1 under p, so by Ville's inequality (1939) the true p ever has
``E_n(p) >= 1/alpha`` with probability at most alpha. What survives every look is an interval, for
E is convex in the log odds; it only shrinks, and may be empty if the trials drift.
"""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import lru_cache

from flint import arb

from .._errors import OptionError
from .._tables_arb import arb_precision
from ._proportions import Interval, check_alpha, check_counts
from ._tails import PRECISION, largest_on_grid, log_likelihood, log_of, smallest_on_grid

_HALVINGS = 120


def confidence_sequence(k: int, n: int, alpha: Fraction, before: Interval | None) -> Interval:
    """What k hits in n trials leave of ``before``, the interval after the look before this one.

    All looks together err with probability at most alpha. Each end is rounded outward and
    verified: ``E_n >= 1/alpha`` certainly holds there. The result may be empty (``low > high``):
    the trials are not those of one p, and nothing may be admitted on them.

    Raises OptionError for counts or an alpha that are none, and for a ``before`` of another kind,
    of another alpha, or of trials that these do not continue. Cost: about a millisecond.
    """
    check_counts(k, n)
    check_alpha(alpha)
    low, high = _ends(k, n, alpha)
    if before is not None:
        if before.kind != "CS" or before.alpha != alpha:
            raise OptionError(
                f"before is a {before.kind} interval of alpha={before.alpha}: a confidence "
                f"sequence of alpha={alpha} continues only its own"
            )
        if not (before.k <= k and before.n - before.k <= n - k):
            raise OptionError(
                f"k={k} hits of n={n} do not continue {before.k} of {before.n}: counts only grow"
            )
        low, high = max(low, before.low), min(high, before.high)
    return Interval(low, high, alpha, k, n, "CS")


def confidence_sequence_over(looks: Iterable[tuple[int, int]], alpha: Fraction) -> Interval:
    """The interval after all looks ``(k, n)``, in their order; [0, 1] before the first.

    Raises and costs as ``confidence_sequence``, once a look.
    """
    check_alpha(alpha)
    now = Interval(Fraction(0), Fraction(1), alpha, 0, 0, "CS")
    for k, n in looks:
        now = confidence_sequence(k, n, alpha, now)
    return now


@lru_cache(maxsize=1 << 14)
def _ends(k: int, n: int, alpha: Fraction) -> tuple[Fraction, Fraction]:
    with arb_precision(PRECISION):
        half = arb(0.5)
        log_beta = (k + half).lgamma() + (n - k + half).lgamma() - arb(n + 1).lgamma()
        log_mixture = log_beta - arb.pi().log()
        # E falls up to k / n and rises beyond it.
        log_limit = -log_of(alpha)

        def excluded(p: Fraction) -> bool:
            return bool(log_mixture - log_likelihood(k, n, p) >= log_limit)

        constant = float((log_mixture - log_limit).mid())
        low = high = None
        if k > 0:
            start = math.exp(_guess(k, n, constant))
            low = largest_on_grid(start, lambda p: p * n < k and excluded(p))
        if k < n:
            start = -math.expm1(_guess(n - k, n, constant))
            high = smallest_on_grid(start, lambda p: p * n > k and excluded(p))
    return low or Fraction(0), Fraction(1) if high is None else high


def _guess(k: int, n: int, constant: float) -> float:
    """About ``log p``, p below k / n, where the evidence is 0: only where to begin."""

    def evidence(log_p: float) -> float:
        rest = (n - k) * math.log(-math.expm1(log_p)) if k < n else 0.0
        return constant - k * log_p - rest

    return _crossing(evidence, -690.0, math.log(k / n) if k < n else -(2.0**-1000))


def _crossing(falls: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if falls(middle) > 0:
            low = middle
        else:
            high = middle
    return low
