"""Upper bounds on spectral norms: power iteration estimates them from below, so it is not used.

For a real matrix ``A`` let ``g`` be the smaller of ``A A^T`` and ``A^T A``, ``s x s`` and positive
semidefinite. Its largest eigenvalue is ``||A||^2``, and a power's trace is the sum of the powers of
its eigenvalues, none negative: for every ``q``,

    ||A||^2 <= (trace g^q)^(1/q) <= s^(1/q) ||A||^2.
"""

import numpy as np

from ._enclosure import Ball
from ._errors import EnclosureError

_SQUARINGS = 8
"""``q = 2^8``: at most ``s^(1/512)`` too much, 0.7 % for ``s = 32``."""

_LOST = 2.0**-1000


def spectral_norm_upper(a: Ball) -> float:
    """A number not below the largest ``||x A|| / ||x||`` of any matrix enclosed, ``[r, c]``.

    Between squarings the matrix is scaled by a power of two, which is exact but for entries that
    become subnormal and lose less than ``_LOST``; the exponent is kept apart.
    Cost: ``2 r c min(r, c)`` and eight products of ``min(r, c)`` cubed.
    """
    rows, columns = a.shape
    if not rows or not columns:
        return 0.0
    exponent = 0
    power = a
    for step in range(_SQUARINGS + 1):
        largest = float(np.maximum(np.abs(power.lower()), np.abs(power.upper())).max())
        shift = int(np.frexp(largest)[1]) if largest else 0
        power = Ball(np.ldexp(power.mid, -shift), np.ldexp(power.rad, -shift), a.ledger)
        power = power.widened(np.array(_LOST))
        if step == 0:
            power = power @ power.T if rows <= columns else power.T @ power
        else:
            power = power @ power
        exponent = 2 * (exponent + shift)
    diagonal = np.arange(len(power.mid))
    trace = power[diagonal, diagonal][None].sum(1)
    bound = max(0.0, float(trace.upper()[0]))
    for _ in range(_SQUARINGS + 1):
        if exponent % 2:
            bound, exponent = 2.0 * bound, exponent - 1
        bound, exponent = root_upper(bound), exponent // 2
    if exponent > 1000 or bound > 2.0**20:
        raise EnclosureError(
            "a spectral norm left the range of float64; rescale the model's weights"
        )
    return float(np.ldexp(bound, max(exponent, -400)))


def root_upper(square: float) -> float:
    """A float64 number not below the square root of a number from 0 to ``2^1000``."""
    root = float(np.sqrt(square)) * (1.0 + 2.0**-50) + 2.0**-500
    # The root is only a guess: its square, rounded down, must reach.
    if not root * root * (1.0 - 2.0**-50) >= square:
        raise EnclosureError("the square root failed on this machine")
    return root
