"""The residual before the last MLP, exactly, by table look-up where there is one layer.

With one layer the score ``s(q,t,i)`` of a head and what it adds for one token,
``o(t,i) = (r(t,i) W_V + b_V) W_O`` with ``r(t,i) = W_E[t] + W_pos[i]``, are tables, and

    mid(t_0 .. t_{k-1}) = r(q,k-1) + b_O + sum_heads sum_i softmax_i(s(q,t_i,i)) o(t_i,i),
    q = t_{k-1}:

``O(k d)`` operations for each sequence and head, whatever the width of the head. The last position
attends to every position in either direction of attention, so nothing is hidden from it. Deeper
networks are run forward, layer by layer.

Cost of the tables: ``O(a (v k d h + v^2 k h))``.
"""

from typing import NamedTuple, final

import numpy as np
from jaxtyping import Int64

from ._enclosure import Ball, reciprocal_sqrt
from ._ledger import Ledger
from ._network import last_mid, mix, project, softmax
from ._transformer import Transformer


class _Head(NamedTuple):
    score: Ball
    """``[q, i, t]``"""
    value: Ball
    """``[i, t, d]``"""


@final
class LastMid:
    """``[n, d]`` for token sequences ``[n, k]``: the last position before the last MLP."""

    def __init__(self, net: Transformer, ledger: Ledger) -> None:
        """Make the tables, if the network has one layer."""
        self._net = net
        self._ledger = ledger
        self._heads: list[_Head] = []
        block, *deeper = net.blocks
        if deeper:
            return
        k, v = net.n_ctx, net.d_vocab
        tokens, positions = Ball.exact(net.W_E, ledger), Ball.exact(net.W_pos, ledger)
        residual = positions[:, None] + tokens[None]
        asking = residual[k - 1]
        self._own = asking + Ball.exact(block.b_O, ledger)
        scale = reciprocal_sqrt(net.score_divisor_squared, ledger)
        for head in range(block.n_heads):
            query = project(asking, block.W_Q[head], block.b_Q[head]) * scale
            key = project(residual, block.W_K[head], block.b_K[head])
            value = project(residual, block.W_V[head], block.b_V[head])
            score = query @ key.reshape(k * v, -1).T
            out = project(value, block.W_O[head], np.zeros(net.d_model))
            self._heads.append(_Head(score.reshape(v, k, v), out))

    @property
    def places(self) -> int:
        """Positions of a sequence."""
        return self._net.n_ctx

    @property
    def entries(self) -> int:
        """Numbers in the tables: what of attention is treated case by case."""
        return sum(head.score.mid.size + head.value.mid.size for head in self._heads)

    def __call__(self, tokens: Int64[np.ndarray, "n k"]) -> Ball:
        """The residuals ``[n, d]`` of these sequences."""
        if not self._heads:
            return last_mid(self._net, tokens, self._ledger)
        query, places = tokens[:, -1], np.arange(tokens.shape[1])
        seen = np.ones((1, len(places)), dtype=bool)
        mid = self._own[query]
        for head in self._heads:
            score = head.score[query[:, None], places[None, :], tokens]
            weight = softmax(score[:, None], seen)
            mid = mid + mix(weight, head.value[places[None, :], tokens])[:, 0]
        return mid
