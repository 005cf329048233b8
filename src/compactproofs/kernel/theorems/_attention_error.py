"""The attention of the sub-cubic family: ten ways to approximate the QK circuit.

Law of every part: an approximation ``A~[q,t]`` and ``err[q]`` such that for all tokens ``t, u``

    (A - A~)[q,t] - (A - A~)[q,u]  <=  err[q],

where ``A = e Q K^T k^T`` is the position-independent part of the scores in nats (``e_q`` the
query's residual row, ``k_t`` the key's at the mean position, ``Q`` divided by ``sqrt(d_head)``,
biases as one more column). Two splits give the residual that is bounded, both identities for *any*
directions, so that no singular vector has to be trusted:

* rank one: with ``X = e Q``, ``Y = K^T k^T``, ``X = u xi + X'``, ``Y = eta w + Y'``:
  ``A = u (xi Y) + (X' eta) w + X' Y'``;
* peeled: ``e = sum_r a_r p_r + e'``, ``k = sum_r b_r s_r + k'`` (two directions each),
  ``Q = c y + Q'``, ``K = f z + K'``:
  ``A = sum_r a_r (p_r Q K^T k^T) + (e' c) (y K^T k^T) + (e' Q' z) (f k^T)
  + sum_r (e' Q' K'^T s_r) b_r + e' Q' K'^T k'^T``.

The coefficients ``xi, eta, p, s, y, z`` are exact numbers, chosen by projection.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float64

from .._enclosure import Ball
from ._direct_path import projection
from ._row_spread import by_norm, of_chain, of_product, spread


class QKFactors(NamedTuple):
    """``A = query @ W_Q @ W_K.T @ key.T``."""

    query: Ball
    """[v, d]"""
    W_Q: Ball
    """[d, h], divided by sqrt(d_head)"""
    W_K: Ball
    """[d, h]"""
    key: Ball
    """[v, d]"""


class Directions(NamedTuple):
    """Any vectors; good ones are singular vectors."""

    query: Float64[np.ndarray, "2 v"]
    key: Float64[np.ndarray, "2 v"]
    W_Q: Float64[np.ndarray, " d"]
    W_K: Float64[np.ndarray, " d"]


class AttentionBound(NamedTuple):
    """See the law above."""

    approximation: Ball
    """[q, t]"""
    error: Float64[np.ndarray, " q"]


class AttentionError(ABC):
    """A way to approximate the QK circuit; the law is above."""

    name: str

    @abstractmethod
    def bound(self, factors: QKFactors, directions: Directions) -> AttentionBound:
        """The approximation and its error."""

    @abstractmethod
    def unexplained_dimension(self, v: int) -> int:
        """Numbers treated case by case (the paper's count)."""


@final
class ExactEQKE(AttentionError):
    """``A~ = A``, no error. Cost: O(v d h + v^2 h)."""

    name = "exact_EQKE+max_diff_exact"

    def bound(self, factors: QKFactors, directions: Directions) -> AttentionBound:
        """Form A."""
        left, right = _halves(factors)
        return AttentionBound(left @ right, np.zeros(left.shape[0]))

    def unexplained_dimension(self, v: int) -> int:
        """All of A."""
        return v * v


@final
class MaxDiffExact(AttentionError):
    """Rank one; the residual ``X' Y'`` is formed. Cost: O(v d h + v^2 h)."""

    name = "max_diff_exact"

    def bound(self, factors: QKFactors, directions: Directions) -> AttentionBound:
        """Form the residual and take the spread of its rows."""
        approximation, left, right = _rank_one(factors, directions)
        return AttentionBound(approximation, spread(left @ right))

    def unexplained_dimension(self, v: int) -> int:
        """Two singular vectors, a maximum and a minimum for each query."""
        return 4 * v


@final
class Svd(AttentionError):
    """Rank one; ``err = sqrt(2) sigma_1(X' Y')`` for all queries. Cost: O(v d h + v h^2 + v^2)."""

    name = "svd"

    def bound(self, factors: QKFactors, directions: Directions) -> AttentionBound:
        """Bound the residual's first singular value, with proof."""
        approximation, left, right = _rank_one(factors, directions)
        return AttentionBound(approximation, np.full(left.shape[0], by_norm(left, right)))

    def unexplained_dimension(self, v: int) -> int:
        """Two singular vectors."""
        return 2 * v


@final
@dataclass(frozen=True)
class OneSplit(AttentionError):
    """Rank one; the residual by the law of ``_row_spread``. Cost: O(v d h + v^2)."""

    name: str  # type: ignore[misc]
    centred: bool

    def bound(self, factors: QKFactors, directions: Directions) -> AttentionBound:
        """Bound the spread of ``X' Y'``."""
        approximation, left, right = _rank_one(factors, directions)
        return AttentionBound(approximation, of_product(left, right, centred=self.centred))

    def unexplained_dimension(self, v: int) -> int:
        """Two singular vectors, a spread for each query; one more with a mean row."""
        return (4 if self.centred else 3) * v


@final
@dataclass(frozen=True)
class Subproduct(AttentionError):
    """Peeled; the residual of four factors split at each of three places. Cost: O(v d h + v^2)."""

    name: str  # type: ignore[misc]
    centred: bool

    def bound(self, factors: QKFactors, directions: Directions) -> AttentionBound:
        """The smallest of the three bounds."""
        approximation, (one, two, three, four) = _peeled(factors, directions)
        front, back = one @ two, three @ four
        splits = ((one, two @ back), (front, back), (front @ three, four))
        bounds = [of_product(left, right, centred=self.centred) for left, right in splits]
        one.ledger.point(2 * len(bounds[0]))
        return AttentionBound(approximation, np.minimum(np.minimum(*bounds[:2]), bounds[2]))

    def unexplained_dimension(self, v: int) -> int:
        """As one split's."""
        return (4 if self.centred else 3) * v


@final
@dataclass(frozen=True)
class Recursive(AttentionError):
    """Peeled; the residual bounded factor by factor. Cost: O(v d + d h + v^2)."""

    name: str  # type: ignore[misc]
    centred: int
    """Factors, from the first, of which a mean row is subtracted."""

    def bound(self, factors: QKFactors, directions: Directions) -> AttentionBound:
        """Absolute values all the way."""
        approximation, chain = _peeled(factors, directions)
        return AttentionBound(approximation, of_chain(list(chain), centred=self.centred))

    def unexplained_dimension(self, v: int) -> int:
        """As one split's."""
        return (4 if self.centred else 3) * v


def _halves(factors: QKFactors) -> tuple[Ball, Ball]:
    return factors.query @ factors.W_Q, (factors.key @ factors.W_K).T


def _without(matrix: Ball, direction: Float64[np.ndarray, " n"]) -> tuple[Ball, Ball, Ball]:
    """``matrix = direction coefficients + rest``: the column, the row and the rest."""
    ledger = matrix.ledger
    ledger.point(2 * matrix.mid.size)
    row = Ball.exact(projection(matrix.mid, direction)[None, :], ledger)
    column = Ball.exact(direction[:, None], ledger)
    return column, row, matrix - column @ row


def _rank_one(factors: QKFactors, directions: Directions) -> tuple[Ball, Ball, Ball]:
    left, right = _halves(factors)
    u, xi, rest_left = _without(left, directions.query[0])
    w, eta, rest_right = _without(right.T, directions.key[0])
    # right = eta^T w^T + rest_right^T
    approximation = _sum_of_products([u, rest_left @ eta.T], [xi @ right, w.T])
    return approximation, rest_left, rest_right.T


def _peeled(
    factors: QKFactors, directions: Directions
) -> tuple[Ball, tuple[Ball, Ball, Ball, Ball]]:
    query, key = factors.query, factors.key
    columns: list[Ball] = []
    rows: list[Ball] = []
    key_side: list[tuple[Ball, Ball]] = []
    for direction in directions.query:
        column, row, query = _without(query, direction)
        columns.append(column)
        rows.append(((row @ factors.W_Q) @ factors.W_K.T) @ factors.key.T)
    for direction in directions.key:
        column, row, key = _without(key, direction)
        key_side.append((column, row))
    c, y, rest_Q = _without(factors.W_Q, directions.W_Q)
    f, z, rest_K = _without(factors.W_K, directions.W_K)
    columns.append(query @ c)
    rows.append((y @ factors.W_K.T) @ factors.key.T)
    columns.append(query @ (rest_Q @ z.T))
    rows.append(f.T @ factors.key.T)
    for column, row in key_side:
        columns.append(query @ (rest_Q @ (rest_K.T @ row.T)))
        rows.append(column.T)
    return _sum_of_products(columns, rows), (query, rest_Q, rest_K.T, key.T)


def _sum_of_products(columns: list[Ball], rows: list[Ball]) -> Ball:
    left = Ball(
        np.concatenate([c.mid for c in columns], axis=1),
        np.concatenate([c.rad for c in columns], axis=1),
        columns[0].ledger,
    )
    right = Ball(
        np.concatenate([r.mid for r in rows], axis=0),
        np.concatenate([r.rad for r in rows], axis=0),
        rows[0].ledger,
    )
    return left @ right


ATTENTION_ERRORS: dict[str, AttentionError] = {
    part.name: part
    for part in (
        ExactEQKE(),
        MaxDiffExact(),
        Svd(),
        OneSplit("max_diff", centred=False),
        OneSplit("mean+max_diff", centred=True),
        Subproduct("max_diff_subproduct", centred=False),
        Subproduct("mean+max_diff_subproduct", centred=True),
        Recursive("max_diff_subproduct_recursive", centred=0),
        Recursive("mean+max_diff_subproduct_recursive", centred=1),
        Recursive("mean_recursive+max_diff_subproduct_recursive", centred=3),
    )
}
"""By name."""
