"""Midpoint-radius float64 arrays: what a number means, and which way it is rounded.

A ``Ball`` entry with midpoint ``c`` and radius ``r`` stands for *some* real number in
``[c - r, c + r]``. Every operation returns a ball that contains the exact result for every choice
of reals in its operands. Nothing here trusts the C library's exp, a rounding mode, an order of
summation or the absence of fused multiply-add; results that overflow are refused.

Notation: ``u2 = 2^-52`` bounds the relative error of one float64 operation in any rounding mode,
``rho = 2^-1022`` its absolute error when the result (or, in a BLAS thread, an operand) is
subnormal and may be flushed to zero. Sources: docs/theory.md section 1; S. M. Rump, "Fast
interval matrix multiplication", Numer. Algor. 61 (2012); N. Higham, "Accuracy and Stability of
Numerical Algorithms", section 3.
"""

from fractions import Fraction
from math import factorial
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ._errors import EnclosureError
from ._ledger import Ledger

_U2 = 2.0**-52
_RHO = 2.0**-1022
_MAX_INNER = 1 << 20  # inner length up to which the a-priori radius of a product is proved


def _finite(values: Float64[np.ndarray, "..."], what: str) -> Float64[np.ndarray, "..."]:
    if not np.isfinite(values).all():
        raise EnclosureError(
            f"{what} left the range of float64 (about 1.8e308); rescale the model's weights"
        )
    return values


def _outward(radius: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Make up for the rounding of a non-negative radius that took at most 8 operations.

    Each lost at most a factor ``1 - u2`` and ``rho``: ``(1 + 16 u2)(1 - u2)^10 >= 1``, and
    ``8 rho <= 2^-1018``. The sum of the two is never subnormal.
    """
    return radius * (1.0 + 16.0 * _U2) + 2.0**-1018


@final
class Ball:
    """An array of real numbers, each known to lie in ``[mid - rad, mid + rad]``."""

    __slots__ = ("ledger", "mid", "rad")

    def __init__(
        self,
        mid: Float64[np.ndarray, "*shape"],
        rad: Float64[np.ndarray, "*shape"],
        ledger: Ledger,
    ) -> None:
        """Refuse non-finite numbers and negative radii; widen subnormals to normal numbers.

        A subnormal operand is what a flush-to-zero thread would read as 0, and a radius of 0 is
        kept: so every nonzero number that enters an operation is a normal one.
        """
        _finite(mid, "a midpoint")
        _finite(rad, "a radius")
        if (rad < 0).any():
            raise EnclosureError("a radius is negative: the enclosure would be empty")
        small = (np.abs(mid) < _RHO) & (mid != 0)
        if small.any():
            mid = np.where(small, 0.0, mid)
            rad = np.where(small, (rad + _RHO) * (1.0 + 4 * _U2), rad)
        self.mid = mid
        self.rad = np.where((rad > 0) & (rad < _RHO), _RHO, rad)
        self.ledger = ledger

    @classmethod
    def exact(cls, values: Float64[np.ndarray, "..."], ledger: Ledger) -> "Ball":
        """The numbers themselves: radius 0 (subnormal numbers get a radius, see ``__init__``)."""
        return cls(values, np.zeros_like(values), ledger)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.mid.shape

    def __getitem__(self, index: object) -> "Ball":
        """Index, slice or insert axes; free."""
        return Ball(np.asarray(self.mid[index]), np.asarray(self.rad[index]), self.ledger)  # type: ignore[index]

    @property
    def T(self) -> "Ball":
        """Transpose; free."""
        return Ball(self.mid.T, self.rad.T, self.ledger)

    def reshape(self, *shape: int) -> "Ball":
        """The same numbers in another shape; free."""
        return Ball(self.mid.reshape(shape), self.rad.reshape(shape), self.ledger)

    def absolute(self) -> "Ball":
        """``| |a| - |a'| | <= |a - a'|``: sizes, with the same radii."""
        self.ledger.point(self.mid.size)
        return Ball(np.abs(self.mid), self.rad, self.ledger)

    def widened(self, by: Float64[np.ndarray, "..."]) -> "Ball":
        """Every number within ``by >= 0`` of a number enclosed here, broadcasting."""
        self.ledger.radius(2 * self.mid.size)
        with np.errstate(over="ignore"):
            return Ball(self.mid, _outward(self.rad + by), self.ledger)

    def _elementwise(
        self, mid: Float64[np.ndarray, "..."], carried: Float64[np.ndarray, "..."], operations: int
    ) -> "Ball":
        # One rounded operation made `mid`; `carried` is what the operands' radii contribute.
        self.ledger.point(mid.size)
        self.ledger.radius(mid.size * (operations + 6))
        mid = _finite(mid, "an intermediate result")
        return Ball(mid, _outward(carried + np.abs(mid) * _U2), self.ledger)

    def __add__(self, other: "Ball") -> "Ball":
        """Elementwise sum, broadcasting."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._elementwise(self.mid + other.mid, self.rad + other.rad, 1)

    def __sub__(self, other: "Ball") -> "Ball":
        """Elementwise difference, broadcasting."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._elementwise(self.mid - other.mid, self.rad + other.rad, 1)

    def __mul__(self, other: "Ball") -> "Ball":
        """Elementwise product, broadcasting.

        ``|ab - a'b'| <= |a| rb + ra (|b| + rb)`` for all ``a', b'`` in the operands.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            carried = np.abs(self.mid) * other.rad + self.rad * (np.abs(other.mid) + other.rad)
            return self._elementwise(self.mid * other.mid, carried, 4)

    def __matmul__(self, other: "Ball") -> "Ball":
        """Matrix product of two-dimensional balls, for any order of summation, fused or not.

        With ``n`` the inner length, ``S = fl(|A||B|)`` and ``T = fl(|A| Rb + Ra (|B| + Rb))``:

            |AB - A'B'| <= ((n+4) u2 S + T) (1 + (2n+16) u2) + 8 n rho        for n <= 2^20.

        A product meets at most ``n`` roundings on its way to the sum, each a factor within
        ``1 +- u2`` in any rounding mode; the doubled unit absorbs the roundings of the radius.
        Underflow loses at most ``rho`` per operation and is not amplified, because every nonzero
        operand is a normal number. Cost: ``a c (2n - 1)``; radius three more products.
        """
        (rows, inner), (also_inner, columns) = self.shape, other.shape
        if inner != also_inner or inner > _MAX_INNER:
            raise EnclosureError(
                f"cannot multiply shapes {self.shape} and {other.shape}: inner lengths must be "
                f"equal and at most {_MAX_INNER}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            a, b = np.abs(self.mid), np.abs(other.mid)
            mid = _finite(self.mid @ other.mid, "a matrix product")
            spread = ((inner + 4) * _U2) * (a @ b)
            if self.rad.any() or other.rad.any():
                spread = spread + (a @ other.rad + self.rad @ (b + other.rad))
            rad = spread * (1.0 + (2 * inner + 16) * _U2) + 8 * inner * _RHO
        one_product = rows * columns * (2 * inner - 1)
        self.ledger.point(one_product)
        self.ledger.radius(3 * one_product + 6 * rows * columns)
        return Ball(mid, _outward(rad), self.ledger)

    def sum(self, axis: int) -> "Ball":
        """Sum along ``axis``, in any order: each number meets at most ``n`` roundings.

        With ``S = fl(sum |a|)`` and ``T = fl(sum Ra)``, for ``n <= 2^20`` numbers:

            |sum a - sum a'| <= (n u2 S + T) (1 + (2n+16) u2) + n rho.
        """
        n = self.mid.shape[axis]
        if n > _MAX_INNER:
            raise EnclosureError(f"cannot add up {n} numbers: at most {_MAX_INNER}")
        with np.errstate(over="ignore", invalid="ignore"):
            mid = _finite(np.asarray(self.mid.sum(axis)), "a sum")
            spread = np.abs(self.mid).sum(axis) * (n * _U2) + self.rad.sum(axis)
            rad = np.asarray(spread * (1.0 + (2 * n + 16) * _U2) + n * _RHO)
        self.ledger.point(self.mid.size - mid.size)
        self.ledger.radius(2 * self.mid.size + 3 * mid.size)
        return Ball(mid, _outward(rad), self.ledger)

    def relu(self) -> "Ball":
        """``|max(a, 0) - max(a', 0)| <= |a - a'|``: the larger of each number and 0."""
        self.ledger.point(self.mid.size)
        return Ball(np.maximum(self.mid, 0.0), self.rad, self.ledger)

    def reciprocal(self) -> "Ball":
        """``1 / a`` for numbers that are certainly positive; refuses others."""
        low, high = self.lower(), self.upper()
        if not (low >= _RHO).all():
            raise EnclosureError("division by a number that may be zero or negative")
        # One rounding of each end errs by at most u2 of it, and rho where it is subnormal.
        with np.errstate(over="ignore"):
            below = np.maximum((1.0 / high) * (1.0 - 4 * _U2) - 2 * _RHO, 0.0)
            above = _finite((1.0 / low) * (1.0 + 4 * _U2) + 2 * _RHO, "a reciprocal")
        self.ledger.radius(4 * low.size)
        self.ledger.point(low.size)
        return self._between(below, above)

    def lower(self) -> Float64[np.ndarray, "..."]:
        """Float64 numbers certainly not above the reals enclosed.

        The difference and the step each err by at most ``u2`` of a result that may have crossed a
        power of two: 3 units of the last place in all, and the step is 4 (and ``2 rho``).
        """
        with np.errstate(over="ignore"):
            end = self.mid - self.rad
            end = end - (np.abs(end) * (2 * _U2) + 2 * _RHO)
        self.ledger.radius(4 * end.size)
        return np.where(self.rad == 0, self.mid, _finite(end, "a lower end"))

    def upper(self) -> Float64[np.ndarray, "..."]:
        """Float64 numbers certainly not below the reals enclosed; see ``lower``."""
        with np.errstate(over="ignore"):
            end = self.mid + self.rad
            end = end + (np.abs(end) * (2 * _U2) + 2 * _RHO)
        self.ledger.radius(4 * end.size)
        return np.where(self.rad == 0, self.mid, _finite(end, "an upper end"))

    def max(self, axis: int) -> "Ball":
        """Encloses the maximum along ``axis``: the maxima of the lower and of the upper ends."""
        return self._between(np.asarray(self.lower().max(axis)), np.asarray(self.upper().max(axis)))

    def min(self, axis: int) -> "Ball":
        """Encloses the minimum along ``axis``: the minima of the lower and of the upper ends."""
        return self._between(np.asarray(self.lower().min(axis)), np.asarray(self.upper().min(axis)))

    def _between(self, low: Float64[np.ndarray, "..."], high: Float64[np.ndarray, "..."]) -> "Ball":
        self.ledger.point(self.mid.size - low.size)
        self.ledger.radius(self.mid.size + 2 * low.size)
        return Ball.between(low, high, self.ledger)

    @classmethod
    def between(
        cls, low: Float64[np.ndarray, "*shape"], high: Float64[np.ndarray, "*shape"], ledger: Ledger
    ) -> "Ball":
        """Every number from ``low`` to ``high``; free, as the ends were computed already."""
        with np.errstate(over="ignore", invalid="ignore"):
            mid = low + 0.5 * (high - low)
        # low <= mid <= high may fail by a rounding; take the radius to the farther end.
        return cls(mid, _outward(np.maximum(high - mid, mid - low)), ledger)

    def certainly_less(self, other: "Ball") -> Bool[np.ndarray, "..."]:
        """True where every real enclosed here is less than every real enclosed in ``other``."""
        return self.upper() < other.lower()


class ExpBounds(NamedTuple):
    """``lower 2^lower_exponent <= exp(x) <= upper 2^upper_exponent``, elementwise.

    Mantissas lie in ``[0.5, 2)``; a lower mantissa of 0 says that the lower bound is 0.
    """

    lower: Float64[np.ndarray, "*shape"]
    lower_exponent: Int64[np.ndarray, "*shape"]
    upper: Float64[np.ndarray, "*shape"]
    upper_exponent: Int64[np.ndarray, "*shape"]


EXP_LIMIT = 1e6
"""Arguments of ``exp_bounds`` are at most this many nats above 0; further below is [0, tiny]."""

_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # ln 2 rounded down to 32 bits
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")  # ln 2 - _LN2_HIGH, within 2^-86
_TAYLOR = [float(Fraction(1, factorial(i))) for i in range(14)]  # each rounded correctly
_EXP_ERROR = 2.0**-46


def _exp_point(
    x: Float64[np.ndarray, "*shape"],
) -> tuple[Float64[np.ndarray, "*shape"], Int64[np.ndarray, "*shape"]]:
    """``p, n`` with ``exp(x) = p (1 + d) 2^n``, ``|d| <= 2^-46``, for ``|x| <= EXP_LIMIT``.

    ``n = rint(x / ln 2)``, ``r = (x - n LN2_HIGH) - n LN2_LOW``: whichever integer ``n`` comes
    out, ``exp(x) = 2^n exp(x - n ln 2)`` exactly. ``|n| < 2^21`` and ``LN2_HIGH`` has 32 bits, so
    ``n LN2_HIGH`` is exact, and so is the first difference (for ``n != 0`` both numbers are
    multiples of ``2^-54`` and they differ by less than 1/2). What is left is
    ``|r - (x - n ln 2)| <= u2 2^-11 + u2 + |n| 2^-86 < 2 u2``. The Taylor polynomial of degree 13
    truncates at ``e^0.35 0.35^14 / 14! < 2^-57``; Horner's rule with 13 steps on ``|r| <= 0.35``
    and rounded coefficients errs by less than ``8 u2``. Together below ``2^-48`` of a value above
    0.7; ``2^-46`` is declared.
    """
    n = np.rint(x * 1.4426950408889634)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    if not (np.abs(r) <= 0.35).all():
        raise EnclosureError("the argument reduction of exp failed on this machine")
    p = np.full_like(r, _TAYLOR[13])
    for coefficient in reversed(_TAYLOR[:13]):
        p = p * r + coefficient
    return p, n.astype(np.int64)


def exp_bounds(x: Ball) -> ExpBounds:
    """Enclose ``exp`` of every entry as mantissa and exponent; no underflow, no libm.

    Arguments below ``-EXP_LIMIT`` are bounded by ``[0, exp(-EXP_LIMIT)]``. Arguments above
    ``EXP_LIMIT`` are refused: divide out a common factor first. Cost: one per entry; radius 60.
    """
    low, high = x.lower(), x.upper()
    if (high > EXP_LIMIT).any():
        raise EnclosureError(
            f"exp of up to {high.max():.3g} nats: shift the scores so that none exceeds {EXP_LIMIT}"
        )
    x.ledger.point(low.size)
    x.ledger.radius(60 * low.size)
    lower, lower_exponent = _exp_point(np.maximum(low, -EXP_LIMIT))
    upper, upper_exponent = _exp_point(np.maximum(high, -EXP_LIMIT))
    return ExpBounds(
        np.where(low < -EXP_LIMIT, 0.0, lower * (1.0 - 2 * _EXP_ERROR)),
        lower_exponent,
        upper * (1.0 + 2 * _EXP_ERROR),
        upper_exponent,
    )


def exp_ball(x: Ball) -> Ball:
    """``exp`` of numbers of at most 700 nats as a ball; far below 0 it is [0, tiny]."""
    bounds = exp_bounds(x)
    if (bounds.upper_exponent > 1010).any():
        raise EnclosureError(f"exp of up to {x.mid.max():.3g} nats leaves float64: shift it")
    # Down to 2^-900 scaling by a power of two is exact.
    low = np.where(
        bounds.lower_exponent < -900,
        0.0,
        np.ldexp(bounds.lower, np.maximum(bounds.lower_exponent, -900)),
    )
    high = np.ldexp(bounds.upper, np.maximum(bounds.upper_exponent, -900))
    return Ball.between(low, high, x.ledger)


def norm_upper(x: Ball, axis: int = -1) -> Float64[np.ndarray, "..."]:
    """Numbers not below the Euclidean norm along ``axis`` of any reals enclosed."""
    n = x.shape[axis]
    sizes = np.maximum(np.abs(x.lower()), np.abs(x.upper()))
    with np.errstate(over="ignore"):
        squares = _finite(np.asarray((sizes * sizes).sum(axis)), "a squared norm")
        squares = squares * (1.0 + (2 * n + 16) * _U2) + 2.0**-1000
        norm = np.sqrt(squares) * (1.0 + 8 * _U2)
    # The root is only a guess: its square, rounded down, must reach.
    if not (norm * norm * (1.0 - 2 * _U2) >= squares).all():
        raise EnclosureError("the square root failed on this machine")
    x.ledger.point(2 * x.mid.size)
    x.ledger.radius(3 * x.mid.size + 6 * squares.size)
    return norm


def reciprocal_sqrt(square: Fraction, ledger: Ledger) -> Ball:
    """Enclose ``1 / sqrt(square)`` for an exact positive rational, as a ball of shape ().

    The float is only a guess; exact rational arithmetic proves that it is within the radius.
    """
    try:
        guess = 1.0 / float(square) ** 0.5
    except ArithmeticError:  # too large, or zero
        guess = 0.0
    radius = guess * 2.0**-50
    low, high = Fraction(guess) - Fraction(radius), Fraction(guess) + Fraction(radius)
    if not (0 < low and low * low * square <= 1 <= high * high * square):
        raise EnclosureError(f"cannot enclose 1/sqrt({square}) in float64: it is too extreme")
    ledger.point(2)
    return Ball(np.array(guess), np.array(radius), ledger)


def check_subnormals() -> None:
    """Refuse a thread that takes subnormal numbers for 0: it compares them wrongly, too.

    A library may switch that on at any time. Cost: microseconds.
    """
    tiny = np.array([2.0**-1074])
    if not (tiny * 2.0**60 == 2.0**-1014).all() or not (np.array([_RHO]) * 0.5 != 0).all():
        raise EnclosureError(
            "this process flushes subnormal numbers to zero (a library built with -ffast-math "
            "does that): prove and check in a process without it"
        )


def check_arithmetic() -> None:
    """Refuse a machine whose float64 arithmetic is not what the error bounds assume.

    Some libraries switch the whole process to flush-to-zero or denormals-are-zero, and some
    back ends multiply matrices in reduced precision; both would break the enclosures silently.
    """
    check_subnormals()
    # Every partial sum of these products is an integer below 2^53: exact in any order.
    a = np.full((160, 160), float(2**22 + 1))
    if not ((a @ a) == 160.0 * (2**22 + 1) ** 2).all():
        raise EnclosureError("matrix products here are not float64: switch reduced precision off")
