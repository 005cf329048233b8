"""Exact rational truth for the kernel's tests, written from the definitions and nothing else."""

from dataclasses import fields
from fractions import Fraction
from math import isqrt
from typing import NamedTuple

import numpy as np
from flint import arb

from compactproofs.kernel import Model
from compactproofs.kernel._enclosure import Ball

WEIGHTS = tuple(f.name for f in fields(Model) if f.name[:2] in ("W_", "b_"))

Rationals = np.ndarray  # dtype object, entries are Fractions


def rationals(values: np.ndarray) -> Rationals:
    """The exact value of every float."""
    flat = [Fraction(x) for x in np.asarray(values, dtype=np.float64).ravel().tolist()]
    result = np.empty(len(flat), dtype=object)
    result[:] = flat
    return result.reshape(np.shape(values))


class ExactTables(NamedTuple):
    """Fractions: ``scores[i, q, t]``, ``values[i, t, x]``, ``direct[q, x]``."""

    scores: Rationals
    values: Rationals
    direct: Rationals


def rational_root(square: Fraction) -> Fraction:
    """The root of a rational square."""
    root = Fraction(isqrt(square.numerator), isqrt(square.denominator))
    if root * root != square:
        raise ValueError(f"{square} is not the square of a rational number")
    return root


def exact_tables(model: Model) -> ExactTables:
    """The tables straight from the forward pass; the score's divisor must be rational."""
    W = {name: rationals(getattr(model, name)) for name in WEIGHTS}
    k, v = model.n_ctx, model.d_vocab
    root = rational_root(model.score_divisor_squared)
    scores = np.empty((k, v, v), dtype=object)
    values = np.empty((k, v, model.d_vocab_out), dtype=object)
    for i in range(k):
        for t in range(v):
            residual = W["W_E"][t] + W["W_pos"][i]
            key = residual.dot(W["W_K"]) + W["b_K"]
            values[i, t] = (residual.dot(W["W_V"]) + W["b_V"]).dot(W["W_O"]).dot(W["W_U"])
            for q in range(v):
                query = (W["W_E"][q] + W["W_pos"][k - 1]).dot(W["W_Q"]) + W["b_Q"]
                scores[i, q, t] = query.dot(key) / root
    direct = np.empty((v, model.d_vocab_out), dtype=object)
    for q in range(v):
        residual = W["W_E"][q] + W["W_pos"][k - 1] + W["b_O"]
        direct[q] = residual.dot(W["W_U"]) + W["b_U"]
    return ExactTables(scores, values, direct)


def misses(ball: Ball, truth: Rationals) -> int:
    """Entries of ``truth`` that the ball does not contain."""
    if ball.shape != truth.shape:
        raise ValueError(f"a ball of shape {ball.shape} cannot contain {truth.shape}")
    middles, radii = ball.mid.ravel().tolist(), ball.rad.ravel().tolist()
    return sum(
        abs(Fraction(mid) - x) > Fraction(rad)
        for mid, rad, x in zip(middles, radii, truth.ravel(), strict=True)
    )


def _fraction(x: arb) -> Fraction:
    mantissa, exponent = (int(part) for part in x.man_exp())
    return Fraction(mantissa) * Fraction(2) ** exponent


def ends(x: arb) -> tuple[Fraction, Fraction]:
    """The exact ends of an arb."""
    mid, rad = _fraction(x.mid()), _fraction(x.rad())
    return mid - rad, mid + rad
