"""What a transformer computes on given sequences, in enclosures: the exact forward pass.

Every function maps balls to balls that enclose the real function of ``_transformer``. Shapes: n
sequences, k positions, a heads, d width, m neurons, x outputs.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ._enclosure import Ball, check_arithmetic, exp_ball, reciprocal_sqrt
from ._errors import TaskError
from ._ledger import Ledger
from ._tasks import Task
from ._transformer import Block, Transformer

_MAX_LISTED = 1 << 32  # sequences


def sequences(task: Task, start: int, stop: int) -> Int64[np.ndarray, "n k"]:
    """The sequences number ``start`` to ``stop - 1`` of the task, in lexicographic order.

    The first token varies slowest; the last one runs over ``task.queries``.
    """
    if not 0 <= start <= stop <= task.total or task.total > _MAX_LISTED:
        raise TaskError(
            f"sequences {start} to {stop} of the {task.total} of {task.name}: at most "
            f"{_MAX_LISTED} can be listed"
        )
    number = np.arange(start, stop, dtype=np.int64)
    several = len(task.queries)
    tokens = np.empty((len(number), task.k), dtype=np.int64)
    tokens[:, -1] = task.queries.start + number % several
    number //= several
    for position in reversed(range(task.k - 1)):
        tokens[:, position] = number % task.v
        number //= task.v
    return tokens


def embed(net: Transformer, tokens: Int64[np.ndarray, "n k"], ledger: Ledger) -> Ball:
    """``[n, k, d]``: token plus position. Cost: O(n k d)."""
    check_arithmetic()
    token, position = Ball.exact(net.W_E, ledger), Ball.exact(net.W_pos, ledger)
    return token[tokens] + position[None]


def project(x: Ball, weight: Float64[np.ndarray, "d e"], bias: Float64[np.ndarray, " e"]) -> Ball:
    """``x W + b`` along the last axis of ``x``."""
    rows = int(np.prod(x.shape[:-1]))
    flat = x.reshape(rows, x.shape[-1]) @ Ball.exact(weight, x.ledger)
    return flat.reshape(*x.shape[:-1], weight.shape[1]) + Ball.exact(bias, x.ledger)


def attention(net: Transformer, block: Block, residual: Ball, queries: range) -> Ball:
    """``[n, i, d]``: the residual after attention at the positions ``queries``.

    residual: ``[n, k, d]``. Cost: O(n k d h) for each head and O(n i k h).
    """
    here = residual[:, queries.start : queries.stop]
    mid = here + Ball.exact(block.b_O, residual.ledger)
    seen = visible(net, queries)
    scale = reciprocal_sqrt(net.score_divisor_squared, residual.ledger)
    for head in range(block.n_heads):
        query = project(here, block.W_Q[head], block.b_Q[head]) * scale
        key = project(residual, block.W_K[head], block.b_K[head])
        value = project(residual, block.W_V[head], block.b_V[head])
        mixed = mix(softmax((query[:, :, None] * key[:, None]).sum(3), seen), value)
        mid = mid + project(mixed, block.W_O[head], np.zeros(block.W_O.shape[2]))
    return mid


def visible(net: Transformer, queries: range) -> Bool[np.ndarray, "i k"]:
    """Which positions each query position may attend to."""
    if net.attention_dir == "bidirectional":
        return np.ones((len(queries), net.n_ctx), dtype=bool)
    return np.arange(net.n_ctx)[None, :] <= np.array(queries)[:, None]


def softmax(scores: Ball, seen: Bool[np.ndarray, "i k"]) -> Ball:
    """``[n, i, k]``: weights that add up to 1 over the visible positions, 0 elsewhere."""
    top = np.where(seen, scores.mid, -np.inf).max(axis=-1, keepdims=True)
    shifted = scores - Ball.exact(top, scores.ledger)
    hidden = np.broadcast_to(~seen, scores.shape)
    # A hidden score may be of any size above the others.
    capped = Ball(
        np.where(hidden, -1.0, shifted.mid), np.where(hidden, 0.0, shifted.rad), scores.ledger
    )
    weight = exp_ball(capped)
    masked = Ball(
        np.where(hidden, 0.0, weight.mid), np.where(hidden, 0.0, weight.rad), scores.ledger
    )
    return masked * masked.sum(2).reciprocal()[:, :, None]


def mix(weights: Ball, values: Ball) -> Ball:
    """``[n, i, h]``: the values ``[n, k, h]`` averaged by weights ``[n, i, k]``."""
    return (weights[:, :, :, None] * values[:, None]).sum(2)


def neurons(block: Block, mid: Ball) -> Ball:
    """``[..., m]``: what reaches each neuron before its ReLU."""
    return project(mid, block.W_in, block.b_in)


def mlp(block: Block, mid: Ball) -> Ball:
    """The residual after the MLP, in the shape of ``mid``. Cost: O(d m) for each vector."""
    after = mid + Ball.exact(block.b_out, mid.ledger)
    if not block.d_mlp:
        return after
    active = neurons(block, mid).relu()
    return after + project(active, block.W_out, np.zeros(block.W_out.shape[1]))


def last_mid(net: Transformer, tokens: Int64[np.ndarray, "n k"], ledger: Ledger) -> Ball:
    """``[n, d]``: the residual at the last position before the last MLP."""
    residual = embed(net, tokens, ledger)
    everywhere, last = range(net.n_ctx), range(net.n_ctx - 1, net.n_ctx)
    for block in net.blocks[:-1]:
        residual = mlp(block, attention(net, block, residual, everywhere))
    return attention(net, net.blocks[-1], residual, last)[:, 0]


def logits(net: Transformer, tokens: Int64[np.ndarray, "n k"], ledger: Ledger) -> Ball:
    """``[n, x]``: the answers to the sequences. Cost: that of a forward pass of each."""
    return project(mlp(net.blocks[-1], last_mid(net, tokens, ledger)), net.W_U, net.b_U)


def blocks_of(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges ``start, stop`` of at most ``size`` that tile ``0 .. total - 1``."""
    for start in range(0, total, size):
        yield start, min(start + size, total)
