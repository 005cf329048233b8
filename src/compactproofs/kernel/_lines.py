"""One linear bound of every margin for a whole cell: the last MLP in straight lines.

Take sequences of one label ``y`` whose neurons all satisfy ``low_n <= z_n <= high_n``, and any
output ``x``. With ``c = W_U[:,y] - W_U[:,x]`` and ``a = W_out c``,

    logit(y) - logit(x) = mid c + sum_n a_n relu(z_n) + b_out c + b_U[y] - b_U[x].

**Lines.** For any slope ``0 <= s <= 1`` the error ``e(z) = relu(z) - s z - t`` is convex in ``z``:

* ``t = 0`` gives ``e >= 0`` for every ``z``, and ``e <= E = max(|low|, |high|)`` on the range;
* ``t = max(-s low, (1 - s) high, 0)`` gives ``e <= 0`` on the range, by convexity (at both ends,
  and at 0), and ``e >= -E`` with ``E = t + max(|low|, |high|)``.

Take the first kind where ``a_n`` looks positive, the second where it looks negative. Whatever the
sign is, ``a_n relu(z_n) >= a_n (s z_n + t) - max(0, -a_n) E`` for the first kind, and with
``max(0, a_n) E`` for the second: a wrong guess, possible when ``a_n`` is within rounding of 0,
costs ``|a_n| E`` and no soundness. A neuron that is on (``low >= 0``) has ``s = 1``, one that is
off has ``s = 0``, both with ``e = 0``. Else ``s = high / (high - low)`` for the second kind, which
is the chord, and for the first 1 if ``high > -low``, else 0. Collected, with
``z = mid W_in + b_in``,

    logit(y) - logit(x) >= mid C + B,    C = c + W_in (a s),
    B = sum_n (a_n (s_n b_in[n] + t_n) - slip_n) + b_out c + b_U[y] - b_U[x].

``mid C + B`` is a number for each sequence; ``C`` and ``B`` are computed once for the cell.
This is Theorem C of docs/theory.md section 7 for exact residuals. Cost: ``4 d m x``.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from ._cloud import Cloud
from ._enclosure import Ball
from ._transformer import Transformer


class MarginLines(NamedTuple):
    """Bounds of the margins of one label against all outputs, itself included."""

    slope: Ball
    """C ``[d, x]``"""
    start: Ball
    """B ``[x]``"""

    def bounds(self, mid: Cloud) -> Float64[np.ndarray, "n x"]:
        """Numbers not above ``logit(y) - logit(x)`` of residuals of ``n`` sequences."""
        return mid.read(self.slope, self.start).lower()


def margin_lines(
    net: Transformer,
    label: int,
    low: Float64[np.ndarray, " m"],
    high: Float64[np.ndarray, " m"],
    like: Ball,
) -> MarginLines:
    """The lines of a cell of one label whose neurons stay within ``low .. high``.

    like: any ball of the ledger that the work is entered into.
    """

    def exact(values: Float64[np.ndarray, "..."]) -> Ball:
        return Ball.exact(values, like.ledger)

    block, unembed, b_U = net.blocks[-1], exact(net.W_U), exact(net.b_U)
    c = unembed[:, label, None] - unembed
    start = (exact(block.b_out[None]) @ c)[0] + (b_U[label, None] - b_U)
    if not block.d_mlp:
        return MarginLines(c, start)
    a = exact(block.W_out) @ c
    on, off = (low >= 0)[:, None], (high <= 0)[:, None]
    undecided = ~on & ~off
    negative = (a.mid < 0) & undecided
    span = np.where(undecided[:, 0], high - low, 1.0)
    chord = np.clip(np.where(undecided[:, 0], high, 0.0) / span, 0.0, 1.0)[:, None]
    flat = np.where((high > -low)[:, None], 1.0, 0.0)
    s = np.where(on, 1.0, np.where(off, 0.0, np.where(negative, chord, flat)))
    one = exact(np.ones(s.shape))
    at_low = (exact(s) * exact(-low[:, None])).upper()
    at_high = ((one - exact(s)) * exact(high[:, None])).upper()
    t = np.where(negative, np.maximum(np.maximum(at_low, at_high), 0.0), 0.0)
    most = (exact(t) + exact(np.maximum(np.abs(low), np.abs(high))[:, None])).upper()
    wrong_side = np.where(negative, np.maximum(a.upper(), 0.0), np.maximum(-a.lower(), 0.0))
    slip = exact(wrong_side) * exact(np.where(undecided, most, 0.0))
    like.ledger.point(8 * s.size)
    scaled = a * exact(s)
    start = start + (scaled * exact(block.b_in[:, None]) + a * exact(t) - slip).sum(0)
    return MarginLines(c + exact(block.W_in) @ scaled, start)
