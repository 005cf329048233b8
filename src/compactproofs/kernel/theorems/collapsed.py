"""T7, the collapsed theorems: one bound for all wrong outputs together.

Both bound ``f_i(t)`` of T4, for every wrong output ``x`` at once, by ``y_i(t) = w_i(q,t) c`` with a
bracket ``c`` that does not depend on ``x``; T5 (``_slack``) then counts from a single joint table.
With ``pi_m[x] = max_i (G[i,x] - G[i,m])``:

* **collapsed-cubic**: ``dH(q,m) = max_{x != m} (H[q,x] - H[q,m])`` and
  ``rho_m(t) = max_{x != m} (F[t,x] - F[t,m] + pi_m[x])``; every token ``t != m`` has the bracket
  ``dH(q,m) + rho_m(t)``, the token ``m`` the joint
  ``max_{x != m} (H[q,x] - H[q,m] + F[m,x] - F[m,m] + pi_m[x])``.
  Cost: O(v^2 x + v k x) for the brackets, O(v^3 k) for the classes, and counting at most one row
  of ``k v`` numbers a class, as in ``additive``: O(v^2 k (v log v + L min(v, L))).

* **collapsed-subcubic**: any row ``mu[x]`` (here the mean of H) and
  ``dH[q] = max_x (H[q,x] - mu[x]) - min_x (H[q,x] - mu[x])``,
  ``D[t] = max_x F[t,x] - min_x F[t,x]``, ``r0[m] = max_{x != m} (mu[x] - mu[m] + pi_m[x])`` and
  ``rm[m] = max_{x != m} (mu[x] - mu[m] + F[m,x] - F[m,m] + pi_m[x])``: tokens ``t > m - g`` other
  than ``m`` have the bracket ``dH[q] + r0[m] + D[t]``, the token ``m`` has ``dH[q] + rm[m]``, and
  all far tokens ``t <= m - g`` share the bound

      max_{t <= m-g} w_i(q,t) (dH[q] + D[t])  +  r0[m] W,

  ``W`` the largest ``w_i(q,t)`` among them if ``r0[m] > 0``, else the smallest.
  Cost: O(v^2 k + v x (k + v)) for the parts, O(v^2 g k) for the classes, and counting at most one
  row a class on at most ``g + 2`` columns a position: O(v^2 k (g log g + L min(g, L))).

Unexplained dimension: collapsed-cubic reads the same tables case by case as cubic,
``v^2 + v k + v x + k x + v x``. collapsed-subcubic replaces H by ``mu`` and ``dH`` and F by ``D``
and its label rows; it still reads A and B, and G at the labels:
``v^2 (A) + v k (B) + x + v (mu, dH) + v + v x (D, F[m,.]) + k x (G)``.

Proof: docs/theory.md, T4, T5 and T7.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float64, Int64

from .._claim import ClassCount, Proved, conclude, require_fit
from .._columns import columns
from .._errors import OptionError
from .._integers import VerifiedTables
from .._ledger import Counted, Ledger
from .._scaled import DEEPEST, in_units_up, scaled_down, scaled_up
from .._slack import Terms, wrong_words
from .._split import SplitTables, largest_difference
from .._tables import unexplained_dimension
from .._tasks import ClassAutomaton, Task
from .._tick import Tick, no_tick
from .additive import MAX_BINS
from .windowed import WindowWitness, require_window, windows


@final
@dataclass(frozen=True)
class CollapsedCubicOptions:
    """How finely slack is counted."""

    bins: int = 256

    def __post_init__(self) -> None:
        """Refuse bins outside ``1 .. MAX_BINS``."""
        if type(self.bins) is not int or not 1 <= self.bins <= MAX_BINS:
            raise OptionError(f"bins = {self.bins} must be from 1 to {MAX_BINS}")


@final
@dataclass(frozen=True)
class CollapsedSubcubicOptions:
    """How many tokens below the label are treated one by one, and how finely slack is counted."""

    window: int = 16
    bins: int = 256

    def __post_init__(self) -> None:
        """Refuse a window outside ``1 .. MAX_WINDOW`` and bins outside ``1 .. MAX_BINS``."""
        require_window(self.window)
        if type(self.bins) is not int or not 1 <= self.bins <= MAX_BINS:
            raise OptionError(f"bins = {self.bins} must be from 1 to {MAX_BINS}")


def collapsed_cubic(
    tables: VerifiedTables,
    task: Task,
    options: CollapsedCubicOptions,
    tick: Tick = no_tick,
    witness: None = None,
) -> Proved:
    """Prove a lower bound on the accuracy by the first theorem above; it takes no witness."""
    require_fit(task, tables)
    ledger = tables.start_ledger()
    split = SplitTables(tables, ledger)
    rest = largest_difference(split.H_high, split.H_low)  # [q, m]
    weights = Weights(tables, ledger)

    def counts() -> Iterator[ClassCount]:
        labels = len(set(task.automaton.label.tolist()))
        for done, (label, classes) in enumerate(groupby(task.classes(), key=itemgetter(1))):
            tick(done, labels)
            wrong = split.wrong(label)
            path = split.position_path(label)[wrong]
            rows = split.F_high[:, wrong] - split.F_low[:, label, None] + path  # [t, x]
            bracket = _largest(rows) + 0  # rho_m(t)
            joint = None
            if label < task.v:
                direct = split.H_high[:, wrong] - split.H_low[:, label, None]
                joint = _largest(direct + rows[label])  # [q]
            for query, _, words in classes:
                own = bracket + rest[query, label]
                if joint is not None:
                    own[label] = joint[query]
                terms = weights.class_terms(query, words, own)
                wrong_count = min(words.size, wrong_words(terms, words, options.bins, ledger))
                yield ClassCount(query, label, words.size, words.size - wrong_count)

    by_class = list(counts())
    return conclude(
        theorem="collapsed-cubic",
        options=asdict(options),
        tables=tables,
        task=task,
        by_class=by_class,
        undecided=task.total - sum(part.correct for part in by_class),
        unexplained_dimension=unexplained_dimension(task.v, task.k, tables.d_vocab_out),
        ledger=ledger,
    )


def _largest(rows: Int64[np.ndarray, "r x"]) -> Int64[np.ndarray, " r"]:
    """The maximum of each row; below every number in use if there is no wrong output."""
    return rows.max(axis=1) if rows.shape[1] else rows.sum(axis=1) - (1 << 31)


@final
class Weights:
    """Weights times brackets, in the unit of a class."""

    __slots__ = ("_exponent", "_headroom", "_high", "_ledger", "_low")

    def __init__(self, tables: VerifiedTables, ledger: Ledger) -> None:
        """Keep the weights of the verified tables."""
        claimed = tables.claimed
        self._low, self._high = claimed.weight_low, claimed.weight_high
        self._exponent = claimed.weight_exponent.astype(np.int64)
        self._headroom = tables.n_ctx.bit_length() + 2
        self._ledger = ledger

    def unit(self, query: int, tokens: Int64[np.ndarray, " t"]) -> int:
        """Above every weight exponent of ``tokens`` before ``query``, and of its own slot."""
        top = int(self._exponent[-1, query, query])
        if len(self._exponent) > 1 and tokens.size:
            top = max(top, int(self._exponent[:-1, query][:, tokens].max()))
        return top + self._headroom

    def deepest_unit(self, top: int) -> int:
        """No unit is below this where numbers relative to ``2^top`` are in use."""
        return top + DEEPEST + self._headroom

    def upper(
        self,
        query: int,
        positions: slice,
        tokens: Int64[np.ndarray, " t"],
        bracket: Int64[np.ndarray, " t"],
        unit: int,
    ) -> Int64[np.ndarray, "i t"]:
        """Integers ``>= w_i(q,t) bracket[t] 2^-unit``, for brackets of at most 2^32."""
        low = self._low[positions, query][:, tokens].astype(np.int64)
        high = self._high[positions, query][:, tokens].astype(np.int64)
        weight = Counted.of(np.where(bracket >= 0, high, low), self._ledger)
        by = Counted.of(unit - self._exponent[positions, query][:, tokens], self._ledger)
        return -((-(weight * bracket)) >> np.minimum(by, 63))

    def class_terms(
        self, query: int, words: ClassAutomaton, bracket: Int64[np.ndarray, " v"]
    ) -> Terms:
        """The bounds of a class with a bracket for each token of the vocabulary."""
        tokens = np.array([t for letter in words.letters for t in letter], dtype=np.int64)
        letter_of = np.array([a for a, row in enumerate(words.letters) for _ in row], np.int64)
        unit = self.unit(query, tokens)
        own, last = np.array([query]), slice(words.length, words.length + 1)
        return Terms(
            self.upper(query, last, own, bracket[own], unit)[0],
            self.upper(query, slice(0, words.length), tokens, bracket[tokens], unit)[:, :, None],
            letter_of,
        )

    def prefixes(self, query: int, spread: Int64[np.ndarray, " v"]) -> "Prefixes":
        """Prefix extremes over tokens of ``w_i(q,t) spread[t]`` and ``w_i(q,t)``; O(v k)."""
        exponent = self._exponent[:-1, query]
        low = Counted.of(self._low[:-1, query], self._ledger)
        high = Counted.of(self._high[:-1, query], self._ledger)
        top = int(exponent.max())
        by = exponent - top
        return Prefixes(
            np.maximum.accumulate(scaled_up(high * spread, by), axis=1),
            np.maximum.accumulate(scaled_up(high, by), axis=1),
            np.minimum.accumulate(scaled_down(low, by), axis=1),
            top,
        )


class Prefixes(NamedTuple):
    """Extremes over the tokens up to ``t``, in units of ``2^top``."""

    spread: Float64[np.ndarray, "i t"]
    largest: Float64[np.ndarray, "i t"]
    smallest: Float64[np.ndarray, "i t"]
    top: int

    def far(self, far: int, shared: int, unit: int) -> Int64[np.ndarray, " i"]:
        """Integers that bound far tokens: ``spread + shared * weight``, rounded up.

        ``shared`` times a float64 weight is rounded once; the next float64 number is above it.
        """
        weight = (self.largest if shared > 0 else self.smallest)[:, far]
        product = np.nextafter(weight * float(shared), np.inf)
        down = unit - self.top
        return in_units_up(self.spread[:, far], down) + in_units_up(product, down)


def collapsed_subcubic(
    tables: VerifiedTables,
    task: Task,
    options: CollapsedSubcubicOptions,
    tick: Tick = no_tick,
    witness: WindowWitness | None = None,
) -> Proved:
    """Prove a lower bound on the accuracy by the second theorem above."""
    require_fit(task, tables)
    window = windows(witness, options.window, task.v, tables.d_vocab_out)
    ledger = tables.start_ledger()
    parts = _parts(SplitTables(tables, ledger), task.v)
    weights = Weights(tables, ledger)

    def counts() -> Iterator[ClassCount]:
        in_order = sorted(task.classes(), key=itemgetter(0))
        for query, classes in groupby(in_order, key=itemgetter(0)):
            tick(query, task.v)
            spread = parts.D + parts.dH[query]
            prefixes = weights.prefixes(query, spread) if task.k > 1 else None
            for _, label, words in classes:
                far = min(label - int(window[query, label]), task.v - 1)
                far = -1 if prefixes is None else far
                terms = _terms(parts, weights, prefixes, spread, query, label, words, far)
                wrong = min(words.size, wrong_words(terms, words, options.bins, ledger))
                yield ClassCount(query, label, words.size, words.size - wrong)

    by_class = list(counts())
    v, k, x = task.v, task.k, tables.d_vocab_out
    return conclude(
        theorem="collapsed-subcubic",
        options=asdict(options),
        tables=tables,
        task=task,
        by_class=by_class,
        undecided=task.total - sum(part.correct for part in by_class),
        unexplained_dimension=v * v + v * k + (x + v) + (v + v * x) + k * x,
        ledger=ledger,
        witness=witness,
    )


class _Parts(NamedTuple):
    """See the second theorem above."""

    dH: Int64[np.ndarray, " q"]
    D: Int64[np.ndarray, " t"]
    r0: Int64[np.ndarray, " m"]
    rm: Int64[np.ndarray, " m"]
    """For the labels that are tokens."""


def _parts(split: SplitTables, v: int) -> _Parts:
    mu = split.H_high.sum(axis=0) // v
    outputs = split.outputs
    path = np.stack([np.asarray(split.position_path(m)) for m in range(outputs)])  # [m, x]
    rows = mu - mu[:, None] + path  # [m, x]
    labels = min(v, outputs)
    with_F = rows[:labels] + split.F_high[:labels]  # [m, x]
    diagonal = np.asarray(split.F_low)[np.arange(labels), np.arange(labels)]
    return _Parts(
        dH=(split.H_high - mu).max(axis=1) - (split.H_low - mu).min(axis=1),
        D=split.F_high.max(axis=1) - split.F_low.min(axis=1),
        r0=_off_diagonal(rows),
        rm=_off_diagonal(with_F) - diagonal,
    )


def _off_diagonal(rows: Int64[np.ndarray, "m x"]) -> Int64[np.ndarray, " m"]:
    """``max_{x != m} rows[m,x]``; below every number in use if there is no such ``x``."""
    others = rows.copy()
    others[np.arange(len(rows)), np.arange(len(rows))] = -(1 << 31)
    return others.max(axis=1)


def _terms(
    parts: _Parts,
    weights: Weights,
    prefixes: Prefixes | None,
    spread: Int64[np.ndarray, " v"],
    query: int,
    label: int,
    words: ClassAutomaton,
    far: int,
) -> Terms:
    near, letter_of, multiplicity, has_far = columns(words, far)
    considered = np.union1d(near, np.arange(far + 1)) if has_far else near
    unit = weights.unit(query, considered)
    if has_far and prefixes is not None:
        unit = max(unit, weights.deepest_unit(prefixes.top))
    r0 = int(parts.r0[label])

    def bracket(tokens: Int64[np.ndarray, " t"]) -> Int64[np.ndarray, " t"]:
        at = spread[tokens] + r0
        if label < len(parts.rm):
            at[tokens == label] = parts.dH[query] + parts.rm[label]
        return at

    own, last = np.array([query]), slice(words.length, words.length + 1)
    at_query = weights.upper(query, last, own, bracket(own), unit)[0]
    before = weights.upper(query, slice(0, words.length), near, bracket(near), unit)
    if has_far and prefixes is not None:
        shared = prefixes.far(far, r0, unit)[:, None]
        copies = [shared] * (len(letter_of) - len(near))
        before = Counted.joined([before, *copies], axis=1)
    return Terms(at_query, before[:, :, None], letter_of, multiplicity)
