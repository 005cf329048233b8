"""Exact integer tables that enclose the real ones: the witness every theorem counts from.

Rounding happens once, here, outward. From the integers on everything is exact, so every checker,
in whatever arithmetic, counts the same (docs/theory.md section 1). A ``VerifiedTables`` is proof
that the integers enclose the tables of one model; only ``verify_tables`` makes one.
"""

from typing import Final, NamedTuple, final

import numpy as np
from flint import arb
from jaxtyping import Bool, Float64, Int32, Int64

from ._enclosure import Ball, exp_bounds
from ._errors import EnclosureError, MalformedError, OptionError, RejectedError
from ._float32 import SEMANTICS
from ._frozen import Immutable, frozen
from ._ledger import Ledger
from ._model import Model
from ._tables import Tables, enclose_tables
from ._tables_arb import arb_precision, arb_tables

MANTISSA_LIMIT: Final = 1 << 30
"""Bound on the size of every integer, so that weight times bracket stays within 2^62."""

_EXPONENT_LIMIT: Final = 1 << 22
_GRID_LIMIT: Final = 900

_MAX_DOUBTS: Final = 1 << 16
"""Entries that Arb is asked about; an honest prover leaves hardly any (see ``_MARGIN``)."""

# The prover rounds this far beyond its own enclosure, in units of the last place: the enclosure
# that another machine computes, a little wider or shifted, still fits in.
_MARGIN: Final = 0.125


class IntegerTables(NamedTuple):
    """Claimed enclosures of the tables of docs/theory.md section 2; untrusted until verified.

    With ``w_i(q,t) = exp(score(q,t,i) - shift[q])``:

        weight_low 2^weight_exponent <= w_i(q,t) <= weight_high 2^weight_exponent      [i, q, t]
        value_low 2^-grid <= o(t,i,x) <= value_high 2^-grid                            [i, t, x]
        direct_low 2^-grid <= h(q,x) <= direct_high 2^-grid                               [q, x]
    """

    weight_low: Int32[np.ndarray, "k v v"]
    weight_high: Int32[np.ndarray, "k v v"]
    weight_exponent: Int32[np.ndarray, "k v v"]
    value_low: Int32[np.ndarray, "k v x"]
    value_high: Int32[np.ndarray, "k v x"]
    direct_low: Int32[np.ndarray, "v x"]
    direct_high: Int32[np.ndarray, "v x"]
    shift: Float64[np.ndarray, " v"]
    """Near the largest score of each query, in nats: a factor common to a class is free."""
    grid: Int64[np.ndarray, "1"]
    """Values and direct logits are counted in units of ``2^-grid``."""


def integer_tables(model: Model, semantics: str = "real") -> IntegerTables:
    """Round the enclosures of ``model``'s tables outward to 30-bit integers (untrusted)."""
    require_semantics(semantics)
    tables = enclose_tables(model, Ledger(), semantics)
    shift = np.rint(tables.scores.upper().max(axis=(0, 2)))
    weight = exp_bounds(tables.scores - _column(shift, Ledger()))
    exponent = weight.upper_exponent - 29  # upper < 2, so the mantissa stays below 2^30
    low = np.ldexp(weight.lower, weight.lower_exponent - exponent)
    high = np.ldexp(weight.upper, 29)
    largest = max(
        float(np.abs(end).max())
        for ball in (tables.values, tables.direct)
        for end in (ball.lower(), ball.upper())
    )
    bits = 29 - int(np.frexp(largest)[1]) if largest > 0 else _GRID_LIMIT
    if bits < -_GRID_LIMIT:
        raise EnclosureError(f"logits reach {largest:.3g}, too large for the tables: rescale W_U")
    grid = min(max(bits, -_GRID_LIMIT), _GRID_LIMIT)
    return IntegerTables(
        weight_low=np.maximum(_floor(low), 0),
        weight_high=_ceil(high),
        weight_exponent=exponent.astype(np.int32),
        value_low=_floor(np.ldexp(tables.values.lower(), grid)),
        value_high=_ceil(np.ldexp(tables.values.upper(), grid)),
        direct_low=_floor(np.ldexp(tables.direct.lower(), grid)),
        direct_high=_ceil(np.ldexp(tables.direct.upper(), grid)),
        shift=shift,
        grid=np.array([grid]),
    )


def _column(shift: Float64[np.ndarray, " v"], ledger: Ledger) -> Ball:
    return Ball.exact(shift[None, :, None], ledger)


def _floor(x: Float64[np.ndarray, "..."]) -> Int32[np.ndarray, "..."]:
    return np.floor(x - _MARGIN).astype(np.int32)


def _ceil(x: Float64[np.ndarray, "..."]) -> Int32[np.ndarray, "..."]:
    return np.ceil(x + _MARGIN).astype(np.int32)


_SEAL = object()


@final
class VerifiedTables(Immutable):
    """Integer tables that enclose the tables of the model with digest ``model_sha256``."""

    __slots__ = ("claimed", "enclosing_cost", "model_sha256", "semantics")

    claimed: IntegerTables
    model_sha256: str
    semantics: str
    enclosing_cost: Ledger

    def __init__(
        self,
        claimed: IntegerTables,
        model_sha256: str,
        enclosing_cost: Ledger,
        semantics: str = "real",
        *,
        seal: object,
    ) -> None:
        """Only ``verify_tables`` holds the seal."""
        if seal is not _SEAL:
            raise TypeError("VerifiedTables come from verify_tables(model, tables) alone")
        self._assign(
            claimed=claimed,
            model_sha256=model_sha256,
            semantics=semantics,
            enclosing_cost=enclosing_cost,
        )

    @property
    def n_ctx(self) -> int:
        """Positions, k."""
        return self.claimed.weight_low.shape[0]

    @property
    def d_vocab(self) -> int:
        """Tokens, v."""
        return self.claimed.weight_low.shape[1]

    @property
    def d_vocab_out(self) -> int:
        """Outputs, x."""
        return self.claimed.direct_low.shape[1]

    def start_ledger(self) -> Ledger:
        """A ledger for one theorem, opened with what the enclosures cost."""
        ledger = Ledger()
        ledger.point(self.enclosing_cost.flops)
        ledger.radius(self.enclosing_cost.radius_flops)
        return ledger


def require_semantics(semantics: str) -> None:
    """Refuse semantics that are not one of ``SEMANTICS``."""
    if semantics not in SEMANTICS:
        raise OptionError(f"unknown semantics {semantics!r}: known are {', '.join(SEMANTICS)}")


def verify_tables(model: Model, claimed: IntegerTables, semantics: str = "real") -> VerifiedTables:
    """Prove that ``claimed`` encloses the tables of ``model``, or raise ``RejectedError``.

    semantics: of which tables, see ``enclose_tables``.

    Float64 enclosures decide almost every entry; those that stick out of the claimed interval are
    decided by Arb at 128 and 512 bits. Cost: that of ``enclose_tables`` and two comparisons an
    entry.
    """
    claimed = IntegerTables(*(frozen(array) for array in claimed))  # plain arrays from here on
    require_semantics(semantics)
    _check_form(model, claimed)
    ledger = Ledger()
    tables = enclose_tables(model, ledger, semantics)
    doubtful = _not_enclosed(tables, claimed, ledger)
    if sum(int(entries.sum()) for entries in doubtful.values()) > _MAX_DOUBTS:
        raise RejectedError(
            "the tables do not enclose the model's numbers: more than "
            f"{_MAX_DOUBTS} entries stick out of the float64 enclosures"
        )
    for bits in (128, 512):
        if not any(entries.any() for entries in doubtful.values()):
            break
        doubtful = _not_enclosed_by_arb(model, claimed, semantics, doubtful, bits)
    for name, entries in doubtful.items():
        if entries.any():
            where = ", ".join(str(int(i)) for i in np.argwhere(entries)[0])
            raise RejectedError(
                f"the {name} table does not enclose the model's number at [{where}]"
                f" ({int(entries.sum())} entries fail)"
            )
    return VerifiedTables(claimed, model.sha256, ledger, semantics, seal=_SEAL)


def _check_form(model: Model, claimed: IntegerTables) -> None:
    k, v, x = model.n_ctx, model.d_vocab, model.d_vocab_out
    shapes = {
        "weight": (k, v, v),
        "value": (k, v, x),
        "direct": (v, x),
        "shift": (v,),
        "grid": (1,),
    }
    dtypes = {"shift": np.float64, "grid": np.int64}
    for name, array in claimed._asdict().items():
        if array.dtype != (dtype := dtypes.get(name, np.int32)):
            raise MalformedError(
                f"tensor {name} has type {array.dtype}, not {np.dtype(dtype).name}"
            )
        if array.shape != (expected := shapes[name.split("_")[0]]):
            raise MalformedError(
                f"tensor {name} has shape {array.shape}, but this model needs {expected}"
            )
        if name not in ("shift", "grid", "weight_exponent") and (
            (array < -MANTISSA_LIMIT).any() or (array > MANTISSA_LIMIT).any()
        ):
            raise MalformedError(f"tensor {name} exceeds 2^30 in size")
    if (claimed.weight_low < 0).any():
        raise MalformedError("tensor weight_low is negative: an attention weight never is")
    if (np.abs(claimed.weight_exponent.astype(np.int64)) > _EXPONENT_LIMIT).any():
        raise MalformedError(f"tensor weight_exponent exceeds {_EXPONENT_LIMIT} in size")
    if abs(int(claimed.grid[0])) > _GRID_LIMIT:
        raise MalformedError(f"grid {int(claimed.grid[0])} exceeds {_GRID_LIMIT} in size")
    if not np.isfinite(claimed.shift).all():
        raise MalformedError("tensor shift holds NaN or infinity")


_Doubts = dict[str, Bool[np.ndarray, "..."]]


def _not_enclosed(tables: Tables, claimed: IntegerTables, ledger: Ledger) -> _Doubts:
    # Every scaled integer below is exact: 0, or of a size within 2^-900 .. 2^930. Clipping an
    # exponent decides nothing wrongly. At -900 it raises a number: conservative for a lower end,
    # and an upper end of at most 2^-870 is below a mantissa of [0.5, 2) either way. At +900 it
    # lowers one: conservative for an upper end, and a lower end of at least 2^900 is above it
    # either way.
    try:
        weight = exp_bounds(tables.scores - _column(claimed.shift, ledger))
    except EnclosureError as error:
        raise RejectedError(f"the shift does not suit the scores: {error}") from None

    def scaled(integers: Int32[np.ndarray, "..."], by: Int64[np.ndarray, "..."]) -> np.ndarray:
        return np.ldexp(integers.astype(np.float64), np.clip(by, -_GRID_LIMIT, _GRID_LIMIT))

    exponent = claimed.weight_exponent.astype(np.int64)
    down = -claimed.grid
    ledger.point(2 * (exponent.size + claimed.value_low.size + claimed.direct_low.size))
    return {
        "weight": (scaled(claimed.weight_low, exponent - weight.lower_exponent) > weight.lower)
        | (scaled(claimed.weight_high, exponent - weight.upper_exponent) < weight.upper),
        "value": (scaled(claimed.value_low, down) > tables.values.lower())
        | (scaled(claimed.value_high, down) < tables.values.upper()),
        "direct": (scaled(claimed.direct_low, down) > tables.direct.lower())
        | (scaled(claimed.direct_high, down) < tables.direct.upper()),
    }


def _not_enclosed_by_arb(
    model: Model, claimed: IntegerTables, semantics: str, doubtful: _Doubts, bits: int
) -> _Doubts:
    still = {name: entries.copy() for name, entries in doubtful.items()}
    exact = arb_tables(model, bits, semantics)
    down = -int(claimed.grid[0])
    with arb_precision(bits):
        for i, q, t in np.argwhere(doubtful["weight"]).tolist():
            number = (exact.scores[i][q][t] - arb(float(claimed.shift[q]))).exp()
            ends = claimed.weight_low[i, q, t], claimed.weight_high[i, q, t]
            exponent = int(claimed.weight_exponent[i, q, t])
            still["weight"][i, q, t] = not _between(*ends, exponent, number)
        for i, t, x in np.argwhere(doubtful["value"]).tolist():
            ends = claimed.value_low[i, t, x], claimed.value_high[i, t, x]
            still["value"][i, t, x] = not _between(*ends, down, exact.values[i][t][x])
        for q, x in np.argwhere(doubtful["direct"]).tolist():
            ends = claimed.direct_low[q, x], claimed.direct_high[q, x]
            still["direct"][q, x] = not _between(*ends, down, exact.direct[q][x])
    return still


def _between(low: np.integer, high: np.integer, exponent: int, number: arb) -> bool:
    # Comparisons of arb are true only if they hold for every real in the balls.
    return bool(arb((int(low), exponent)) <= number) and bool(number <= arb((int(high), exponent)))
