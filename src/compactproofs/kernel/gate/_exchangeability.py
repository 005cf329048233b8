"""A test, at every moment, of whether what arrives still looks like the reference.

Each fresh score is ranked among the reference and all scores before it. If they are exchangeable,
the ranks with ties broken at random are independent and uniform (Vovk, Gammerman and Shafer 2005),
and betting against that wins seldom: by Ville's inequality (1939) the wealth ever reaches 1/alpha
with probability at most alpha.
"""

import json
import math
from bisect import bisect_left, insort
from collections.abc import Iterable
from fractions import Fraction
from typing import Final

from .._errors import MalformedError, OptionError
from ._proportions import check_alpha

_BETS: Final = range(1, 8)
"""Bets e/8: the bet e multiplies its wealth by (e/8) p^(e/8 - 1), of integral 1 over p."""

_BITS: Final = 64
_UNIT: Final = 1 << 128
"""Wealth is counted in units of 2^-128, rounded down."""


class ConformalMartingale:
    """Fires when fresh scores have become larger than exchangeability allows, and stays fired.

    Law: if the reference and the fresh scores are exchangeable, it ever fires with probability at
    most alpha. Proof: begin with wealth 1; before score t = 1, 2, ... move 1 / (t (t + 1)) of it,
    evenly, from the reserve to the bets, which leaves 1 / (t + 1) in reserve. With p from ranks
    with random ties the sum is a martingale. Here ties count in full, so p is no smaller; the bets
    fall in p, and everything is rounded down: the wealth never exceeds that martingale. The reserve
    keeps the test awake: after t quiet scores it needs only evidence of about 2 log t nats more.

    It notices scores that grow, not scores that shrink. Memory: all scores, sorted.
    """

    def __init__(self, alpha: Fraction, reference: Iterable[float] = ()) -> None:
        """A test of probability of error alpha; OptionError for another alpha or a NaN."""
        self.alpha: Final = check_alpha(alpha)
        self._scores = sorted(_checked(score) for score in reference)
        self._reference = len(self._scores)
        self._wealth = [0] * len(_BETS)
        self._fired = False

    @property
    def fired(self) -> bool:
        """Whether the wealth ever reached 1/alpha: then nothing may be admitted."""
        return self._fired

    @property
    def seen(self) -> int:
        """Fresh scores so far."""
        return len(self._scores) - self._reference

    @property
    def wealth(self) -> Fraction:
        """At most the wealth of that martingale: evidence against exchangeability."""
        return Fraction(sum(self._wealth) + _UNIT // (self.seen + 1), _UNIT)

    def update(self, score: float) -> Fraction:
        """Rank a fresh score and bet on it; returns its p-value, ties counted in full.

        Once fired, it only ranks.
        Raises OptionError for a NaN. Cost: tens of microseconds, and an insertion into the scores.
        """
        at = bisect_left(self._scores, _checked(score))
        total = len(self._scores) + 1
        p = Fraction(total - at, total)
        insort(self._scores, score)
        if not self._fired:
            stake = _UNIT // (self.seen * (self.seen + 1) * len(_BETS))
            self._wealth = [
                (wealth + stake) * _bet(e, p) >> _BITS
                for e, wealth in zip(_BETS, self._wealth, strict=True)
            ]
            self._fired = self.wealth * self.alpha >= 1
        return p

    def to_json(self) -> str:
        """All of its state, exactly, as one line of JSON."""
        return json.dumps(
            {
                "alpha": str(self.alpha),
                "scores": [score.hex() for score in self._scores],
                "reference": self._reference,
                "wealth": self._wealth,
                "fired": self._fired,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "ConformalMartingale":
        """The state that ``to_json`` wrote; MalformedError for another text."""
        try:
            state = json.loads(text)
            read = cls(Fraction(state["alpha"]), map(float.fromhex, state["scores"]))
            reference, wealth, fired = state["reference"], state["wealth"], state["fired"]
            sound = (
                type(reference) is int
                and 0 <= reference <= len(read._scores)
                and type(fired) is bool
                and type(wealth) is list
                and len(wealth) == len(_BETS)
                and all(type(part) is int and part >= 0 for part in wealth)
            )
        except (ValueError, TypeError, KeyError, ArithmeticError, OptionError) as error:
            raise MalformedError(
                f"the state of an exchangeability test is malformed: {error!r}"
            ) from None
        if not sound:
            raise MalformedError("the state of an exchangeability test holds numbers out of range")
        read._reference, read._wealth, read._fired = reference, wealth, fired
        return read


def _checked(score: float) -> float:
    if not isinstance(score, float) or math.isnan(score):
        raise OptionError(f"score={score!r} has no rank: give a float that is not NaN")
    return score


def _bet(e: int, p: Fraction) -> int:
    """At most ``(e/8) p^(e/8 - 1)``, in units of 2^-64: three integer roots, rounded down."""
    power = 8 - e
    root = (p.denominator**power << 8 * _BITS) // p.numerator**power
    for _ in range(3):
        root = math.isqrt(root)
    return e * root // 8
