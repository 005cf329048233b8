"""Norm balls through a layer: how far the true residuals can be from the coded ones.

For each position ``j`` let the true residual be ``u_j = c_j + e_j`` with ``||e_j|| <= r_j``, where
``c`` is what the code says. A step bounds how far ``F(u)`` is from ``F(c)``; nothing else is known
of ``e``.

**Attention**, for each head. At query ``i`` the score of ``j`` is
``(u_i W_Q + b_Q) . (u_j W_K + b_K)`` over the root of the divisor. Let ``K_j`` be the vector by
which ``u_i`` is multiplied in it when key ``j`` is at ``c_j``, ``Q_i`` the one by which ``u_j`` is,
and ``M`` the matrix between ``u_i`` and ``u_j``. Then the score moves by

    e_i . K_j + Q_i . e_j + e_i M e_j^T.

Scores may be shifted by any number common to the keys of a query: take off ``e_i . K*_i`` for any
vector ``K*_i`` (the mean of ``K_j`` in the weights at ``c``). What is left is at most

    D_ij = ||K_j - K*_i|| r_i + ||Q_i|| r_j + ||M|| r_i r_j.

*Weights* (L3). If no score moves by more than ``D_j``, the weights ``a`` become ``a'`` with

    a'_j <= a_j / (a_j + sum_{l != j} a_l exp(-D_l - D_j)),

because moves differ by at most that. So the total variation, the sum of what weights gain, is at
most the sum of these gains. It is also at most ``tanh(max D / 2)``: if the weights that rise have
the share ``p``, it becomes at most ``p / (p + (1-p) exp(-2 max D))``, and exceeds ``p`` by most at
``p = 1 / (1 + exp(max D))``.

*Output* (L4). With values ``v_j`` at ``c_j``, their mean ``v*``, and ``V = W_V W_O``,

    sum a'_j (v_j + e_j V) - sum a_j v_j = sum a'_j e_j V + sum (a'_j - a_j)(v_j - v*),

at most ``||V|| max_j r_j + 2 TV max_j ||v_j - v*||`` over the visible ``j``. The residual's own
``e_i`` is added.

**MLP** (L2). For some numbers ``0 <= D_n <= 1``, ``F(c + e) - F(c) = e (I + W_in diag(D) W_out)``,
with ``D_n = 0`` for each neuron that is off on the whole ball: if ``z_n + r ||W_in[:,n]|| <= 0``.
So it is at most ``r`` times the smaller of

    ||I + W_in W_out / 2|| + ||W_in|| ||W_out|| / 2        and        1 + |W_in'| |W_out'|,

the latter with Frobenius norms of what belongs to neurons that are not off: a spectral norm is not
above it. The former is from ``D = 1/2 + (D - 1/2)``.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from ._enclosure import Ball, exp_ball, norm_upper, reciprocal_sqrt
from ._ledger import Ledger
from ._network import mix, mlp, neurons, project, softmax, visible
from ._norms import spectral_norm_upper
from ._transformer import Block, Transformer

_LEAST_WEIGHT = 2.0**-900


class HeadNorms(NamedTuple):
    """Upper bounds on the spectral norms of a head."""

    M: float
    value: float


class BlockNorms(NamedTuple):
    """Upper bounds on the norms of a block's matrices."""

    heads: tuple[HeadNorms, ...]
    mlp: float
    """The first bound on the gain of the MLP."""


def block_norms(net: Transformer, block: Block, ledger: Ledger) -> BlockNorms:
    """Cost: ``O(d^3)`` for each head and the MLP."""

    def exact(values: Float64[np.ndarray, "..."]) -> Ball:
        return Ball.exact(values, ledger)

    scale = reciprocal_sqrt(net.score_divisor_squared, ledger)
    heads = tuple(
        HeadNorms(
            spectral_norm_upper((exact(block.W_Q[h]) * scale) @ exact(block.W_K[h]).T),
            spectral_norm_upper(exact(block.W_V[h]) @ exact(block.W_O[h])),
        )
        for h in range(block.n_heads)
    )
    if not block.d_mlp:
        return BlockNorms(heads, 1.0)
    half = exact(np.array(0.5))
    W_in, W_out = exact(block.W_in), exact(block.W_out)
    centre = spectral_norm_upper(exact(np.eye(len(block.b_out))) + (W_in @ W_out) * half)
    product = exact(np.array([spectral_norm_upper(W_in)]))
    product = product * exact(np.array([spectral_norm_upper(W_out)]))
    gain = exact(np.array([centre])) + product * half
    return BlockNorms(heads, float(gain.upper()[0]))


def through_attention(
    net: Transformer,
    block: Block,
    norms: BlockNorms,
    residual: Ball,
    radius: Float64[np.ndarray, "n k"],
    queries: range,
) -> tuple[Ball, Float64[np.ndarray, "n i"]]:
    """``F(c) [n, i, d]`` at the positions ``queries``, and how far ``F(u)`` can be from it.

    residual: ``c [n, k, d]``. Cost: ``O(n k d^2)`` and ``O(n i k d)`` for each head.
    """
    ledger = residual.ledger
    at = slice(queries.start, queries.stop)
    here, seen = residual[:, at], visible(net, queries)
    r = Ball.exact(radius, ledger)
    r_here = r[:, at]
    furthest = np.where(seen, radius[:, None, :], 0.0).max(axis=2)
    scale = reciprocal_sqrt(net.score_divisor_squared, ledger)
    mid = here + Ball.exact(block.b_O, ledger)
    grown = r_here
    nothing = np.zeros(net.d_model)
    for head, norm in enumerate(norms.heads):
        query = project(here, block.W_Q[head], block.b_Q[head]) * scale
        key = project(residual, block.W_K[head], block.b_K[head])
        value = project(
            project(residual, block.W_V[head], block.b_V[head]), block.W_O[head], nothing
        )
        weight = softmax((query[:, :, None] * key[:, None]).sum(3), seen)
        K = project(key, block.W_Q[head].T, nothing) * scale
        Q = project(query, block.W_K[head].T, nothing)
        apart = norm_upper(K[:, None] - mix(weight, K)[:, :, None])
        moves = Ball.exact(apart, ledger) * r_here[:, :, None]
        moves = moves + Ball.exact(norm_upper(Q), ledger)[:, :, None] * r[:, None]
        crossed = Ball.exact(np.array(norm.M), ledger) * r_here
        moves = moves + crossed[:, :, None] * r[:, None]
        variation = total_variation(weight, moves.upper(), seen)
        mean = mix(weight, value)
        away = norm_upper(value[:, None] - mean[:, :, None])
        farthest = np.where(seen, away, 0.0).max(axis=2)
        ledger.point(2 * away.size)
        carried = Ball.exact(np.array(norm.value), ledger) * Ball.exact(furthest, ledger)
        twice = Ball.exact(2.0 * variation, ledger) * Ball.exact(farthest, ledger)
        grown = grown + carried + twice
        mid = mid + mean
    return mid, grown.upper()


def total_variation(
    weight: Ball, moves: Float64[np.ndarray, "n i k"], seen: Bool[np.ndarray, "i k"]
) -> Float64[np.ndarray, "n i"]:
    """At least half of ``sum_j |a'_j - a_j|``, for scores that move by at most ``moves``."""
    ledger = weight.ledger
    hidden = np.broadcast_to(~seen, moves.shape)
    D = np.where(hidden, 0.0, moves)
    one = Ball.exact(np.array(1.0), ledger)
    shrunk = exp_ball(Ball.exact(-D, ledger))
    k = D.shape[2]
    others = (weight * shrunk).reshape(D.size // k, k) @ Ball.exact(1.0 - np.eye(k), ledger)
    rest = (others.reshape(*D.shape) * shrunk).lower()
    # The bound increases with a_j and decreases with the rest.
    a = Ball.exact(np.maximum(weight.upper(), _LEAST_WEIGHT), ledger)
    most = a * (a + Ball.exact(np.maximum(rest, 0.0), ledger)).reciprocal()
    gains = np.where(hidden, 0.0, np.maximum((most - weight).upper(), 0.0))
    summed = Ball.exact(gains, ledger).sum(2).upper()
    least = exp_ball(Ball.exact(-D.max(axis=2), ledger))
    ledger.point(3 * D.size)
    return np.minimum(np.minimum(summed, ((one - least) * (one + least).reciprocal()).upper()), 1.0)


def through_mlp(
    block: Block, norms: BlockNorms, mid: Ball, radius: Float64[np.ndarray, "n i"]
) -> tuple[Ball, Float64[np.ndarray, "n i"]]:
    """``F(c) [n, i, d]`` and how far ``F(u)`` can be from it. Cost: ``O(d m)`` each."""
    ledger = mid.ledger
    if not block.d_mlp:
        return mlp(block, mid), radius
    r = Ball.exact(radius, ledger)
    reads = norm_upper(Ball.exact(block.W_in, ledger), axis=0)
    writes = norm_upper(Ball.exact(block.W_out, ledger), axis=1)
    z = neurons(block, mid) + r[:, :, None] * Ball.exact(reads, ledger)
    on = np.where(z.upper() > 0, 1.0, 0.0)
    parts = [norm_upper(Ball.exact(on * sizes, ledger)) for sizes in (reads, writes)]
    gain = Ball.exact(parts[0], ledger) * Ball.exact(parts[1], ledger)
    gain = (gain + Ball.exact(np.ones(gain.shape), ledger)).upper()
    ledger.point(2 * on.size)
    return mlp(block, mid), (r * Ball.exact(np.minimum(gain, norms.mlp), ledger)).upper()
