"""T4, the additive margin: being right is the sign of a sum of one function per position.

For a query ``q``, a label ``m`` and another output ``x``, multiplying the difference of the two
logits by the softmax denominator ``Z > 0`` gives (docs/theory.md section 4)

    Z (logit(x) - logit(m)) = sum_i f_i(t_i),
    f_i(t) = w_i(q,t) [ h(q,x) - h(q,m) + o(t,i,x) - o(t,i,m) ],

so a sequence is right against ``x`` if and only if the sum is negative. Here ``f_i(t)`` is bounded
from above and below by integers in a unit of ``2^(scale - grid)``, exactly and outward.

No overflow: a bracket of four grid numbers is at most ``2^32`` in size, a weight at most ``2^30``,
their product at most ``2^62``. ``scale`` exceeds every weight exponent in use by at least
``bits + 2`` with ``k < 2^bits``, so that a term is at most ``2^(60 - bits) + 1`` and a sum of
``k`` terms below ``2^61``.
"""

from typing import final

import numpy as np
from jaxtyping import Int, Int64

from ._integers import VerifiedTables
from ._ledger import Counted, Ledger


@final
class Margins:
    """Integer bounds on ``f_i(t)`` for one label against every other output."""

    __slots__ = (
        "_direct_high",
        "_direct_low",
        "_exponent",
        "_headroom",
        "_value_high",
        "_value_low",
        "_weight_high",
        "_weight_low",
        "outputs",
    )

    def __init__(self, tables: VerifiedTables, label: int, ledger: Ledger) -> None:
        """Form the differences of logits against ``label``. Cost: O(v k x)."""
        claimed = tables.claimed
        self.outputs = tuple(x for x in range(tables.d_vocab_out) if x != label)
        """The wrong outputs ``x``, in the order of the last axis of every result."""

        def difference(
            a: Int[np.ndarray, "*shape x"], b: Int[np.ndarray, "*shape x"]
        ) -> Int64[np.ndarray, "*shape y"]:
            wrong = Counted.of(a[..., list(self.outputs)], ledger)
            return wrong - b[..., label, None].astype(np.int64)

        self._value_high = difference(claimed.value_high, claimed.value_low)
        self._value_low = difference(claimed.value_low, claimed.value_high)
        self._direct_high = difference(claimed.direct_high, claimed.direct_low)
        self._direct_low = difference(claimed.direct_low, claimed.direct_high)
        self._weight_high = Counted.of(claimed.weight_high, ledger)
        self._weight_low = Counted.of(claimed.weight_low, ledger)
        self._exponent = Counted.of(claimed.weight_exponent, ledger)
        self._headroom = tables.n_ctx.bit_length() + 2

    def scale(self, query: int, tokens: Int[np.ndarray, " t"]) -> int:
        """The class's unit: above every weight exponent of ``tokens`` and of the query's slot."""
        top = int(self._exponent[-1, query, query])
        if len(self._exponent) > 1 and tokens.size:
            top = max(top, int(self._exponent[:-1, query][:, tokens].max()))
        return top + self._headroom

    def upper(
        self, query: int, positions: slice, tokens: Int[np.ndarray, " t"], scale: int
    ) -> Int64[np.ndarray, "i t x"]:
        """Integers ``y >= f_i(t) 2^(grid - scale)`` for each position, token and wrong output."""
        bracket = self._value_high[positions][:, tokens] + self._direct_high[query]
        low = self._weight_low[positions, query][:, tokens, None]
        high = self._weight_high[positions, query][:, tokens, None]
        by = scale - self._exponent[positions, query][:, tokens, None]
        return _shift_up(np.where(bracket >= 0, high, low) * bracket, by)

    def of_sequences(
        self, tokens: Int[np.ndarray, "n k"]
    ) -> tuple[Int64[np.ndarray, "n x"], Int64[np.ndarray, "n x"]]:
        """Lower and upper bounds on ``sum_i f_i(t_i)``, each sequence in a unit of its own.

        The sequences must have this label. Only the sign of a result means anything.
        """
        n, k = tokens.shape
        positions = np.broadcast_to(np.arange(k), (n, k))
        query = tokens[:, -1]
        at = (positions, np.broadcast_to(query[:, None], (n, k)), tokens)
        exponent = self._exponent[at]
        by = (exponent.max(axis=1, keepdims=True) + self._headroom - exponent)[:, :, None]
        low, high = self._weight_low[at][:, :, None], self._weight_high[at][:, :, None]
        above = self._value_high[positions, tokens] + self._direct_high[query][:, None]
        below = self._value_low[positions, tokens] + self._direct_low[query][:, None]
        upper = _shift_up(np.where(above >= 0, high, low) * above, by).sum(axis=1)
        lower = _shift_down(np.where(below >= 0, low, high) * below, by).sum(axis=1)
        return lower, upper


def _shift_up(
    product: Int64[np.ndarray, "..."], by: Int64[np.ndarray, "..."]
) -> Int64[np.ndarray, "..."]:
    """``ceil(product / 2^by)`` for products of at most ``2^62``, which 63 bits shift out."""
    return -((-product) >> np.minimum(by, 63))


def _shift_down(
    product: Int64[np.ndarray, "..."], by: Int64[np.ndarray, "..."]
) -> Int64[np.ndarray, "..."]:
    """``floor(product / 2^by)``; see ``_shift_up``."""
    return product >> np.minimum(by, 63)
