"""The norm-ball bound on a crosscoder's reconstruction, sub-layer by sub-layer; float64 estimates.

Let u be the residual stream of the model at a site and u' the crosscoder's reconstruction. If
``|u - u'| <= r`` before a sub-layer F at every position of a sequence, then after it

    |F(u) - u''| <= Gamma(u', r) + |F(u') - u''|,

u'' being the reconstruction at the next site. Gamma is, for an MLP, ``r`` times a Lipschitz
constant of it on the ball; for attention, ``r`` itself plus for each head what its values can move
and what its pattern can: twice the total variation of the pattern times the spread of the values.
At the end the prediction is certified if no logit can catch up within the last radius.

Every step is a theorem in real numbers, but these numbers are rounded to nearest: estimates, never
a certificate. Notation: n sequences, k positions, L sites, d width, m neurons, v outputs.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from compactproofs.crosscoders import Crosscoder, default_sites, residuals
from compactproofs.kernel import Block, Transformer


@dataclass(frozen=True)
class Streams:
    """The residual stream at every site, and what the crosscoder makes of it."""

    true: Float64[np.ndarray, "n k L d"]
    decoded: Float64[np.ndarray, "n k L d"]
    sites: tuple[str, ...]

    @property
    def distance(self) -> Float64[np.ndarray, "n k L"]:
        """How far they are apart."""
        return np.linalg.norm(self.true - self.decoded, axis=3)


class Certified(NamedTuple):
    """What the last radius leaves of the logit margins of the reconstruction."""

    margin: Float64[np.ndarray, "n k"]
    """Of the largest logit over the next."""
    lost: Float64[np.ndarray, "n k"]
    """The most that the difference of these two can move within the radius."""
    certain: Bool[np.ndarray, "n k"]
    """Whether the model certainly gives the same prediction."""


def streams(net: Transformer, crosscoder: Crosscoder, tokens: np.ndarray) -> Streams:
    """Run the model on tokens [n, k] and encode every position.

    The crosscoder must read and write the default sites, in their order, at all positions.
    """
    sites = default_sites(net)
    if tuple(site.name for site in crosscoder.config.sites) != sites:
        raise ValueError(f"the crosscoder's sites are not {', '.join(sites)}")
    flat = residuals(net, tokens, sites, "all")
    decoded = crosscoder.decode(crosscoder.encode(flat)).astype(np.float64)
    shape = (*tokens.shape, len(sites), net.d_model)
    return Streams(flat.reshape(shape), decoded.reshape(shape), sites)


def radii(net: Transformer, found: Streams, start: int = 0) -> list[Float64[np.ndarray, "n k"]]:
    """Bounds on the distance at each site from number `start` on, where it is known exactly.

    Cost: a forward pass, and O(d^3 + d^2 m) for each MLP and position that has decided neurons.
    """
    bounds = [found.distance[:, :, start]]
    for place in range(start, len(found.sites) - 1):
        block, u = net.blocks[place // 2], found.decoded[:, :, place]
        if place % 2 == 0:
            moved, spread = attention_step(net, block, u, bounds[-1])
        else:
            moved, spread = mlp_step(block, u, bounds[-1])
        own = np.linalg.norm(moved - found.decoded[:, :, place + 1], axis=2)
        bounds.append(spread + own)
    return bounds


def attention_step(
    net: Transformer,
    block: Block,
    u: Float64[np.ndarray, "n k d"],
    r: Float64[np.ndarray, "n k"],
) -> tuple[Float64[np.ndarray, "n k d"], Float64[np.ndarray, "n k"]]:
    """The stream after the attention of a block at u, and Gamma there."""
    sigma = float(net.score_divisor_squared) ** 0.5
    hidden = np.triu(np.ones((u.shape[1], u.shape[1]), dtype=bool), 1)
    if net.attention_dir != "causal":
        hidden[:] = False
    after, spread = u + block.b_O, r.copy()
    for head in range(block.n_heads):
        query, key = u @ block.W_Q[head] + block.b_Q[head], u @ block.W_K[head] + block.b_K[head]
        value = (u @ block.W_V[head] + block.b_V[head]) @ block.W_O[head]
        score = np.where(hidden, -np.inf, query @ key.transpose(0, 2, 1) / sigma)
        pattern = np.exp(score - score.max(axis=2, keepdims=True))
        pattern /= pattern.sum(axis=2, keepdims=True)
        both = np.linalg.norm(block.W_Q[head] @ block.W_K[head].T, 2)
        # How far each score can move, [n, k of the query, k of the key].
        of_query, of_key = r[:, :, None], r[:, None, :]
        moved = (
            np.linalg.norm(key @ block.W_Q[head].T, axis=2)[:, None, :] * of_query
            + np.linalg.norm(query @ block.W_K[head].T, axis=2)[:, :, None] * of_key
            + both * of_query * of_key
        ) / sigma
        less = np.exp(-moved)
        others = less * ((pattern * less).sum(axis=2, keepdims=True) - pattern * less)
        most = np.where(hidden, 0.0, pattern / np.maximum(pattern + others, np.finfo(float).tiny))
        variation = np.minimum(1.0, np.maximum(most - pattern, 0.0).sum(axis=2))
        mixed = pattern @ value
        apart = np.linalg.norm(value[:, None] - mixed[:, :, None], axis=3)
        farthest = np.where(hidden, 0.0, apart).max(axis=2)
        largest = np.where(hidden, 0.0, of_key).max(axis=2)
        weighted = np.minimum(largest, (most * of_key).sum(axis=2))
        gain = np.linalg.norm(block.W_V[head] @ block.W_O[head], 2)
        after = after + mixed
        spread = spread + gain * weighted + 2 * variation * farthest
    return after, spread


def mlp_step(
    block: Block, u: Float64[np.ndarray, "n k d"], r: Float64[np.ndarray, "n k"]
) -> tuple[Float64[np.ndarray, "n k d"], Float64[np.ndarray, "n k"]]:
    """The stream after the MLP of a block at u, and Gamma there: r times a Lipschitz constant.

    With D = 1 at neurons that are on in the whole ball, 1/2 at undecided ones and 0 at others:
    ``|I + W_in D W_out| + |W_in| |W_out| / 2``, the last two of the undecided neurons alone.
    """
    z = u @ block.W_in + block.b_in
    reach = r[:, :, None] * np.linalg.norm(block.W_in, axis=0)
    undecided = np.abs(z) <= reach
    slope = np.where(undecided, 0.5, np.where(z > 0, 1.0, 0.0))
    gain = np.full(r.shape, _gain(block, np.full(z.shape[2], 0.5), np.ones(z.shape[2], bool)))
    for place in zip(*np.nonzero(~undecided.all(axis=2)), strict=True):
        gain[place] = min(gain[place], _gain(block, slope[place], undecided[place]))
    return u + np.maximum(z, 0) @ block.W_out + block.b_out, gain * r


def _gain(
    block: Block, slope: Float64[np.ndarray, " m"], undecided: Bool[np.ndarray, " m"]
) -> float:
    into, out = block.W_in, block.W_out
    straight = np.linalg.norm(np.eye(len(into)) + (into * slope) @ out, 2)
    if not undecided.any():
        return float(straight)
    sizes = [np.linalg.norm(part, 2) for part in (into[:, undecided], out[undecided])]
    return float(straight + sizes[0] * sizes[1] / 2)


def certified(net: Transformer, found: Streams, radius: Float64[np.ndarray, "n k"]) -> Certified:
    """Compare the last radius with the margins of the logits of the last reconstruction."""
    logits = found.decoded[:, :, -1] @ net.W_U + net.b_U
    top = logits.argmax(axis=2)
    apart = np.linalg.norm(net.W_U[:, :, None] - net.W_U[:, None, :], axis=0)
    gaps = np.take_along_axis(logits, top[:, :, None], axis=2) - logits
    lost = apart[top] * radius[:, :, None]
    own = np.arange(logits.shape[2]) == top[:, :, None]
    rival = np.where(own, np.inf, gaps).argmin(axis=2)[:, :, None]
    return Certified(
        margin=np.take_along_axis(gaps, rival, axis=2)[:, :, 0],
        lost=np.take_along_axis(lost, rival, axis=2)[:, :, 0],
        certain=(own | (gaps > lost)).all(axis=2),
    )
