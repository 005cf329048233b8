"""Transformers of every kind for theorems about depth, and what they compute, in float64."""

from functools import cache
from typing import NamedTuple

import numpy as np

from compactproofs.kernel import Block, Transformer
from compactproofs.kernel import parse_task as our_parse_task
from transformers_for_tests import random_transformer


class Forward(NamedTuple):
    """Of every sequence, in float64; layers first."""

    pre: list[np.ndarray]  # [n, k, d]
    mid: list[np.ndarray]  # [n, k, d]
    logits: np.ndarray  # [n, x]


def attended(net: Transformer, block: Block, query: np.ndarray, others: np.ndarray) -> np.ndarray:
    """``[n, d]``: residuals ``query [n, d]`` after attention to ``others [n, j, d]``."""
    out = query + block.b_O
    for head in range(block.n_heads):
        q = query @ block.W_Q[head] + block.b_Q[head]
        key = others @ block.W_K[head] + block.b_K[head]
        score = np.einsum("nh,njh->nj", q, key) / float(net.score_divisor_squared) ** 0.5
        weight = np.exp(score - score.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        value = others @ block.W_V[head] + block.b_V[head]
        out = out + np.einsum("nj,njh->nh", weight, value) @ block.W_O[head]
    return out


def after_mlp(block: Block, mid: np.ndarray) -> np.ndarray:
    return mid + np.maximum(mid @ block.W_in + block.b_in, 0) @ block.W_out + block.b_out


def forward(net: Transformer, tokens: np.ndarray) -> Forward:
    """One position at a time."""
    stream = net.W_E[tokens] + net.W_pos
    pre, mids = [], []
    for block in net.blocks:
        pre.append(stream)
        reach = [net.n_ctx if net.attention_dir == "bidirectional" else i + 1 for i in range(99)]
        mid = np.stack(
            [attended(net, block, stream[:, i], stream[:, : reach[i]]) for i in range(net.n_ctx)], 1
        )
        mids.append(mid)
        stream = after_mlp(block, mid)
    return Forward(pre, mids, stream[:, -1] @ net.W_U + net.b_U)


@cache
def subjects() -> tuple[tuple[Transformer, str], ...]:
    """Random transformers of every kind, and a task of each."""
    rng = np.random.default_rng(42)
    found = []
    for number, (layers, heads, mlp, direction) in enumerate(
        [
            (1, 1, 5, "causal"),
            (1, 2, 4, "bidirectional"),
            (2, 1, 6, "causal"),
            (2, 2, 5, "causal"),
            (2, 1, 4, "bidirectional"),
            (2, 1, 0, "causal"),
            (3, 1, 5, "causal"),
            (3, 2, 4, "causal"),
        ]
    ):
        task = ("max:k=3,v=3", "max:k=4,v=2", "max:k=2,v=4")[number % 3]
        parsed = our_parse_task(task)
        for scale in (0.3, 3.0):
            net = random_transformer(
                rng,
                k=parsed.k,
                v=parsed.v,
                layers=layers,
                heads=heads,
                mlp=mlp,
                scale=scale,
                direction=direction,
            )
            found.append((net, task))
    return tuple(found)
