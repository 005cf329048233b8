"""The direct path of the sub-cubic family: five ways to bound it by a shared row and a spread.

Law of every part: numbers ``mu[x]`` and ``dH[q]`` such that for all queries ``q`` and outputs
``x, y``

    H[q,x] - H[q,y]  <=  mu[x] - mu[y] + dH[q].

``H[q] = e_q U + b_U`` with the residual row ``e_q = E[q] + P[k-1] + b_O``. For any row ``r`` and
``mu = r U + b_U`` the rest is ``(e_q - r) U``, whose spread ``_row_spread`` bounds.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float64

from .._enclosure import Ball
from ._row_spread import mean_row, spread, weighted


class DirectBound(NamedTuple):
    """See the law above."""

    mu: Ball
    """[1, x]"""
    dH: Float64[np.ndarray, " q"]


class DirectPath(ABC):
    """A way to bound the direct path; the law is above."""

    name: str

    @abstractmethod
    def bound(
        self, rows: Ball, unembed: Ball, bias: Ball, direction: Float64[np.ndarray, " d"]
    ) -> DirectBound:
        """rows: ``e_q`` [v, d]. unembed: ``U`` [d, x]. bias: ``b_U`` [1, x].

        direction: any vector; a good one is near the first singular direction of the rows.
        """

    @abstractmethod
    def unexplained_dimension(self, v: int, d: int) -> int:
        """Numbers treated case by case (the paper's count)."""


@final
class MaxDiffExact(DirectPath):
    """``mu = 0``, ``dH[q] = max_x H[q,x] - min_x H[q,x]``. Cost: O(v d x)."""

    name = "max_diff_exact"

    def bound(
        self, rows: Ball, unembed: Ball, bias: Ball, direction: Float64[np.ndarray, " d"]
    ) -> DirectBound:
        """Form H."""
        return DirectBound(_zero(bias), spread(rows @ unembed + bias))

    def unexplained_dimension(self, v: int, d: int) -> int:
        """A maximum and a minimum for each query."""
        return 2 * v


@final
class GlobalMaxDiffExact(DirectPath):
    """``mu = 0``, ``dH`` the largest minus the smallest entry of all of H. Cost: O(v d x)."""

    name = "global_max_diff_exact"

    def bound(
        self, rows: Ball, unembed: Ball, bias: Ball, direction: Float64[np.ndarray, " d"]
    ) -> DirectBound:
        """Form H."""
        direct = rows @ unembed + bias
        as_one = Ball(direct.mid.reshape(1, -1), direct.rad.reshape(1, -1), direct.ledger)
        return DirectBound(_zero(bias), np.repeat(spread(as_one), rows.shape[0]))

    def unexplained_dimension(self, v: int, d: int) -> int:
        """One maximum and one minimum."""
        return 2


@final
class MeanQueryMaxDiff(DirectPath):
    """``r`` the mean row; ``dH[q] = sum_j |e_q - r|_j spread(U)[j]``. Cost: O(v d + d x)."""

    name = "mean_query+max_diff"

    def bound(
        self, rows: Ball, unembed: Ball, bias: Ball, direction: Float64[np.ndarray, " d"]
    ) -> DirectBound:
        """Form one row of H."""
        row = mean_row(rows)
        return DirectBound(row @ unembed + bias, weighted(rows - row, spread(unembed)))

    def unexplained_dimension(self, v: int, d: int) -> int:
        """The mean row, and a residual for each query and dimension."""
        return v + v * d + 2


@final
class SvdQueryMaxDiff(DirectPath):
    """Each row projected on a direction ``r``: ``e_q = c_q r + rest_q``.

    ``mu = c r U + b_U`` with ``c`` the mean of ``c_q``;
    ``dH[q] = |c_q - c| spread(r U) + sum_j |rest_q|_j spread(U)[j]``. Any ``c_q`` and ``c`` are
    sound: they are exact numbers, chosen by projection. Cost: O(v d + d x).
    """

    name = "svd_query+max_diff"

    def bound(
        self, rows: Ball, unembed: Ball, bias: Ball, direction: Float64[np.ndarray, " d"]
    ) -> DirectBound:
        """Form one row of H."""
        ledger = rows.ledger
        share = projection(rows.mid.T, direction)  # c_q
        ledger.point(2 * rows.mid.size)
        mean = np.array([[share.mean()]])
        line = Ball.exact(direction[None, :], ledger)
        along = line @ unembed
        rest = rows - Ball.exact(share[:, None], ledger) @ line
        off = Ball.exact(share[:, None], ledger) - Ball.exact(mean, ledger)
        both = weighted(off, spread(along)) + weighted(rest, spread(unembed))
        return DirectBound(Ball.exact(mean, ledger) @ along + bias, np.nextafter(both, np.inf))

    def unexplained_dimension(self, v: int, d: int) -> int:
        """As the mean row's."""
        return v + v * d + 2


@final
class MaxDiff(DirectPath):
    """``r = 0``: ``dH[q] = sum_j |e_q|_j spread(U)[j]``. Cost: O(v d + d x)."""

    name = "max_diff"

    def bound(
        self, rows: Ball, unembed: Ball, bias: Ball, direction: Float64[np.ndarray, " d"]
    ) -> DirectBound:
        """Form nothing of H."""
        return DirectBound(bias, weighted(rows, spread(unembed)))

    def unexplained_dimension(self, v: int, d: int) -> int:
        """A residual for each query and dimension."""
        return v * d + 2


def projection(
    columns: Float64[np.ndarray, "n c"], direction: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " c"]:
    """Coefficients of the columns along a direction; 0 for the direction 0. Only a choice."""
    length = float(direction @ direction)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = (direction @ columns) / length if length > 0 else np.zeros(columns.shape[1])
    return np.where(np.isfinite(found), found, 0.0)


def _zero(like: Ball) -> Ball:
    return Ball.exact(np.zeros(like.shape), like.ledger)


DIRECT_PATHS: dict[str, DirectPath] = {
    part.name: part
    for part in (
        MaxDiffExact(),
        GlobalMaxDiffExact(),
        MeanQueryMaxDiff(),
        SvdQueryMaxDiff(),
        MaxDiff(),
    )
}
"""By name."""
