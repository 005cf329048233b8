"""How much attention the positions of the maximum get: step 1 of the sub-cubic theorem.

``B[q,i]`` is the position-dependent part of the scores. Relative to the query's own position and a
factor common to each query, ``e_i = exp(B[q,i] - B[q,k-1])`` is enclosed once; the sum over any
``s`` of the ``k-1`` positions before the query lies between those of the ``s`` smallest and of the
``s`` largest.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from .._enclosure import Ball, exp_bounds
from .._ledger import Ledger

_LIMIT = 600.0
"""Nats beyond which an exponential is 0 below, or no better than this above."""
_SMALLEST = 2.0**-1000


class PositionMass(NamedTuple):
    """Sums of ``exp B`` over ``s = 0 .. k-1`` positions, rounded outward; and the query's own."""

    smallest: Float64[np.ndarray, "q s"]
    """At most the sum over any ``s`` positions."""
    largest: Float64[np.ndarray, "q s"]
    """At least the sum over any ``s`` positions."""
    own_low: Float64[np.ndarray, " q"]
    own_high: Float64[np.ndarray, " q"]

    @staticmethod
    def of(B: Ball, ledger: Ledger) -> "PositionMass":
        """From ``B [q, i]``. Cost: O(v k log k)."""
        # A factor common to a query: any number; the largest entry keeps every exponential small.
        top = Ball.exact(B.mid.max(axis=1, keepdims=True), ledger)
        bounds = exp_bounds(B - top)
        low = np.where(
            bounds.lower_exponent < -1000,
            0.0,
            np.ldexp(bounds.lower, np.maximum(bounds.lower_exponent, -1000)),
        )
        high = np.maximum(
            np.ldexp(bounds.upper, np.maximum(bounds.upper_exponent, -1000)), _SMALLEST
        )
        k = B.shape[1]
        ledger.point(2 * B.mid.size * (1 + k.bit_length()))
        return PositionMass(
            _sums(np.sort(low[:, :-1], axis=1), -1),
            _sums(np.sort(high[:, :-1], axis=1)[:, ::-1], 1),
            low[:, -1],
            high[:, -1],
        )


def _sums(terms: Float64[np.ndarray, "q i"], side: int) -> Float64[np.ndarray, "q s"]:
    """Sums of the first ``s`` terms, each at least 0, moved outward by more than all roundings."""
    sums = np.cumsum(terms, axis=1)
    outward = sums * (1.0 + side * 2.0 * (terms.shape[1] + 2) * 2.0**-52)
    return np.concatenate([np.zeros((len(terms), 1)), outward], axis=1)


def attention_range(
    approximation: Ball,
    error: Float64[np.ndarray, " q"],
    mass: PositionMass,
    far: Int64[np.ndarray, "q m n"],
    ledger: Ledger,
) -> tuple[Float64[np.ndarray, "q m n"], Float64[np.ndarray, "q m n"]]:
    """``a_lo`` and ``a_hi`` of the theorem: the attention on the maximum, ``n`` tokens smaller.

    far: the largest smaller token, ``m - g``. Meaningful for ``n >= 1``. Cost: O(v^2 k).
    """
    v, _, k = far.shape
    lower, upper = approximation.lower(), approximation.upper()
    most = np.maximum.accumulate(upper, axis=1)
    least = np.minimum.accumulate(lower, axis=1)
    ledger.point(2 * lower.size)
    q = np.arange(v)[:, None, None]
    m = np.arange(v)[None, :, None]
    width = error[:, None, None]
    low = _down(_down(lower[:, :, None] - most[q, far]) - width)
    high = _up(_up(upper[:, :, None] - least[q, far]) + width)
    factor_low = _exp(np.clip(low, -_LIMIT, _LIMIT), ledger, -1)
    factor_low = np.where(low < -_LIMIT, 0.0, factor_low)
    factor_high = _exp(np.clip(high, -_LIMIT, _LIMIT), ledger, 1)

    # n smaller tokens, the query among them if q != m: k - n copies of the maximum.
    is_maximum = q == m
    n = np.arange(k)[None, None, :]
    copies = np.maximum(k - n - is_maximum, 0)  # before the query
    others = np.clip(n - ~is_maximum, 0, k - 1)
    own_low, own_high = mass.own_low[:, None, None], mass.own_high[:, None, None]
    zero = np.zeros_like(own_low)
    copies = np.minimum(copies, k - 1)
    M_low = _down(mass.smallest[q, copies] + np.where(is_maximum, own_low, zero))
    M_high = _up(mass.largest[q, copies] + np.where(is_maximum, own_high, zero))
    R_low = _down(mass.smallest[q, others] + np.where(is_maximum, zero, own_low))
    R_high = _up(mass.largest[q, others] + np.where(is_maximum, zero, own_high))
    at_least = np.maximum(_down(np.maximum(M_low, 0.0) * factor_low), 0.0)
    at_most = _up(M_high * factor_high)
    with np.errstate(invalid="ignore", divide="ignore"):
        a_low = _down(at_least / _up(at_least + R_high))
        a_high = _up(at_most / _down(at_most + np.maximum(R_low, 0.0)))
    ledger.point(14 * far.size)
    return np.clip(a_low, 0.0, 1.0), np.clip(np.where(high > _LIMIT, 1.0, a_high), 0.0, 1.0)


def _exp(x: Float64[np.ndarray, "..."], ledger: Ledger, side: int) -> Float64[np.ndarray, "..."]:
    """``exp`` of numbers within ``+-600``, rounded down (-1) or up (1)."""
    bounds = exp_bounds(Ball.exact(x, ledger))
    if side < 0:
        return np.ldexp(bounds.lower, bounds.lower_exponent)
    return np.ldexp(bounds.upper, bounds.upper_exponent)


def _down(x: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    return np.nextafter(x, -np.inf)


def _up(x: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    return np.nextafter(x, np.inf)
