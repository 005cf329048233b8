"""The front of one layer with neurons: tables of its logits and of what reaches each neuron.

Subject: one layer, one head, ``m`` ReLU neurons (or none), read out at the last position, where the
residual before the neurons is ``mid``. With the neurons held apart,

    logit(x) = base(x) + sum_n R[n,x] relu(z_n),     z_n = mid W_in[:,n] + b_in[n],
    base(x)  = (mid + b_out) W_U[:,x] + b_U[x],      R[n,x] = W_out[n] . W_U[:,x],

and base and z are linear in ``mid``: the logits of an attention-only model that unembeds by
``[W_U | W_in]``. Its tables (docs/theory.md section 2) bound base and z alike:

    z_n = h(q,n) + sum_i w_i(q,t_i) o(t_i,i,n) / Z.

``b_out W_U`` is no float64 number in general. So the residual stream gets a second half, which
holds ``b_out`` at every position, is read by no query, key or value, and is unembedded by
``[W_U | 0]``: every stored number stays what it is.
"""

from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float64, Int64

from ._errors import OptionError
from ._integers import IntegerTables, VerifiedTables, verify_tables
from ._ledger import Counted, Ledger
from ._model import Model
from ._transformer import Transformer


def front_model(net: Transformer) -> Model:
    """The attention-only model whose outputs are the base logits, then the neurons' inputs.

    Refuses a transformer of several layers or heads.
    """
    block = net.blocks[0]
    if len(net.blocks) != 1 or block.n_heads != 1:
        raise OptionError(
            f"the theorem crosscoder-d is about one layer with one head, and this model has "
            f"{len(net.blocks)} layers of {block.n_heads} heads: use --theorem cells or brute-force"
        )
    v, d, k, m = net.d_vocab, net.d_model, net.n_ctx, block.d_mlp
    h = block.W_Q.shape[2]
    nothing = np.zeros((d, h))
    return Model(
        score_divisor_squared=net.score_divisor_squared,
        W_E=np.hstack([net.W_E, np.broadcast_to(block.b_out, (v, d))]),
        W_pos=np.hstack([net.W_pos, np.zeros((k, d))]),
        W_Q=np.vstack([block.W_Q[0], nothing]),
        W_K=np.vstack([block.W_K[0], nothing]),
        W_V=np.vstack([block.W_V[0], nothing]),
        W_O=np.hstack([block.W_O[0], np.zeros((h, d))]),
        W_U=np.block([[net.W_U, block.W_in], [net.W_U, np.zeros((d, m))]]),
        b_Q=block.b_Q[0],
        b_K=block.b_K[0],
        b_V=block.b_V[0],
        b_O=np.concatenate([block.b_O, np.zeros(d)]),
        b_U=np.concatenate([net.b_U, block.b_in]),
        attention_dir=net.attention_dir,
    )


class Half(NamedTuple):
    """Bounds on ``o`` and ``h`` of some outputs of the front, in units of ``2^-grid``."""

    value_low: Int64[np.ndarray, "k v n"]
    value_high: Int64[np.ndarray, "k v n"]
    direct_low: Int64[np.ndarray, "v n"]
    direct_high: Int64[np.ndarray, "v n"]


class Coefficients(NamedTuple):
    """``low 2^-bits <= R[n,x] <= high 2^-bits``, entries below ``2^(size - 1)`` in size."""

    low: Int64[np.ndarray, "m x"]
    high: Int64[np.ndarray, "m x"]
    bits: int


@final
class Front:
    """Verified tables of the front, and the coefficients behind it."""

    __slots__ = (
        "_exponent",
        "_weight_high",
        "_weight_low",
        "coefficients",
        "k",
        "ledger",
        "logits",
        "neurons",
        "v",
    )

    def __init__(self, tables: VerifiedTables, coefficients: Coefficients, ledger: Ledger) -> None:
        """The first outputs of ``tables`` are the logits, the others the neurons."""
        self.coefficients = coefficients
        self.ledger = ledger
        """What all the work from here on is entered into."""
        self.k, self.v = tables.n_ctx, tables.d_vocab
        self.logits = _half(tables, slice(0, self.x), self.ledger)
        self.neurons = _half(tables, slice(self.x, None), self.ledger)
        self._weight_low = Counted.of(tables.claimed.weight_low, self.ledger)
        self._weight_high = Counted.of(tables.claimed.weight_high, self.ledger)
        self._exponent = np.asarray(tables.claimed.weight_exponent, dtype=np.int64)

    @property
    def m(self) -> int:
        """Neurons."""
        return len(self.coefficients.low)

    @property
    def x(self) -> int:
        """Outputs."""
        return self.coefficients.low.shape[1]

    def scale(self, query: int, tokens: Int64[np.ndarray, " t"]) -> int:
        """The unit of a class: above each weight exponent of ``tokens`` and the query's slot."""
        top = int(self._exponent[-1, query, query])
        if self.k > 1 and tokens.size:
            top = max(top, int(self._exponent[:-1, query][:, tokens].max()))
        return top + self.k.bit_length() + 2

    def weighted(
        self,
        bracket: Int64[np.ndarray, "i t n"],
        query: int,
        positions: slice,
        tokens: Int64[np.ndarray, " t"],
        scale: int,
    ) -> Int64[np.ndarray, "i t n"]:
        """Integers not below ``w_i(q,t) bracket 2^-scale`` for brackets of at most ``2^32``.

        A weight is at most ``2^30``, so a product at most ``2^62``; ``scale`` exceeds the exponents
        by ``bits + 2`` with ``k < 2^bits``: a sum of ``k`` terms stays below ``2^61``.
        """
        low = self._weight_low[positions, query][:, tokens, None]
        high = self._weight_high[positions, query][:, tokens, None]
        by = scale - self._exponent[positions, query][:, tokens, None]
        product = np.where(bracket >= 0, high, low) * bracket
        return -((-product) >> np.minimum(by, 63))


def verified_front(net: Transformer, claimed: IntegerTables) -> Front:
    """Verify the tables; raises ``RejectedError`` or ``MalformedError`` if they do not hold."""
    tables = verify_tables(front_model(net), claimed)
    ledger = tables.start_ledger()
    return Front(tables, output_coefficients(net, ledger), ledger)


def _half(tables: VerifiedTables, outputs: slice, ledger: Ledger) -> Half:
    claimed = tables.claimed
    both = (claimed.value_low, claimed.value_high, claimed.direct_low, claimed.direct_high)
    return Half(*(Counted.of(table[..., outputs], ledger) for table in both))


def coefficient_size(m: int) -> int:
    """Bits that a coefficient may have, so that no sum over ``m`` neurons leaves int64."""
    return 28 - m.bit_length()


def output_coefficients(net: Transformer, ledger: Ledger) -> Coefficients:
    """``R = W_out W_U`` by exact integers, rounded outward to the finest unit that the size allows.

    At most 28 bits after the point: finer ones would not tell logits of the front apart.
    Cost: ``m x (2 d - 1)`` operations on integers.
    """
    block = net.blocks[0]
    left, left_exponent = exact_integers(block.W_out)
    right, right_exponent = exact_integers(net.W_U)
    exact = left.dot(right)
    largest = max((abs(entry) for entry in exact.flat), default=0).bit_length()
    exponent = left_exponent + right_exponent
    size = coefficient_size(block.d_mlp)
    if size < 8:
        raise OptionError(
            f"crosscoder-d takes fewer than {block.d_mlp} neurons: use --theorem cells or "
            "brute-force"
        )
    bits = min(28, size - 1 - (largest + exponent))
    limbs = -(-largest // 64) or 1
    ledger.point(exact.size * (2 * net.d_model - 1) * limbs)

    def rounded(up: bool) -> Int64[np.ndarray, "m x"]:
        sign = -1 if up else 1
        scaled = [sign * _floor_scaled(sign * entry, exponent + bits) for entry in exact.flat]
        return Counted.of(np.array(scaled, dtype=np.int64).reshape(exact.shape), ledger)

    return Coefficients(rounded(up=False), rounded(up=True), bits)


def exact_integers(values: Float64[np.ndarray, "rows columns"]) -> tuple[np.ndarray, int]:
    """Python integers and an exponent ``e`` with ``values = integers 2^e``, exactly."""
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    trailing = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    whole = whole >> np.maximum(trailing, 0)
    exponent = exponent.astype(np.int64) - 53 + trailing
    used = exponent[whole != 0]
    least = int(used.min()) if used.size else 0
    integers = np.empty(values.shape, dtype=object)
    for at, number in np.ndenumerate(whole):
        integers[at] = int(number) << (int(exponent[at]) - least) if number else 0
    return integers, least


def _floor_scaled(number: int, by: int) -> int:
    return number << by if by >= 0 else number >> -by
