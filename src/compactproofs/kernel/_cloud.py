"""Clouds: the residuals of many sequences, each known but for errors that all of them share.

A ``Cloud`` says of the residual ``u`` of sequence ``e`` that, for some numbers ``|eps_k| <= 1`` and
some vector ``b`` with ``||b|| <= radius[e]``,

    u = center[e] + sum_k eps_k spread[k] + b.

The spread is the same for all sequences of a cell; ``eps`` and ``b`` are any, for each sequence.
One that is known exactly has no spread and radius 0. Two steps carry clouds through a layer, at the
last position: an MLP in lines, and attention to earlier positions that are known exactly.

**MLP.** Let every ``z_n = u W_in[:,n] + b_in[n]`` of the cell lie in ``low_n .. high_n``. With a
slope ``0 <= s_n <= 1`` and ``t_n = max(-s low, (1 - s) high, 0)`` the error ``relu(z) - s z`` is
convex, 0 at 0, and so between 0 and ``t_n`` on the range (0 exactly for neurons that are on, with
``s = 1``, or off, with ``s = 0``). Hence, with ``A = I + W_in diag(s) W_out`` and ``h = t / 2``,

    u + relu(z) W_out + b_out = u A + (s b_in + h) W_out + b_out + sum_n eps_n h_n W_out[n],

new ``eps``: the spread becomes that times ``A``, and a row more for each neuron that is neither on
nor off; the radius times ``||A||``.

**Attention**, one head. Position ``i`` has the score ``s_i = u~ M w~_i^T``, ``r~ = (r, 1)``, with
``w_i`` exact for the earlier ones and ``w = u`` for its own, ``o``. Let ``u = c + e``. Then
``s_i(u) = s_i(c) + e . l_i + q_i``, where ``l_i = (M w~_i^T)[:d]`` and ``q_i = 0`` for earlier
ones, ``l_o = (M c~^T + M^T c~^T)[:d]`` and ``q_o = e M e^T``, for which, with ``g_k`` the spread,

    |q_o| <= Q = sum_kj |g_k M g_j^T| + radius sum_k ||g_k (M + M^T)|| + radius^2 ||M||.

Let ``a`` be the weights at ``c``, ``v_i`` the values at ``c``, ``v* = sum a_i v_i``,
``tau_i = e . (l_i - sum_j a_j l_j) + q_i``: what scores change by, less what all share, so that the
weights at ``u`` are ``a_i exp(tau_i) / Z``, ``Z = sum a_i exp(tau_i)``. Let ``|tau_i| <= sigma_i``,
``xi_i = exp(sigma_i) - 1``, ``rho_i = xi_i - sigma_i``: so ``|exp(tau_i) - 1| <= xi_i`` and
``0 <= exp(tau_i) - 1 - tau_i <= rho_i``. As ``sum a_i tau_i = a_o q_o``,
``|Z - 1| <= zeta = a_o Q + sum a_i rho_i`` and ``Z >= 1 - a_o Q``. With ``y = e W_V W_O`` the error
of its own value, of size at most ``Y = sum_k ||g_k W_V W_O|| + radius ||W_V W_O||``, the output is

    v* + (1/Z) sum_i a_i exp(tau_i) (v_i - v* + [i=o] y)  =  v* + a_o y + error,
    ||error|| <= (sum_i a_i xi_i ||v_i - v*|| + a_o xi_o Y + a_o Y zeta) / (1 - a_o Q),

for ``sum a_i (v_i - v*) = 0`` and ``|1/Z - 1| <= zeta / (1 - a_o Q)``. Refused if ``a_o Q`` may
reach 1. Last, ``a_o y = a* y + (a_o - a*) y`` with one number ``a*`` for the cell, so the spread is
multiplied by ``I + sum_heads a* W_V W_O``, and the radius takes up the rest.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from ._enclosure import Ball, exp_ball, norm_upper
from ._errors import KernelDefectError
from ._network import softmax
from ._norms import spectral_norm_upper
from ._shared_prefix import Circuits, Keys, side_by_side, with_one
from ._transformer import Block


class Cloud(NamedTuple):
    """See the top of this file."""

    center: Ball
    """``[n, d]``"""
    spread: Ball | None
    """``[g, d]``; None if there is none."""
    radius: Float64[np.ndarray, " n"] | None
    """None for 0."""

    def read(self, weight: Ball, bias: Ball) -> Ball:
        """``u weight + bias``, ``[n, e]``, for ``weight [d, e]``: all values that it can have."""
        known = self.center @ weight + bias
        if self.spread is not None:
            known = known.widened((self.spread @ weight).absolute().sum(0).upper())
        if self.radius is not None:
            norms = Ball.exact(norm_upper(weight, axis=0), known.ledger)
            known = known.widened((Ball.exact(self.radius[:, None], known.ledger) * norms).upper())
        return known


def through_lines(block: Block, cloud: Cloud, z: Ball) -> Cloud:
    """The residuals after an MLP, each neuron replaced by a line and an error.

    z: ``[n, m]``, all that can reach the neurons. Cost: ``2 d^2 (m + n + g)`` for ``n`` sequences
    and ``g`` generators.
    """
    ledger = cloud.center.ledger

    def exact(values: Float64[np.ndarray, "..."]) -> Ball:
        return Ball.exact(values, ledger)

    if not block.d_mlp:
        return cloud._replace(center=cloud.center + exact(block.b_out))
    W_in, W_out = exact(block.W_in), exact(block.W_out)
    low, high = z.lower().min(axis=0), z.upper().max(axis=0)
    undecided = (low < 0) & (high > 0)
    span = np.where(undecided, high - low, 1.0)
    s = np.where(undecided, np.clip(high / span, 0.0, 1.0), np.where(low >= 0, 1.0, 0.0))
    at_low = (exact(s) * exact(-low)).upper()
    at_high = ((exact(np.ones_like(s)) - exact(s)) * exact(high)).upper()
    t = np.where(undecided, np.maximum(np.maximum(at_low, at_high), 0.0), 0.0)
    ledger.point(6 * s.size)
    half = exact(t) * exact(np.full_like(t, 0.5))
    straight = exact(s)[:, None] * W_out
    A = exact(np.eye(len(block.b_out))) + W_in @ straight
    shift = (exact(s) * exact(block.b_in) + half)[None] @ W_out + exact(block.b_out)
    rows = np.flatnonzero(undecided) if undecided.any() else np.arange(1)  # of zeros, then
    own = half[rows][:, None] * W_out[rows]
    spread = own if cloud.spread is None else _stacked(cloud.spread @ A, own)
    radius = cloud.radius
    if radius is not None:
        radius = (exact(radius) * exact(np.array(spectral_norm_upper(A)))).upper()
    return Cloud(cloud.center @ A + shift, spread, radius)


def through_attention(
    block: Block,
    circuits: Circuits,
    cloud: Cloud,
    earlier: list[tuple[Keys, Int64[np.ndarray, " n"]]],
) -> Cloud:
    """The residuals after attention to itself and to ``earlier`` positions, known exactly.

    Cost, for each head: ``O(k d + d^2 + (d + k) g)`` for each sequence and ``2 d g`` for each row
    of the earlier positions that is read, ``g`` generators.
    """
    spread, ledger = cloud.spread, cloud.center.ledger
    if spread is None:
        raise KernelDefectError("a residual that is known exactly was treated as a cloud")
    one = Ball.exact(np.array(1.0), ledger)
    own = circuits.keys(cloud.center)
    center = cloud.center + Ball.exact(block.b_O, ledger)
    turned = Ball.exact(np.eye(block.b_O.size), ledger)
    radius = None if cloud.radius is None else Ball.exact(cloud.radius, ledger)
    grown = Ball.exact(np.zeros(len(center.mid)), ledger) if radius is None else radius
    for head, (M, VO) in enumerate(zip(circuits.score, circuits.value, strict=True)):
        values = [keys.value[head][row] for keys, row in earlier] + [own.value[head]]
        a, sigma, Q = _scores(cloud, spread, M, head, earlier, own)
        xi = exp_ball(sigma) - one
        value = side_by_side(values)
        mean = (a[:, :, None] * value).sum(1)
        away = Ball.exact(norm_upper(value - mean[:, None]), ledger)
        Y_spread = Ball.exact(norm_upper(spread @ VO)[None], ledger).sum(1)
        Y, a_own = Y_spread, a[:, -1]
        if radius is not None:
            Y_ball = radius * Ball.exact(np.array(spectral_norm_upper(VO)), ledger)
            Y, grown = Y + Y_ball, grown + a_own * Y_ball
        zeta = a_own * Q + (a * (xi - sigma)).sum(1)
        error = (a * xi * away).sum(1) + a_own * Y * (xi[:, -1] + zeta)
        middle = Ball.exact(np.array(0.5 * (a_own.mid.min() + a_own.mid.max())), ledger)
        grown = grown + error * (one - a_own * Q).reciprocal()
        grown = grown + (a_own - middle).absolute() * Y_spread
        turned = turned + VO * middle
        center = center + mean
    return Cloud(center, spread @ turned, grown.upper())


def _scores(
    cloud: Cloud,
    spread: Ball,
    M: Ball,
    head: int,
    earlier: list[tuple[Keys, Int64[np.ndarray, " n"]]],
    own: Keys,
) -> tuple[Ball, Ball, Ball]:
    """Weights ``a [n, k]`` at the centre, bounds ``sigma [n, k]``, and ``Q`` (``[n]`` or ``[1]``).

    The last position is the query's own.
    """
    ledger = spread.ledger
    d = spread.shape[1]
    augmented = with_one(cloud.center)
    keys = [keys.score[head][row] for keys, row in earlier] + [own.score[head]]
    score = side_by_side([(augmented * key).sum(1) for key in keys])
    a = softmax(score[:, None], np.ones((1, len(keys)), dtype=bool))[:, 0]
    both = M[:, :d] + M.T[:, :d]
    moved = [_rows(keys.score[head], row, spread.T) for keys, row in earlier]
    moved.append(augmented @ (both @ spread.T))
    sigma = _apart(a, side_by_side(moved)).absolute().sum(2)
    pairs = spread @ M[:d, :d] @ spread.T
    # eps_k eps_j occurs twice, as (k, j) and as (j, k).
    twice = (pairs + pairs.T).absolute().reshape(1, pairs.mid.size).sum(1)
    Q = twice * Ball.exact(np.array([0.5]), ledger)
    if cloud.radius is not None:
        radius = Ball.exact(cloud.radius, ledger)
        lines = side_by_side([key[:, :d] for key in keys[:-1]] + [augmented @ both])
        apart = Ball.exact(norm_upper(_apart(a, lines)), ledger)
        sigma = sigma + radius[:, None] * apart
        mixed = Ball.exact(norm_upper(spread @ both[:d])[None], ledger).sum(1)
        norm = Ball.exact(np.array(spectral_norm_upper(M[:d, :d])), ledger)
        Q = Q + radius * (mixed + radius * norm)
    is_own = np.zeros(len(keys))
    is_own[-1] = 1.0
    at_own = Q.reshape(Q.mid.size, 1) * Ball.exact(is_own[None], ledger)
    return a, Ball.exact((sigma + at_own).upper(), ledger), Q


def _apart(a: Ball, lines: Ball) -> Ball:
    """What ``[n, k, e]`` numbers of each position differ from their mean in the weights ``a``."""
    return lines - (a[:, :, None] * lines).sum(1)[:, None]


def _rows(keys: Ball, row: Int64[np.ndarray, " n"], weight: Ball) -> Ball:
    """``keys[row, :d] weight``: each row that occurs is multiplied once."""
    used, which = np.unique(row, return_inverse=True)
    return (keys[used][:, : weight.shape[0]] @ weight)[which.reshape(-1)]


def _stacked(a: Ball, b: Ball) -> Ball:
    return Ball(np.concatenate([a.mid, b.mid]), np.concatenate([a.rad, b.rad]), a.ledger)
