"""The same tables in Arb ball arithmetic: slow, independent of float64, BLAS and our own exp.

Nothing is shared with ``_tables``: position and token are added before the projections, products
are taken in another order, and every entry is computed by python-flint at a chosen precision.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from flint import arb, arb_mat, ctx, fmpq
from jaxtyping import Float64

from ._model import Model


class ArbTables(NamedTuple):
    """Nested lists of ``arb``; see ``_tables.Tables`` for what they mean."""

    scores: list[list[list[arb]]]
    """``[i][q][t]``, in nats."""
    values: list[list[list[arb]]]
    """``[i][t][x]``, logits."""
    direct: list[list[arb]]
    """``[q][x]``, logits."""


@contextmanager
def arb_precision(bits: int) -> Iterator[None]:
    """Compute with ``bits`` of precision inside the block."""
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


def _exact(values: Float64[np.ndarray, "rows columns"]) -> arb_mat:
    return arb_mat([[arb(x) for x in row] for row in values.tolist()])


def _plus_row(matrix: arb_mat, row: Float64[np.ndarray, " columns"]) -> arb_mat:
    return matrix + _exact(np.broadcast_to(row, (matrix.nrows(), len(row))))


def arb_tables(model: Model, bits: int) -> ArbTables:
    """The tables of ``model`` at ``bits`` of precision. Cost: O(v k d (d + v)) arb operations."""
    with arb_precision(bits):
        embedded = [_plus_row(_exact(model.W_E), position) for position in model.W_pos]
        last = embedded[-1]
        divisor = arb(fmpq(*model.score_divisor_squared.as_integer_ratio())).sqrt()
        query = _plus_row(last * _exact(model.W_Q), model.b_Q)
        scores, values = [], []
        for residual in embedded:
            key = _plus_row(residual * _exact(model.W_K), model.b_K)
            scores.append([[s / divisor for s in row] for row in (query * key.transpose()).table()])
            value = _plus_row(residual * _exact(model.W_V), model.b_V)
            values.append((value * _exact(model.W_O) * _exact(model.W_U)).table())
        direct = _plus_row(_plus_row(last, model.b_O) * _exact(model.W_U), model.b_U)
        return ArbTables(scores, values, direct.table())
