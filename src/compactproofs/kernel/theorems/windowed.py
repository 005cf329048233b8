"""T6, the windowed theorem: tokens near the label as they are, all others by prefix extremes.

Theorem. Centre ``h(q,.)`` and ``o(t,i,.)`` over the outputs (a shift common to all logits changes
nothing). With ``T_i(q,t,x) = w_i(q,t) (h(q,x) + o(t,i,x))`` the function of T4 is
``f_i(t) = T_i(q,t,x) - T_i(q,t,m)``. In a class with label ``m``, for a window ``g >= 1``:

    y_i(t) = T_i(q,t,x) - T_i(q,t,m)                                         for t > m - g,
    y_i(t) = max_{t' <= m-g} T_i(q,t',x) - min_{t' <= m-g} T_i(q,t',m)       for t <= m - g

bound ``f_i(t)`` from above, and T5 (``_slack``) counts from them, the far tokens of a letter in one
column. Any window is sound, for any task; a wider one is tighter and longer.

Proof: docs/theory.md, T4 to T6. Cost: O(v^2 k x) for the products and their prefix extremes,
O(v^2 g k x) for the classes, and counting as in ``additive`` with the at most ``g + 2`` columns of
a position for its v: O(N + C log g) and O(k L min(g, L)) a row, with ``R <= v^2 x`` rows.
"""

from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float64, Int, Int32, Int64

from .._claim import ClassCount, Proved, conclude, require_fit
from .._columns import columns
from .._errors import MalformedError, OptionError
from .._integers import VerifiedTables
from .._ledger import Counted, Ledger
from .._scaled import DEEPEST, in_units_down, in_units_up, scaled_down, scaled_up
from .._slack import Terms, wrong_words
from .._tables import unexplained_dimension
from .._tasks import ClassAutomaton, Task
from .._tick import Tick, no_tick
from .._witness import require_array
from .additive import MAX_BINS

MAX_WINDOW = 65536


@final
@dataclass(frozen=True)
class WindowedOptions:
    """How many tokens below the label are treated one by one, and how finely slack is counted."""

    window: int = 8
    bins: int = 256

    def __post_init__(self) -> None:
        """Refuse a window outside ``1 .. MAX_WINDOW`` and bins outside ``1 .. MAX_BINS``."""
        require_window(self.window)
        if type(self.bins) is not int or not 1 <= self.bins <= MAX_BINS:
            raise OptionError(f"bins = {self.bins} must be from 1 to {MAX_BINS}")


def require_window(window: int) -> None:
    """Refuse a window outside ``1 .. MAX_WINDOW``."""
    if type(window) is not int or not 1 <= window <= MAX_WINDOW:
        raise OptionError(f"window = {window} must be from 1 to {MAX_WINDOW}")


class WindowWitness(NamedTuple):
    """A window for each class, in place of the option's one window for all."""

    window: Int32[np.ndarray, "q m"]


def windows(
    witness: WindowWitness | None, window: int, v: int, outputs: int
) -> Int[np.ndarray, "q m"]:
    """The window of each class: the witness's, or ``window`` for all."""
    if witness is None:
        return np.full((v, outputs), window)
    chosen = require_array("window", witness.window, np.int32, (v, outputs))
    if (chosen < 1).any():
        raise MalformedError(f"tensor window holds {int(chosen.min())}: windows are at least 1")
    return chosen


def windowed(
    tables: VerifiedTables,
    task: Task,
    options: WindowedOptions,
    tick: Tick = no_tick,
    witness: WindowWitness | None = None,
) -> Proved:
    """Prove a lower bound on the accuracy by the theorem above."""
    require_fit(task, tables)
    window = windows(witness, options.window, task.v, tables.d_vocab_out)
    ledger = tables.start_ledger()
    products = Products(tables, ledger)
    by_class: list[ClassCount] = []
    in_order = sorted(task.classes(), key=itemgetter(0))
    for query, classes in groupby(in_order, key=itemgetter(0)):
        tick(query, task.v)
        row = products.of_query(query)
        for _, label, words in classes:
            far = min(label - int(window[query, label]), task.v - 1)
            terms = row.terms(label, words, far)
            wrong = min(words.size, wrong_words(terms, words, options.bins, ledger))
            by_class.append(ClassCount(query, label, words.size, words.size - wrong))
    return conclude(
        theorem="windowed",
        options=asdict(options),
        tables=tables,
        task=task,
        by_class=by_class,
        undecided=task.total - sum(part.correct for part in by_class),
        unexplained_dimension=unexplained_dimension(task.v, task.k, tables.d_vocab_out),
        ledger=ledger,
        witness=witness,
    )


@final
class Products:
    """The products ``T_i(q,t,x)``, formed query by query."""

    __slots__ = ("_direct_high", "_direct_low", "_ledger", "_tables", "_value_high", "_value_low")

    def __init__(self, tables: VerifiedTables, ledger: Ledger) -> None:
        """Centre the logits of each row, by an integer near the middle. Cost: O(v k x)."""
        claimed = tables.claimed

        def centred(
            low: Int[np.ndarray, "*rows x"], high: Int[np.ndarray, "*rows x"]
        ) -> tuple[Counted, Counted]:
            lower, upper = Counted.of(low, ledger), Counted.of(high, ledger)
            centre = upper.sum(axis=-1, keepdims=True) // upper.shape[-1]
            return lower - centre, upper - centre

        self._tables, self._ledger = tables, ledger
        self._value_low, self._value_high = centred(claimed.value_low, claimed.value_high)
        self._direct_low, self._direct_high = centred(claimed.direct_low, claimed.direct_high)

    def of_query(self, query: int) -> "QueryProducts":
        """The products of one query. Cost: O(v k x)."""
        claimed = self._tables.claimed
        exponent = claimed.weight_exponent[:, query].astype(np.int64)
        last = len(exponent) - 1
        top = int(exponent[last, query])
        if last:
            top = max(top, int(exponent[:last].max()))

        def products(
            at: Int64[np.ndarray, " i"] | slice, tokens: Int64[np.ndarray, " t"] | slice
        ) -> tuple[Counted, Counted]:
            high = self._value_high[at][:, tokens] + self._direct_high[query]
            low = self._value_low[at][:, tokens] + self._direct_low[query]
            w_low = Counted.of(claimed.weight_low[at, query][:, tokens, None], self._ledger)
            w_high = Counted.of(claimed.weight_high[at, query][:, tokens, None], self._ledger)
            by = exponent[at][:, tokens, None] - top
            upper = Counted.of(np.where(high >= 0, w_high, w_low), self._ledger) * high
            lower = Counted.of(np.where(low >= 0, w_low, w_high), self._ledger) * low
            return scaled_down(lower, by), scaled_up(upper, by)  # type: ignore[return-value]

        low, high = products(slice(0, last), slice(None))
        own_low, own_high = products(slice(last, last + 1), np.array([query]))
        return QueryProducts(
            low,
            high,
            np.minimum.accumulate(low, axis=1),
            np.maximum.accumulate(high, axis=1),
            own_low[0, 0],
            own_high[0, 0],
            exponent[:last] - top,
            int(exponent[last, query]) - top,
            self._tables.n_ctx.bit_length() + 2,
        )


class QueryProducts(NamedTuple):
    """Enclosures of ``T_i(q,t,x)`` for one query, relative to its largest weight exponent."""

    low: Float64[np.ndarray, "i t x"]
    high: Float64[np.ndarray, "i t x"]
    prefix_low: Float64[np.ndarray, "i t x"]
    """Minima over the tokens up to ``t``."""
    prefix_high: Float64[np.ndarray, "i t x"]
    own_low: Float64[np.ndarray, " x"]
    """The query's own position."""
    own_high: Float64[np.ndarray, " x"]
    exponent: Int64[np.ndarray, "i t"]
    own_exponent: int
    headroom: int

    def terms(self, label: int, words: ClassAutomaton, far: int) -> Terms:
        """The bounds of a class; tokens up to ``far`` share theirs. Cost: O(k g x).

        The class's unit lies ``headroom`` bits above its largest weight exponent, so that a
        product is at most ``2^62 2^-headroom`` units and a sum of ``k`` differences below 2^62.
        """
        near, letter_of, multiplicity, has_far = columns(words, far)
        highest = self.own_exponent
        for among in (self.exponent[:, near], self.exponent[:, : far + 1] if has_far else None):
            if among is not None and among.size:
                highest = max(highest, int(among.max()))
        unit = max(highest, DEEPEST) + self.headroom
        wrong = [x for x in range(len(self.own_high)) if x != label]
        at_query = in_units_up(self.own_high[wrong], unit) - in_units_down(
            self.own_low[label : label + 1], unit
        )
        before = in_units_up(self.high[:, near][:, :, wrong], unit) - in_units_down(
            self.low[:, near, label][:, :, None], unit
        )
        if has_far:
            at = slice(far, far + 1)
            shared = in_units_up(self.prefix_high[:, at][:, :, wrong], unit) - in_units_down(
                self.prefix_low[:, at, label][:, :, None], unit
            )
            copies = [shared] * (len(letter_of) - len(near))
            before = Counted.joined([before, *copies], axis=1)
        return Terms(at_query, before, letter_of, multiplicity)
