"""Which sequences theorems B and C can be told to claim, given codes. Nothing here is trusted.

Ranges of neurons hold for all the sequences that are claimed together, so those that cannot be
proved anyway are left out, the worst first, and the ranges of the rest narrow.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from ..kernel import Transformer
from ..kernel._codes import BY_CODE, BY_RESIDUAL, NOT_CLAIMED
from ._proof_margins import Search, least, room_of


class Claims(NamedTuple):
    """How each sequence is claimed, and what goes with it."""

    claimed: Int64[np.ndarray, " N"]
    worst: Float64[np.ndarray, " N"]
    """The last bound on the least margin, also of those that were left out."""
    sign: Int64[np.ndarray, "U m"]
    """Of theorem B."""
    flops: int
    """Of the theorem's tables and look-ups, without those of the residuals."""


def additive_claims(search: Search, *, signs: bool, rounds: int) -> Claims:
    """What theorem B can claim."""
    claimed = np.full(search.task.total, BY_CODE)
    sign = np.zeros((search.cells, search.net.blocks[-1].d_mlp), dtype=np.int64)
    worst = np.full(len(claimed), -np.inf)
    flops = 0
    for left in reversed(range(max(1, rounds))):
        if signs:
            sign = search.signs(claimed)
        bounds, flops = search.additive_margins(claimed, sign)
        failing = _noted(worst, claimed, least(bounds))
        if not failing.any():
            break
        claimed = _without(claimed, worst, failing, everything=left == 0 or not signs)
        if not signs:
            break
    return Claims(claimed, worst, sign, flops)


def cell_claims(search: Search, *, by_residual: bool, rounds: int) -> Claims:
    """What theorem C can claim; ``by_residual`` where the code does not do.

    What is claimed by its residual widens the ranges of its cell: each cell goes without if that
    claims more of it.
    """
    by_code = _cell_claims(search, by_residual=False, rounds=rounds)
    if not by_residual or (by_code.claimed != NOT_CLAIMED).all():
        return by_code
    both = _cell_claims(search, by_residual=True, rounds=rounds)
    cell, most = search.placed.cell, search.cells
    counts = [
        np.bincount(cell, weights=claims.claimed != NOT_CLAIMED, minlength=most)
        for claims in (by_code, both)
    ]
    with_residual = (counts[1] > counts[0])[cell]
    return both._replace(
        claimed=np.where(with_residual, both.claimed, by_code.claimed),
        worst=np.where(with_residual, both.worst, by_code.worst),
    )


def _cell_claims(search: Search, *, by_residual: bool, rounds: int) -> Claims:
    claimed = np.full(search.task.total, BY_CODE)
    worst = np.full(len(claimed), -np.inf)
    flops, left = 0, rounds
    while (claimed != NOT_CLAIMED).any():
        bounds, flops = search.cell_margins(claimed)
        failing = _noted(worst, claimed, least(bounds))
        if not failing.any():
            break
        by_code = failing & (claimed == BY_CODE)
        if by_residual and by_code.any():
            claimed = np.where(by_code, BY_RESIDUAL, claimed)
            failing = failing & ~by_code
        left -= 1
        if failing.any():
            claimed = _without(claimed, worst, failing, everything=left <= 0)
    nothing = np.zeros((search.cells, 0), dtype=np.int64)
    return Claims(claimed, worst, nothing, flops)


def _noted(
    worst: Float64[np.ndarray, " N"],
    claimed: Int64[np.ndarray, " N"],
    now: Float64[np.ndarray, " N"],
) -> np.ndarray:
    """Keep the bounds of what is claimed, and say which of those are not far enough above 0."""
    there = claimed != NOT_CLAIMED
    worst[there] = now[there]
    return there & ~(now > room_of(now[there]))


def _without(
    claimed: Int64[np.ndarray, " N"],
    worst: Float64[np.ndarray, " N"],
    failing: np.ndarray,
    *,
    everything: bool,
) -> Int64[np.ndarray, " N"]:
    """The claims without the worse half of those that fail, or without all of them."""
    limit = np.inf if everything else np.median(worst[failing])
    return np.where(failing & (worst <= limit), NOT_CLAIMED, claimed)


def true_margins(
    net: Transformer, target: Float64[np.ndarray, "N d"], label: Int64[np.ndarray, " N"]
) -> Float64[np.ndarray, "N r"]:
    """The margins over every other output at these residuals before the last MLP, in float64."""
    block = net.blocks[-1]
    rows = []
    for start in range(0, len(target), 1 << 13):
        mid, own = target[start : start + (1 << 13)], label[start : start + (1 << 13)]
        after = mid + np.maximum(mid @ block.W_in + block.b_in, 0) @ block.W_out + block.b_out
        logits = after @ net.W_U + net.b_U
        margins = np.take_along_axis(logits, own[:, None], axis=1) - logits
        others = np.arange(net.d_vocab_out)[None] != own[:, None]
        rows.append(margins[others].reshape(len(mid), net.d_vocab_out - 1))
    return np.concatenate(rows)
