"""Evaluations of a model in float32, many ways: what the semantics ``float32`` claims to cover.

Two kinds of arithmetic. *Machine*: numpy's float32, every operation rounded by the hardware.
*Adversary*: float64 numbers where every operation errs by the whole unit ``2^-24`` in a direction
chosen to hurt: scores of some positions up, of others down; every logit up, the label's down. Both
belong to the family of docs/theory.md section 5, in several orders of summation, with the biases
first or last, scores scaled before, after or by a reciprocal, with and without subtracting the
largest, with weights divided by their sum before or after they meet the values.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

Round = Callable[[Any], np.ndarray]
"""What becomes of the result of one operation."""

UNIT = 2.0**-24
EXP_ERROR = 0.9 * 2.0**-16
LEAST, MOST = -40.0, 60.0
"""Without subtracting the largest score, it must lie between these to be covered."""


class Style(NamedTuple):
    """How one evaluation goes about it."""

    seed: int
    adversary: bool
    bias_first: bool
    scale: str
    """before, after or reciprocal"""
    subtract: bool
    divide_first: bool
    flush: bool
    """Whether numbers below 2^-126 become zero."""


def styles(count: int, seed: int = 0) -> Iterator[Style]:
    """Styles of every kind, half of them the adversary's."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        one, two, three, four = (bool(b) for b in rng.integers(0, 2, 4))
        scale = str(rng.choice(["before", "after", "reciprocal"]))
        yield Style(n, n % 2 == 1, one, scale, two, three, four)


def evaluate(model: Any, tokens: np.ndarray, label: np.ndarray, style: Style) -> np.ndarray:
    """The computed logits ``[n, x]``; NaN where an evaluation that is not covered came to be."""
    rng = np.random.default_rng(style.seed)
    n, k = tokens.shape
    kind = np.float64 if style.adversary else np.float32
    W = {name: getattr(model, name).astype(kind) for name in vars(model) if name[1] == "_"}
    if style.flush:
        W = {name: np.where(np.abs(w) < 2.0**-126, kind(0), w) for name, w in W.items()}

    def rounding(direction: np.ndarray | float) -> Round:
        def machine(x: Any) -> np.ndarray:
            with np.errstate(all="ignore"):
                y = np.asarray(x, dtype=np.float32)
            return np.where(np.abs(y) < 2.0**-126, np.float32(0), y) if style.flush else y

        def adversary(x: Any) -> np.ndarray:
            y = x + direction * UNIT * np.abs(x)
            return np.where(np.abs(y) < 2.0**-126, 0.0, y) if style.flush else y

        return adversary if style.adversary else machine

    def dot(a: np.ndarray, b: np.ndarray, r: Round, bias: np.ndarray | None = None) -> np.ndarray:
        """Over the last axis of ``a`` and of ``b``, in an order of its own."""
        order = rng.permutation(a.shape[-1])
        terms = [r(a[..., j] * b[..., j]) for j in order]
        if bias is not None:
            terms = [bias, *terms] if style.bias_first else [*terms, bias]
        total = terms[0]
        for term in terms[1:]:
            total = r(total + term)
        return total

    def linear(rows: np.ndarray, weight: str, bias: str | None, r: Round) -> np.ndarray:
        matrix = W[weight]
        return dot(rows[..., None, :], matrix.T, r, None if bias is None else W[bias])

    up = rounding(1.0)
    with np.errstate(all="ignore"):
        residual = up(W["W_E"][tokens] + W["W_pos"])  # [n, k, d]
        # Scores of these positions are pushed up, the others down, by the signs of their factors.
        push = rng.choice([-1.0, 1.0], (n, k))
        pushed = rounding(push)
        query = linear(residual[:, -1], "W_Q", "b_Q", rounding(0.0))
        sign = np.sign(query)[:, None, :] * push[..., None]
        key = linear(residual, "W_K", "b_K", rounding(sign))
        sigma = kind(float(model.score_divisor_squared) ** 0.5)
        if style.scale == "before":
            query = up(query / sigma)
        scores = dot(np.broadcast_to(query[:, None], key.shape), key, pushed)  # [n, k]
        if style.scale == "after":
            scores = pushed(scores / sigma)
        elif style.scale == "reciprocal":
            scores = pushed(scores * up(kind(1) / sigma))
        largest = scores.max(axis=1, keepdims=True)
        if style.subtract:
            scores = pushed(scores - largest)
            covered = np.ones(n, dtype=bool)
        else:
            covered = (largest[:, 0] <= MOST) & (largest[:, 0] >= LEAST)
        weights = np.exp(scores)
        weights = weights * (1 + push * EXP_ERROR) if style.adversary else up(weights)
        # Logits are pushed up, the label's down.
        outputs = W["W_U"].shape[1]
        away = np.where(np.arange(outputs) == label[:, None], -1.0, 1.0)  # [n, x]
        value = linear(residual, "W_V", "b_V", rounding(0.0))
        total = dot(weights, np.ones((n, k), dtype=kind), up)[:, None]
        if style.divide_first:
            shares = up(weights / total)
            z = dot(np.moveaxis(value, 1, -1), shares[:, None, :], up)
        else:
            z = up(dot(np.moveaxis(value, 1, -1), weights[:, None, :], up) / total)
        out = linear(z, "W_O", "b_O", rounding(rng.choice([-1.0, 1.0], W["b_O"].shape)))
        last = up(residual[:, -1] + out)
        logits = linear(last, "W_U", "b_U", rounding(away))
    logits = np.asarray(logits, dtype=np.float64)
    logits[~covered] = np.nan
    return logits


def right(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Whether the label's logit exceeds all others; right by courtesy where not covered."""
    rows = np.arange(len(label))
    others = logits.copy()
    others[rows, label] = -np.inf
    best = others.max(axis=1) if logits.shape[1] > 1 else np.full(len(label), -np.inf)
    return (logits[rows, label] > best) | np.isnan(logits).any(axis=1)
