"""Products of a weight and a bracket as float64 numbers, rounded outward.

Prefix maxima over tokens compare products whose weights differ by tens of nats: integers in one
unit would lose the small ones. A float64 number keeps 53 bits of each. Elementwise conversion,
neighbouring float and scaling by a power of two are exact or rounded once, the same on every
machine; sums go back to integers in the unit of a class.

Numbers of one query are relative to ``2^(top - grid)`` with ``top`` its largest weight exponent.
"""

import numpy as np
from jaxtyping import Float64, Int64

from ._ledger import Counted

DEEPEST = -900
"""Scaling stops here, outward: products below ``2^62`` stay normal float64 numbers. A unit in which
such numbers are counted must be as far above this as above any exponent, or they would overflow."""


def scaled_up(
    product: Int64[np.ndarray, "..."], by: Int64[np.ndarray, "..."]
) -> Float64[np.ndarray, "..."]:
    """Float64 numbers ``>= product 2^by`` for ``|product| <= 2^62`` and ``by <= 0``."""
    ledger = product.ledger if isinstance(product, Counted) else None
    above = np.nextafter(np.asarray(product).astype(np.float64), np.inf)
    if ledger is not None:
        ledger.point(2 * above.size)
    # A negative number scaled less than asked would be too low: 0 is above it.
    above = np.where((by < DEEPEST) & (above < 0), 0.0, above)
    result = np.ldexp(above, np.asarray(np.maximum(by, DEEPEST)))
    return result if ledger is None else Counted.of_floats(result, ledger)


def scaled_down(
    product: Int64[np.ndarray, "..."], by: Int64[np.ndarray, "..."]
) -> Float64[np.ndarray, "..."]:
    """Float64 numbers ``<= product 2^by``; see ``scaled_up``."""
    return -scaled_up(-product, by)


def in_units_up(number: Float64[np.ndarray, "..."], unit: int) -> Int64[np.ndarray, "..."]:
    """``ceil(number 2^-unit)``, for results below 2^62; a number below 2^-1074 units counts as 0.

    Sums of fewer than 2^1000 such numbers are compared with 0 as whole numbers of units: what a
    number this small could add decides nothing.
    """
    return _integers(np.ceil(np.ldexp(number, -unit)))


def in_units_down(number: Float64[np.ndarray, "..."], unit: int) -> Int64[np.ndarray, "..."]:
    """``floor(number 2^-unit)``, for results below 2^62."""
    return _integers(np.floor(np.ldexp(number, -unit)))


def _integers(whole: Float64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
    ledger = whole.ledger if isinstance(whole, Counted) else None
    exact = np.asarray(whole).astype(np.int64)
    return exact if ledger is None else Counted.of(exact, ledger)
