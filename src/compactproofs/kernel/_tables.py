"""Weights to tables: what a one-layer, one-head, attention-only transformer computes.

With ``q = t_{k-1}`` the query, read out at the last position (docs/theory.md section 2):

    score(q,t,i) = A[q,t] + B[q,i]                                     w_i(q,t) = exp(score)
    o(t,i,x)     = F[t,x] + G[i,x]
    h(q,x)       = (E[q] + P[k-1] + b_O) U[:,x] + b_U[x]
    logit(x)     = h(q,x) + sum_i w_i(q,t_i) o(t_i,i,x) / sum_i w_i(q,t_i)

where, with ``query(q) = ((E[q] + P[k-1]) Q + b_Q) / sqrt(d_head)``,

    A[q,t] = query(q) (E[t] K + b_K)        B[q,i] = query(q) (P[i] K)             the QK circuit
    F[t,x] = (E[t] V + b_V) O U[:,x]        G[i,x] = P[i] V O U[:,x]               the OV circuit.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from ._enclosure import Ball, check_arithmetic, reciprocal_sqrt
from ._errors import ModelError
from ._float32 import float32_envelope
from ._ledger import Ledger
from ._model import Model

_MAX_ENTRIES = 1 << 24  # about 2 GB while the tables are made


class Tables(NamedTuple):
    """Enclosures of the real tables of one model."""

    scores: Ball
    """``[i, q, t]``, in nats."""
    values: Ball
    """``[i, t, x]``, logits."""
    direct: Ball
    """``[q, x]``, logits."""


def enclose_tables(model: Model, ledger: Ledger, semantics: str = "real") -> Tables:
    """The tables of ``model`` in float64 enclosures.

    semantics: ``real``, or ``float32`` for tables that enclose, besides the real numbers, those
    that any float32 evaluation acts like (``_float32``).

    Cost: O(v d (d_head + x) + v^2 d_head + v x d) multiplications and O(v^2 k + v k x) additions.
    """
    check_arithmetic()
    entries = model.n_ctx * model.d_vocab * max(model.d_vocab, model.d_vocab_out)
    if entries > _MAX_ENTRIES:
        raise ModelError(
            f"the tables of this model have {entries} entries, more than the {_MAX_ENTRIES} that "
            "this version holds in memory: prove a model with a smaller vocabulary or context"
        )

    def exact(values: Float64[np.ndarray, "..."]) -> Ball:
        return Ball.exact(values, ledger)

    tokens, positions = exact(model.W_E), exact(model.W_pos)
    at_query = tokens + positions[-1:]
    scale = reciprocal_sqrt(model.score_divisor_squared, ledger)
    query = (at_query @ exact(model.W_Q) + exact(model.b_Q)) * scale
    key_token = tokens @ exact(model.W_K) + exact(model.b_K)
    key_position = positions @ exact(model.W_K)
    qk_token = query @ key_token.T
    qk_position = query @ key_position.T

    unembed = exact(model.W_U)
    value_to_logit = exact(model.W_O) @ unembed
    ov_token = (tokens @ exact(model.W_V) + exact(model.b_V)) @ value_to_logit
    ov_position = (positions @ exact(model.W_V)) @ value_to_logit
    direct = (at_query + exact(model.b_O)) @ unembed + exact(model.b_U)
    tables = Tables(
        scores=qk_token[None] + qk_position.T[:, :, None],
        values=ov_token[None] + ov_position[:, None, :],
        direct=direct,
    )
    if semantics == "real":
        return tables
    around = float32_envelope(model, scale, ledger)
    return Tables(*(ball.widened(by) for ball, by in zip(tables, around, strict=True)))


def unexplained_dimension(model_v: int, model_k: int, outputs: int) -> int:
    """Numbers that a proof from the full tables treats case by case: A, B, F, G and H.

    ``v^2 + v k + v x + k x + v x``, that is ``3 v^2 + 2 v k`` when the outputs are the tokens.
    """
    v, k, x = model_v, model_k, outputs
    return v * v + v * k + v * x + k * x + v * x
