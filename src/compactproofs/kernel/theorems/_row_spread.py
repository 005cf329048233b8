"""Bounds on the spread of the rows of a product that is not formed.

The spread of a row is its largest entry minus its smallest. For ``M = X Y`` with rows ``Y[j]``,

    spread(M)[r] <= sum_j |X[r,j]| spread(Y)[j],

since the difference of two entries is ``sum_j X[r,j] (Y[j,t] - Y[j,u])``. Subtracting any one row
``c`` from ``X`` first gives ``spread(M)[r] <= spread(c Y) + sum_j |X[r,j] - c[j]| spread(Y)[j]``.
All results are float64 numbers rounded up.
"""

import numpy as np
from jaxtyping import Float64

from .._enclosure import Ball

SQUARINGS = 6
"""A spectral radius is bounded by the 64th root of the norm of the 64th power."""


def spread(matrix: Ball) -> Float64[np.ndarray, " r"]:
    """The spread of each row. Cost: two comparisons an entry."""
    matrix.ledger.point(2 * matrix.mid.size)
    return np.nextafter(matrix.upper().max(axis=1) - matrix.lower().min(axis=1), np.inf)


def weighted(matrix: Ball, spreads: Float64[np.ndarray, " j"]) -> Float64[np.ndarray, " r"]:
    """``sum_j |X[r,j]| spreads[j]``. Cost: a product of a matrix and a vector."""
    size = np.maximum(np.abs(matrix.lower()), np.abs(matrix.upper()))
    ledger = matrix.ledger
    return (Ball.exact(size, ledger) @ Ball.exact(spreads[:, None], ledger)).upper()[:, 0]


def mean_row(matrix: Ball) -> Ball:
    """A row near the mean, as exact numbers: any row would do. Cost: one an entry."""
    matrix.ledger.point(matrix.mid.size)
    return Ball.exact(matrix.mid.mean(axis=0, keepdims=True), matrix.ledger)


def of_product(left: Ball, right: Ball, *, centred: bool) -> Float64[np.ndarray, " r"]:
    """The law above for ``left right``; ``centred`` subtracts a mean row first."""
    spreads = spread(right)
    if not centred:
        return weighted(left, spreads)
    row = mean_row(left)
    return _sum(spread(row @ right), weighted(left - row, spreads))


def of_chain(factors: list[Ball], *, centred: int) -> Float64[np.ndarray, " r"]:
    """The law above applied again and again, no product of two matrices formed.

    centred: how many of the factors, from the first, have a mean row subtracted.
    Cost: products of matrices and vectors.
    """
    if len(factors) == 1:
        return spread(factors[0])
    first, *rest = factors
    spreads = of_chain(rest, centred=max(0, centred - 1))
    if not centred:
        return weighted(first, spreads)
    row = mean_row(first)
    product = row
    for factor in rest:
        product = product @ factor
    return _sum(spread(product), weighted(first - row, spreads))


def by_norm(left: Ball, right: Ball) -> float:
    """``sqrt(2) sigma_1(left right)``, which bounds the spread of every row.

    ``sigma_1^2`` is the spectral radius of ``N = (left^T left) (right right^T)``, and
    ``rho(N)^(2^j) = rho(N^(2^j)) <= |N^(2^j)|_F`` for any matrix. Cost: products of h x h matrices.
    """
    ledger = left.ledger
    power = (left.T @ left) @ (right @ right.T)
    exponent = 0  # the matrix is power * 2^exponent
    for _ in range(SQUARINGS):
        power, shifted = _scaled(power)
        power = power @ power
        exponent = 2 * (exponent + shifted)
    power, shifted = _scaled(power)
    exponent += shifted
    largest = np.maximum(np.abs(power.lower()), np.abs(power.upper())).reshape(1, -1)
    size = Ball.exact(largest, ledger)
    radius = float((size @ size.T).upper()[0, 0])  # the squared Frobenius norm
    # rho(N) <= (radius 2^(2 exponent))^(1 / 2^(SQUARINGS + 1)); roots of a number and of 2^n apart.
    for _ in range(SQUARINGS + 1):
        radius = float(np.nextafter(np.sqrt(radius), np.inf))
    whole, rest = divmod(2 * exponent, 2 ** (SQUARINGS + 1))
    for bit in range(SQUARINGS + 1):  # 2^(rest / 2^(SQUARINGS + 1)), a root for each binary digit
        if rest >> (SQUARINGS - bit) & 1:
            root = 2.0
            for _ in range(bit + 1):
                root = float(np.nextafter(np.sqrt(root), np.inf))
            radius = float(np.nextafter(radius * root, np.inf))
    ledger.point(4 * SQUARINGS)
    # sqrt(2 rho) with rho = radius 2^whole
    if whole % 2:
        radius, whole = 2 * radius, whole - 1
    root = float(np.nextafter(np.sqrt(float(np.nextafter(2 * radius, np.inf))), np.inf))
    return float(np.nextafter(np.ldexp(root, whole // 2), np.inf))


def _scaled(matrix: Ball) -> tuple[Ball, int]:
    """The matrix divided by a power of two near its largest entry, and that power."""
    largest = float((np.abs(matrix.mid) + matrix.rad).max())
    shift = int(np.frexp(largest)[1]) if largest > 0 else 0
    scale = Ball.exact(np.full((1, 1), np.ldexp(1.0, -shift)), matrix.ledger)
    return matrix * scale, shift


def _sum(
    a: Float64[np.ndarray, "..."], b: Float64[np.ndarray, "..."]
) -> Float64[np.ndarray, "..."]:
    return np.nextafter(a + b, np.inf)
