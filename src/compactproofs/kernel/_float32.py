"""Float32 semantics: how far any float32 evaluation can act like other numbers than the real ones.

The theorems count words that are right for *all* numbers inside the tables, word by word. So a
float32 evaluation is covered by wider tables: the logarithm of a weight by ``L(q,t)``, values by
``e_o(t,i,x)``, direct logits by ``e_h(q,x)``, such that for each sequence and evaluation of the
family stated there are numbers inside whose logits are the computed ones (docs/theory.md section
5, T9, with the proof). ``_tables_arb`` computes the same in Arb.

Notation: ``|X|' = |X| + 2^-50`` covers what is flushed to zero, ``g(n) >= n u / (1 - n u)`` bounds
``n`` roundings of unit ``u = 2^-24``.
"""

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float64

from ._enclosure import Ball
from ._errors import SemanticsError
from ._ledger import Ledger
from ._model import Model

SEMANTICS: Final = ("real", "float32")
FLUSHED: Final = 2.0**-50
EXP_LOGARITHM: Final = 2.0**-15
"""What subtracting the largest score and the library's exp add to the logarithm of a weight."""
UNDERFLOW: Final = 2.0**-36
LARGEST: Final = 2.0**120
"""No sum of absolute values in an evaluation may exceed this, or it could overflow."""
MAX_ROUNDINGS: Final = 4096
DIVISOR_SQUARED: Final = (2.0**-48, 2.0**48)


class Envelope(NamedTuple):
    """Upper bounds on what float32 adds to the tables of ``_tables``."""

    scores: Float64[np.ndarray, "q t"]
    """``L``, in nats."""
    values: Float64[np.ndarray, "i t x"]
    """``e_o``, logits."""
    direct: Float64[np.ndarray, "q x"]
    """``e_h``, logits."""


def roundings(n: int) -> float:
    """``g(n) = n (2^-24 + 2^-34)``, a float64 number."""
    if n > MAX_ROUNDINGS:
        raise SemanticsError(
            f"float32 semantics covers up to {MAX_ROUNDINGS} roundings in a row, not {n}: a sum "
            "over d_model, d_head or n_ctx is too long; use --semantics real"
        )
    return n * (2.0**-24 + 2.0**-34)


def require_float32(model: Model) -> None:
    """Refuse weights that are not float32 numbers, and scales that float32 would not hold."""
    for name in (field for field in vars(model) if field[:2] in ("W_", "b_")):
        values = getattr(model, name)
        with np.errstate(over="ignore", under="ignore"):
            strange = np.argwhere(values.astype(np.float32).astype(np.float64) != values)
        if len(strange):
            value = values[tuple(strange[0])]
            raise SemanticsError(
                f"{name} holds {value!r}, which is not a float32 number: save the model in "
                "float32, or use --semantics real"
            )
    low, high = DIVISOR_SQUARED
    if not low <= model.score_divisor_squared <= high:
        raise SemanticsError(
            f"scores are divided by the root of {float(model.score_divisor_squared):.3g}: float32 "
            "semantics needs a divisor within 2^-24 .. 2^24; use --semantics real"
        )


def float32_envelope(model: Model, scale: Ball, ledger: Ledger) -> Envelope:
    """The envelope of ``model``; raises SemanticsError where an evaluation could overflow.

    scale: encloses ``1 / sigma``. Cost: O(v k d (d_head + x) + v^2 k d_head).
    """
    require_float32(model)
    k, v, d = model.n_ctx, model.d_vocab, model.W_E.shape[1]
    h, x = model.W_Q.shape[1], model.d_vocab_out

    def exact(values: Float64[np.ndarray, "..."]) -> Ball:
        return Ball.exact(values, ledger)

    def size(ball: Ball) -> Ball:
        """``|X|'``."""
        return ball.absolute() + exact(np.array(FLUSHED))

    def gain(n: int) -> Ball:
        """``1 + g(n)``."""
        return exact(np.array(1.0 + roundings(n)))

    def projected(rows: Ball, W: str, b: str) -> tuple[Ball, Ball]:
        """``y = r W + b`` and ``|y|' + e_y``."""
        weight, bias = exact(getattr(model, W)), exact(getattr(model, b))
        y = rows @ weight + bias
        sums = size(rows) @ size(weight) + size(bias)
        return y, size(y) + _in_range(sums) * exact(np.array(roundings(d + 2)))

    tokens, positions = exact(model.W_E), exact(model.W_pos)
    residual = (tokens[None] + positions[:, None]).reshape(k * v, d)
    at_query = residual[-v:]
    _in_range(size(residual))

    query, query_size = projected(at_query, "W_Q", "b_Q")
    key, key_size = projected(residual, "W_K", "b_K")
    with_errors = _in_range((query_size @ key_size.T) * gain(h + 4))
    _in_range(with_errors * scale)
    _in_range(query_size * scale)
    _in_range(key_size * scale)
    distance = (with_errors - query.absolute() @ key.absolute().T) * scale
    logarithm = (distance + exact(np.array(EXP_LOGARITHM))).upper()

    value, value_size = projected(residual, "W_V", "b_V")
    W_O, W_U = exact(model.W_O), exact(model.W_U)
    _in_range(value_size * exact(np.array(float(k))))  # weighted by at most 1, then divided
    head = value @ W_O
    head_sums = _in_range((value_size @ size(W_O)) * gain(2 * k + h + 6))
    head_size = size(head) + (head_sums - value.absolute() @ W_O.absolute())
    unembedded = _in_range((head_size @ size(W_U)) * gain(d + 1))
    values = unembedded - head.absolute() @ W_U.absolute()

    b_O, b_U = exact(model.b_O), exact(model.b_U)
    own = at_query + b_O
    own_sums = _in_range(size(at_query) + size(b_O))
    own_size = size(own) + own_sums * exact(np.array(roundings(h + 3)))
    own_unembedded = (own_size @ size(W_U)) * gain(d + 1)
    _in_range(own_unembedded + size(b_U))
    direct = (
        own_unembedded
        - own.absolute() @ W_U.absolute()
        + size(b_U) * exact(np.array(roundings(d + 1)))
        + unembedded.max(0) * exact(np.array(UNDERFLOW * k))
    )
    return Envelope(
        logarithm.reshape(v, k, v).max(axis=1), values.upper().reshape(k, v, x), direct.upper()
    )


def _in_range(sums: Ball) -> Ball:
    largest = float(sums.upper().max(initial=0.0))
    if largest > LARGEST:
        raise SemanticsError(
            f"a float32 evaluation may overflow: a sum of absolute values reaches {largest:.3g}, "
            "more than 2^120; rescale the weights, or use --semantics real"
        )
    return sums
