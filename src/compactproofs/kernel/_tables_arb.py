"""The same tables in Arb ball arithmetic: slow, independent of float64, BLAS and our own exp.

Nothing is shared with ``_tables``: position and token are added before the projections, products
are taken in another order, and every entry is computed by python-flint at a chosen precision.
"""

from collections.abc import Callable, Iterator
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


def arb_tables(model: Model, bits: int, semantics: str = "real") -> ArbTables:
    """The tables of ``model`` at ``bits`` of precision; of ``float32`` semantics, widened.

    Cost: O(v k d (d + v)) arb operations.
    """
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
        tables = ArbTables(scores, values, direct.table())
        return tables if semantics == "real" else _widened(model, tables, embedded, divisor)


def _widened(model: Model, tables: ArbTables, embedded: list[arb_mat], divisor: arb) -> ArbTables:
    """Every number of ``tables`` with the radius of docs/theory.md section 5 around it."""
    k, (d, h) = model.n_ctx, model.W_Q.shape
    flushed, unit = arb((1, -50)), arb((1, -24)) + arb((1, -34))

    def sizes(matrix: arb_mat, more: arb | int = flushed) -> arb_mat:
        return _entrywise(matrix, lambda x: abs(x) + more)

    def sums_of_projection(rows: arb_mat, W: arb_mat, b: arb_mat) -> tuple[arb_mat, arb_mat]:
        y = rows * W + b
        error = (sizes(rows) * sizes(W) + sizes(b)) * ((d + 2) * unit)
        return y, sizes(y) + error

    def bias(values: Float64[np.ndarray, " columns"]) -> arb_mat:
        return _exact(np.broadcast_to(values, (model.d_vocab, len(values))))

    query, query_size = sums_of_projection(embedded[-1], _exact(model.W_Q), bias(model.b_Q))
    W_O, W_U = _exact(model.W_O), _exact(model.W_U)
    logarithm: list[list[arb]] = []
    values, largest = [], None
    for position, residual in enumerate(embedded):
        key, key_size = sums_of_projection(residual, _exact(model.W_K), bias(model.b_K))
        distance = query_size * key_size.transpose() * (1 + (h + 4) * unit)
        distance = (distance - sizes(query, 0) * sizes(key, 0).transpose()) / divisor
        rows = distance.table()
        logarithm = [
            list(map(arb.max, *pair)) for pair in zip(logarithm or rows, rows, strict=True)
        ]
        value, value_size = sums_of_projection(residual, _exact(model.W_V), bias(model.b_V))
        head = value * W_O
        head_sums = value_size * sizes(W_O) * (1 + (2 * k + h + 6) * unit)
        head_size = sizes(head) + head_sums - sizes(value, 0) * sizes(W_O, 0)
        out = head_size * sizes(W_U) * (1 + (d + 1) * unit)
        error = (out - sizes(head, 0) * sizes(W_U, 0)).table()
        values.append(_around(tables.values[position], error))
        for row in out.table():
            largest = row if largest is None else list(map(arb.max, largest, row))
    own = embedded[-1] + bias(model.b_O)
    own_size = sizes(own) + (sizes(embedded[-1]) + sizes(bias(model.b_O))) * ((h + 3) * unit)
    error = own_size * sizes(W_U) * (1 + (d + 1) * unit) - sizes(own, 0) * sizes(W_U, 0)
    error = (error + sizes(bias(model.b_U)) * ((d + 1) * unit)).table()
    for row in error:
        row[:] = [e + a * k * arb((1, -36)) for e, a in zip(row, largest or [], strict=True)]
    logarithm = [[entry + arb((1, -15)) for entry in row] for row in logarithm]
    scores = [_around(table, logarithm) for table in tables.scores]
    return ArbTables(scores, values, _around(tables.direct, error))


def _entrywise(matrix: arb_mat, function: Callable[[arb], arb]) -> arb_mat:
    return arb_mat([[function(x) for x in row] for row in matrix.table()])


def _around(table: list[list[arb]], radius: list[list[arb]]) -> list[list[arb]]:
    """Balls that hold every number within ``radius`` of a number of ``table``."""
    return [
        [x + arb(0, r.abs_upper()) for x, r in zip(row, by, strict=True)]
        for row, by in zip(table, radius, strict=True)
    ]
