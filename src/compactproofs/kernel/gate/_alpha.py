"""The account of all probabilities of error: what is stored keeps its share for ever."""

from fractions import Fraction
from typing import Final

from .._errors import OptionError
from ._proportions import check_alpha

SHARE: Final = 6 * Fraction(113, 355) ** 2
"""At most 6 / pi^2, for 355/113 > pi."""


class AlphaAccount:
    """Spends at most ``total`` on any number of statements; exact.

    Law: statement j of the schedule gets ``SHARE total / j^2``, and the sum over all j is at most
    total, for the sum of 1 / j^2 is pi^2 / 6. By the union bound all stored statements hold
    together with probability at least ``1 - spent``, so at least ``1 - total`` unless overdrawn.
    A share is fixed when it is stored: later statements never widen earlier ones, and what was
    spent on a statement that is withdrawn does not come back.
    """

    def __init__(self, total: Fraction) -> None:
        """An account of ``total``, within (0, 1); OptionError else."""
        self.total: Final = check_alpha(total, "total")
        self._spent: dict[str, Fraction] = {}
        self._sum = Fraction(0)
        self._next = 1

    def amount(self, j: int) -> Fraction:
        """What the schedule grants to its statement j = 1, 2, ...; OptionError for another j."""
        if type(j) is not int or j < 1:
            raise OptionError(f"j={j!r} is no place of the schedule: it begins at 1")
        return SHARE * self.total / (j * j)

    def spend(self, name: str) -> Fraction:
        """Store the next amount of the schedule for ``name`` and return it."""
        share = self.amount(self._next)
        self.store(name, share)
        self._next += 1
        return share

    def store(self, name: str, alpha: Fraction) -> None:
        """Store an amount of the caller's choice, which may overdraw the account.

        Raises OptionError for a name that already has one, and for an amount outside [0, 1).
        """
        if name in self._spent:
            raise OptionError(
                f"{name!r} already spent {self._spent[name]}: a statement keeps its alpha for ever"
            )
        if type(alpha) is not Fraction or not 0 <= alpha < 1:
            raise OptionError(f"alpha={alpha!r} for {name!r}: give a Fraction within [0, 1)")
        self._spent[name] = alpha
        self._sum += alpha

    def spent_on(self, name: str) -> Fraction:
        """What ``name`` spent; OptionError if it never did."""
        if name not in self._spent:
            raise OptionError(f"{name!r} has spent nothing: {len(self._spent)} other names have")
        return self._spent[name]

    @property
    def spent(self) -> Fraction:
        """The sum of all amounts stored."""
        return self._sum

    @property
    def overdrawn(self) -> bool:
        """Whether more is spent than ``total``: then nothing may be admitted."""
        return self._sum > self.total
