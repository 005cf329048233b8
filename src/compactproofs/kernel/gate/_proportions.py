"""Exact confidence intervals of a probability, from k hits in n trials.

Clopper and Pearson (1934). One end that errs with probability at most ``level`` is the p at which
the binomial tail beyond k equals ``level``: BetaInv(level; k, n - k + 1) below,
BetaInv(1 - level; k + 1, n - k) above. The *two-sided* interval spends ``alpha / 2`` on each end,
so that ``Interval.alpha`` is all that it may err with; a bound of one side, ``lower_mass`` or
``upper_risk``, spends all of its alpha there. Assumes trials that are independent with one p (as
exchangeable data are, given their limit), and counts that nobody chose after a look at them.
"""

from fractions import Fraction
from typing import Final, Literal, NamedTuple

from .._errors import OptionError
from ._tails import lower_end, upper_end

LARGEST_COUNT: Final = 10**9
"""The most trials that an interval is computed for: a tail takes O(sqrt(n)) steps."""

SMALLEST_ALPHA: Final = Fraction(1, 10**60)
"""The least probability of error that an interval is computed for."""

Kind = Literal["CP", "CS", "exact"]


class Interval(NamedTuple):
    """``low <= p <= high`` with probability at least ``1 - alpha``: both ends together.

    kind: "CP" (Clopper-Pearson), "CS" (confidence sequence), "exact" (k of n points of a finite
    space, alpha 0). An *empty* interval, ``low > high``, says that its trials contradict each
    other; whoever uses it must admit nothing.
    """

    low: Fraction
    high: Fraction
    alpha: Fraction
    k: int
    n: int
    kind: Kind

    @property
    def empty(self) -> bool:
        """Whether no probability lies between the ends."""
        return self.low > self.high


def clopper_pearson(k: int, n: int, alpha: Fraction) -> Interval:
    """The interval that errs with probability at most alpha, alpha / 2 on each side.

    Its ends are floats of 36 significant bits, rounded outward, each verified: the tail there is
    certainly at most alpha / 2. A smaller alpha never gives a narrower interval; k = 0 gives
    low 0, k = n high 1, and n = 0 the whole of [0, 1].

    Raises OptionError for counts or an alpha that are none. Cost: about a millisecond at n = 10^4,
    growing with sqrt(n); remembered.
    """
    check_counts(k, n)
    half = check_alpha(alpha) / 2
    return Interval(lower_end(k, n, half), upper_end(k, n, half), alpha, k, n, "CP")


def lower_mass(k: int, n: int, alpha: Fraction) -> Fraction:
    """A p that the truth is below with probability at most alpha, all spent on this side.

    An alpha above 1/2 is used as 1/2. Raises and costs as ``clopper_pearson``.
    """
    check_counts(k, n)
    return lower_end(k, n, check_alpha(alpha))


def upper_risk(k: int, n: int, alpha: Fraction) -> Fraction:
    """A p that the truth is above with probability at most alpha, all spent on this side.

    An alpha above 1/2 is used as 1/2. Raises and costs as ``clopper_pearson``.
    """
    check_counts(k, n)
    return upper_end(k, n, check_alpha(alpha))


def exact_proportion(k: int, n: int) -> Interval:
    """The probability of k of the n equally likely points of a finite space: no error at all.

    Raises OptionError for counts that are none, and for n = 0.
    """
    check_counts(k, n)
    if n == 0:
        raise OptionError("n=0 points: an exact proportion needs at least one")
    p = Fraction(k, n)
    return Interval(p, p, Fraction(0), k, n, "exact")


def check_counts(k: int, n: int) -> None:
    """Refuse what are not counts ``0 <= k <= n <= LARGEST_COUNT``."""
    for name, value in (("k", k), ("n", n)):
        if type(value) is not int:
            raise OptionError(f"{name}={value!r} is a {type(value).__name__}: counts are integers")
        if value < 0:
            raise OptionError(f"{name}={value} is negative: counts are at least 0")
    if k > n:
        raise OptionError(f"k={k} hits of n={n} trials: k must not exceed n")
    if n > LARGEST_COUNT:
        raise OptionError(f"n={n} trials: at most {LARGEST_COUNT} are supported")


def check_alpha(alpha: Fraction, name: str = "alpha") -> Fraction:
    """``alpha``, a Fraction within (0, 1) and not below ``SMALLEST_ALPHA``."""
    if type(alpha) is not Fraction:
        raise OptionError(
            f"{name}={alpha!r} is a {type(alpha).__name__}: give an exact Fraction('0.05')"
        )
    if not 0 < alpha < 1:
        raise OptionError(f"{name}={alpha} is not a probability of error: give 0 < {name} < 1")
    if alpha < SMALLEST_ALPHA:
        raise OptionError(f"{name}={float(alpha):.3g} is too small: give at least 1e-60")
    return alpha
