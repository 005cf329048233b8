"""What a transformer computes, in Arb at 300 bits: the truth that enclosures must contain."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from flint import arb, ctx, fmpq

BITS = 300


class Count(NamedTuple):
    """Of one class: sequences, and those answered right."""

    size: int
    right: int


def exact_logits(net: Any, tokens: np.ndarray) -> list[list[arb]]:
    """``[n][x]``: one sequence, position and head at a time; nothing shared with the kernel."""
    before, ctx.prec = ctx.prec, BITS
    try:
        return [_answer(net, row) for row in tokens.tolist()]
    finally:
        ctx.prec = before


def exact_counts(net: Any, task: Any, tokens: np.ndarray) -> dict[tuple[int, int], Count]:
    """Sequences and right ones of each (query, label); what 300 bits leave open counts as wrong."""
    counts: dict[tuple[int, int], Count] = {}
    labels = task.labels(tokens).tolist()
    for row, label, answer in zip(tokens.tolist(), labels, exact_logits(net, tokens), strict=True):
        right = all(bool(answer[label] > a) for x, a in enumerate(answer) if x != label)
        size, good = counts.get((row[-1], label), (0, 0))
        counts[row[-1], label] = Count(size + 1, good + right)
    return counts


def _vector(values: np.ndarray) -> list[arb]:
    return [arb(float(x)) for x in values]


def _affine(x: Sequence[arb], weight: np.ndarray, bias: np.ndarray) -> list[arb]:
    rows = weight.tolist()
    return [
        sum((a * row[j] for a, row in zip(x, rows, strict=True) if row[j]), arb(float(b)))
        for j, b in enumerate(bias)
    ]


def _plus(a: Sequence[arb], b: Sequence[arb]) -> list[arb]:
    return [x + y for x, y in zip(a, b, strict=True)]


def _answer(net: Any, row: list[int]) -> list[arb]:
    divisor = arb(fmpq(*net.score_divisor_squared.as_integer_ratio())).sqrt()
    stream = [_plus(_vector(net.W_E[t]), _vector(net.W_pos[i])) for i, t in enumerate(row)]
    for block in net.blocks:
        mids = [_plus(r, _vector(block.b_O)) for r in stream]
        for head in range(len(block.W_Q)):
            keys = [_affine(r, block.W_K[head], block.b_K[head]) for r in stream]
            values = [_affine(r, block.W_V[head], block.b_V[head]) for r in stream]
            for i, r in enumerate(stream):
                query = _affine(r, block.W_Q[head], block.b_Q[head])
                reach = len(row) if net.attention_dir == "bidirectional" else i + 1
                weights = [
                    (sum((a * b for a, b in zip(query, keys[j], strict=True)), arb(0)) / divisor)
                    for j in range(reach)
                ]
                top = max(float(w.mid()) for w in weights)
                weights = [(w - top).exp() for w in weights]
                total = sum(weights, arb(0))
                mixed = [
                    sum((w * v[e] for w, v in zip(weights, values[:reach], strict=True)), arb(0))
                    / total
                    for e in range(block.W_V.shape[2])
                ]
                mids[i] = _plus(
                    mids[i], _affine(mixed, block.W_O[head], np.zeros(block.W_O.shape[2]))
                )
        stream = []
        for mid in mids:
            active = [max(z, arb(0)) for z in _affine(mid, block.W_in, block.b_in)]
            after = _affine(active, block.W_out, block.b_out) if active else _vector(block.b_out)
            stream.append(_plus(mid, after))
    return _affine(stream[-1], net.W_U, net.b_U)
