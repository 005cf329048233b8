"""The value and direct tables in parts: ``o(t,i,x) = F[t,x] + G[i,x]``, and what follows from it.

Integers in a unit of ``2^(2 - grid)``, rounded outward: ``|F|, |H| <= 2^28`` and ``|G| <= 2^29``,
so that brackets of up to four of them are at most ``2^31`` and, times a weight, ``2^61``.

``F[t,x]`` is ``o(t,0,x)`` and ``G[i,x]`` the hull over tokens of ``o(t,i,x) - o(t,0,x)``: this
holds for any tables; the hull is a unit wide when values are a token part plus a position part.
"""

from typing import final

import numpy as np
from jaxtyping import Int, Int64

from ._integers import VerifiedTables
from ._ledger import Counted, Ledger


@final
class SplitTables:
    """Lower and upper ends of ``F [t,x]``, ``G [i,x]`` and ``H [q,x]``. Cost: O(v k x)."""

    __slots__ = ("F_high", "F_low", "G_high", "G_low", "H_high", "H_low", "outputs")

    def __init__(self, tables: VerifiedTables, ledger: Ledger) -> None:
        """Take the parts out of the verified tables."""
        claimed = tables.claimed
        value_low, value_high = _down(claimed.value_low, ledger), _up(claimed.value_high, ledger)
        self.F_low, self.F_high = value_low[0], value_high[0]
        self.G_low = (value_low - value_high[0]).min(axis=1)
        self.G_high = (value_high - value_low[0]).max(axis=1)
        self.H_low = _down(claimed.direct_low, ledger)
        self.H_high = _up(claimed.direct_high, ledger)
        self.outputs = tables.d_vocab_out

    def position_path(self, label: int) -> Int64[np.ndarray, " x"]:
        """``pi_m[x] >= G[i,x] - G[i,m]`` for every position ``i``. Cost: O(k x)."""
        return (self.G_high - self.G_low[:, label, None]).max(axis=0)

    def wrong(self, label: int) -> Int64[np.ndarray, " y"]:
        """The outputs other than ``label``."""
        return np.delete(np.arange(self.outputs), label)


def largest_difference(
    high: Int64[np.ndarray, "r x"], low: Int64[np.ndarray, "r x"]
) -> Int64[np.ndarray, "r x"]:
    """``max_{x != m} high[r,x] - low[r,m]`` for every row and every ``m``. Cost: O(r x).

    With a single output there is no ``x``: the result is below every number in use.
    """
    if high.shape[1] == 1:
        return np.full_like(high, -(1 << 31))
    first = np.asarray(high).argmax(axis=1)[:, None]
    rest = high.copy()
    np.put_along_axis(rest, first, -(1 << 40), axis=1)
    here = np.arange(high.shape[1]) == first
    return np.where(here, rest.max(axis=1)[:, None], high.max(axis=1)[:, None]) - low


def _down(table: Int[np.ndarray, "..."], ledger: Ledger) -> Counted:
    return Counted.of(np.asarray(Counted.of(table, ledger) >> 2), ledger)


def _up(table: Int[np.ndarray, "..."], ledger: Ledger) -> Counted:
    return Counted.of(np.asarray(-(Counted.of(-table.astype(np.int64), ledger) >> 2)), ledger)
