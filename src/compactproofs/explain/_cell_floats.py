"""Cells in float64: exact ranges of neurons, worst words, slopes. Quick, and not trusted.

The same formulas as in ``kernel/_cell``, in units of the front's grid, weights relative to the
largest of their query. Shapes: Q queries, T tokens, n functionals, m neurons, y wrong outputs.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ..kernel._front import Front
from ..kernel._integers import IntegerTables
from ..kernel._tasks import ClassAutomaton

_STEPS = 40
"""Of Newton's method for a range, which converges in about five."""
_CLOSE = 1e-3
"""How many units of the grid two steps may differ at its end."""
_MOST_LISTED = 512
"""Sequences that are listed; more are spelled by their automaton."""


@final
class FloatFront:
    """The front's tables as float64 numbers."""

    def __init__(self, front: Front, claimed: IntegerTables) -> None:
        """From the integers that the kernel verified."""
        x = front.x
        exponent = claimed.weight_exponent.astype(np.int64)
        below = exponent.max(axis=(0, 2), keepdims=True) - exponent
        self.weight = np.ldexp(claimed.weight_high.astype(np.float64), -30 - np.minimum(below, 900))
        value, direct = (
            claimed.value_high.astype(np.float64),
            claimed.direct_high.astype(np.float64),
        )
        self.base_value, self.base_direct = value[..., :x], direct[..., :x]
        self.value, self.direct = value[..., x:], direct[..., x:]
        coefficients = front.coefficients
        self.R = np.ldexp(np.asarray(coefficients.high, dtype=np.float64), -coefficients.bits)


class Worst(NamedTuple):
    """For each wrong output the sequence whose bracket is largest."""

    bracket: Float64[np.ndarray, " y"]
    z: Float64[np.ndarray, "y m"]


class Lines(NamedTuple):
    """``c relu(z) <= slope z + tau`` for every neuron and wrong output."""

    c: Float64[np.ndarray, "m y"]
    slope: Float64[np.ndarray, "m y"]
    tau: Float64[np.ndarray, " y"]
    """Summed over neurons."""
    bent: Bool[np.ndarray, "m y"]
    """Where the slope is a matter of choice."""


class Body(ABC):
    """The sequences of one label that some answers allow, query by query."""

    def __init__(self, floats: FloatFront, label: int, words: dict[int, ClassAutomaton]) -> None:
        """words: of each query."""
        self.floats = floats
        self.label = label
        self.words = words
        self.outputs = [x for x in range(floats.R.shape[1]) if x != label]
        self.low: dict[int, Float64[np.ndarray, " m"]] = {}
        self.high: dict[int, Float64[np.ndarray, " m"]] = {}

    @property
    def size(self) -> int:
        """Sequences."""
        return sum(one.size for one in self.words.values())

    @abstractmethod
    def worst(
        self, queries: list[int], slope: Float64[np.ndarray, "m y"], tau: Float64[np.ndarray, " y"]
    ) -> Worst:
        """Over the sequences of some queries, of ``D + slope z + tau``."""

    def hull(
        self, queries: list[int]
    ) -> tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
        """The ranges of the neurons over the sequences of some queries."""
        low = np.min([self.low[query] for query in queries], axis=0)
        return low, np.max([self.high[query] for query in queries], axis=0)

    def lines(
        self,
        low: Float64[np.ndarray, " m"],
        high: Float64[np.ndarray, " m"],
        share: Float64[np.ndarray, "m y"] | None = None,
    ) -> Lines:
        """See ``margin_functionals`` of the kernel; without shares the ones that round best."""
        R = self.floats.R
        c = R[:, self.outputs] - R[:, [self.label]]
        low, high = low[:, None], high[:, None]
        undecided = (low < 0) & (high > 0)
        if share is None:
            share = np.broadcast_to(high > -low, c.shape).astype(np.float64)
        chord = c * high / np.where(undecided, high - low, 1.0)
        bent = undecided & (c < 0)
        slope = np.where(undecided, np.where(c >= 0, chord, c * share), np.where(low >= 0, c, 0.0))
        at_low = c * np.maximum(low, 0) - slope * low
        at_high = c * np.maximum(high, 0) - slope * high
        tau = np.maximum(np.maximum(at_low, at_high), 0).sum(axis=0)
        return Lines(c, slope, tau, bent)


def body_of(floats: FloatFront, label: int, words: dict[int, ClassAutomaton]) -> Body:
    """The quicker of the two kinds."""
    listed = sum(one.size for one in words.values()) <= _MOST_LISTED
    return (ListedBody if listed else SpelledBody)(floats, label, words)


@final
class ListedBody(Body):
    """Few sequences: one row for each."""

    def __init__(self, floats: FloatFront, label: int, words: dict[int, ClassAutomaton]) -> None:
        """Cost: O(k m) a sequence."""
        super().__init__(floats, label, words)
        self._rows: dict[int, Int64[np.ndarray, " n"]] = {}
        z: list[Float64[np.ndarray, "n m"]] = []
        base: list[Float64[np.ndarray, "n y"]] = []
        known: dict[int, Int64[np.ndarray, "n i"]] = {}
        done = 0
        for query, one in words.items():
            if id(one) not in known:
                known[id(one)] = list_words(one)
            tokens = np.column_stack([known[id(one)], np.full(one.size, query)])
            share = floats.weight[np.arange(tokens.shape[1]), query, tokens]
            share = share / share.sum(axis=1, keepdims=True)
            z.append(_average(share, floats.value, tokens) + floats.direct[query])
            logits = _average(share, floats.base_value, tokens) + floats.base_direct[query]
            base.append(logits[:, self.outputs] - logits[:, [label]])
            self._rows[query] = np.arange(done, done + one.size)
            self.low[query], self.high[query] = z[-1].min(axis=0), z[-1].max(axis=0)
            done += one.size
        self._z, self._base = np.concatenate(z), np.concatenate(base)

    def worst(
        self, queries: list[int], slope: Float64[np.ndarray, "m y"], tau: Float64[np.ndarray, " y"]
    ) -> Worst:
        """Cost: O(m y) a sequence."""
        rows = np.concatenate([self._rows[query] for query in queries])
        z = self._z[rows]
        bracket = self._base[rows] + z @ slope
        at = bracket.argmax(axis=0)
        return Worst(bracket[at, np.arange(len(at))] + tau, z[at])


def _average(
    share: Float64[np.ndarray, "n k"],
    table: Float64[np.ndarray, "k v c"],
    tokens: Int64[np.ndarray, "n k"],
) -> Float64[np.ndarray, "n c"]:
    return np.einsum("ni,nic->nc", share, table[np.arange(tokens.shape[1]), tokens])


def list_words(words: ClassAutomaton) -> Int64[np.ndarray, "n i"]:
    """All words of an automaton, for few."""
    found: dict[int, list[tuple[int, ...]]] = {0: [()]}
    for moves in words.moves:
        following: dict[int, list[tuple[int, ...]]] = {}
        for state, targets in moves.items():
            for target, letters in targets.items():
                following.setdefault(target, []).extend(
                    (*word, token)
                    for word in found[state]
                    for letter in letters
                    for token in words.letters[letter]
                )
        found = following
    listed = [word for some in found.values() for word in some]
    return np.array(listed, dtype=np.int64).reshape(len(listed), words.length)


@final
class SpelledBody(Body):
    """Any number of sequences: the automaton finds the worst of them."""

    def __init__(self, floats: FloatFront, label: int, words: dict[int, ClassAutomaton]) -> None:
        """Ranges by Newton's method on the fractional programs. Cost: O(k v m) a query and step."""
        super().__init__(floats, label, words)
        by_words: dict[int, tuple[ClassAutomaton, list[int]]] = {}
        for query, one in words.items():
            by_words.setdefault(id(one), (one, []))[1].append(query)
        self._alike = list(by_words.values())
        for one, queries in self._alike:
            self._find_ranges(one, np.array(queries))

    def _find_ranges(self, words: ClassAutomaton, queries: Int64[np.ndarray, " q"]) -> None:
        floats, m = self.floats, self.floats.value.shape[2]
        value = np.concatenate([floats.value, -floats.value], axis=2)
        weight, own = self._weights(queries)
        last = value[-1, queries]
        ratio = last.copy()
        for _ in range(_STEPS):
            most, tokens = largest_words(words, weight, value[:-1], -ratio)
            step = (most + own * (last - ratio)) / (own + _total(weight, tokens))
            ratio = ratio + step
            if not (np.abs(step) > _CLOSE).any():
                break
        for row, query in enumerate(queries.tolist()):
            self.low[query] = floats.direct[query] - ratio[row, m:]
            self.high[query] = floats.direct[query] + ratio[row, :m]

    def _weights(
        self, queries: Int64[np.ndarray, " q"]
    ) -> tuple[Float64[np.ndarray, "i q t"], Float64[np.ndarray, "q 1"]]:
        weight = self.floats.weight[:, queries]
        return weight[:-1], np.take_along_axis(weight[-1], queries[:, None], axis=1)

    def worst(
        self, queries: list[int], slope: Float64[np.ndarray, "m y"], tau: Float64[np.ndarray, " y"]
    ) -> Worst:
        """Cost: O(k v (m + Q) y)."""
        floats = self.floats
        value = self._differences(floats.base_value) + floats.value @ slope
        direct = self._differences(floats.base_direct) + floats.direct @ slope + tau
        found: list[Worst] = []
        for words, alike in self._alike:
            chosen = np.array([query for query in alike if query in queries], dtype=np.int64)
            if not chosen.size:
                continue
            weight, own = self._weights(chosen)
            most, tokens = largest_words(words, weight, value[:-1], direct[chosen])
            bracket = most + own * (value[-1, chosen] + direct[chosen])
            bracket = bracket / (own + _total(weight, tokens))
            row, y = bracket.argmax(axis=0), np.arange(len(self.outputs))
            worst = np.concatenate([tokens[row, y], chosen[row][:, None]], axis=1)
            share = floats.weight[np.arange(worst.shape[1]), chosen[row][:, None], worst]
            z = _average(share / share.sum(axis=1, keepdims=True), floats.value, worst)
            found.append(Worst(bracket[row, y], z + floats.direct[chosen[row]]))
        at = np.argmax([one.bracket for one in found], axis=0)
        y = np.arange(len(self.outputs))
        return Worst(
            np.array([one.bracket for one in found])[at, y],
            np.array([one.z for one in found])[at, y],
        )

    def _differences(
        self, table: Float64[np.ndarray, "*shape x"]
    ) -> Float64[np.ndarray, "*shape y"]:
        return table[..., self.outputs] - table[..., self.label, None]


def _total(
    weight: Float64[np.ndarray, "i q t"], tokens: Int64[np.ndarray, "q n i"]
) -> Float64[np.ndarray, "q n"]:
    rows = np.arange(tokens.shape[0])[:, None]
    return sum(
        (weight[i][rows, tokens[..., i]] for i in range(len(weight))), np.zeros(tokens.shape[:2])
    )


def largest_words(
    words: ClassAutomaton,
    weight: Float64[np.ndarray, "i q t"],
    value: Float64[np.ndarray, "i t n"],
    offset: Float64[np.ndarray, "q n"],
) -> tuple[Float64[np.ndarray, "q n"], Int64[np.ndarray, "q n i"]]:
    """For each query and functional the largest ``sum_i weight (value + offset)``, and its word."""
    shape = offset.shape
    best = {0: np.zeros(shape)}
    trace: list[dict[int, tuple[Int64[np.ndarray, "q n"], Int64[np.ndarray, "q n"]]]] = []
    for i, moves in enumerate(words.moves):
        used = {a for targets in moves.values() for letters in targets.values() for a in letters}
        by_letter = {a: _largest_token(words.letters[a], weight[i], value[i], offset) for a in used}
        following: dict[int, Float64[np.ndarray, "q n"]] = {}
        back: dict[int, tuple[Int64[np.ndarray, "q n"], Int64[np.ndarray, "q n"]]] = {}
        for state, targets in moves.items():
            for target, letters in targets.items():
                for letter in letters:
                    gain, token = by_letter[letter]
                    candidate, origin = best[state] + gain, np.full(shape, state)
                    if target in following:
                        better = candidate > following[target]
                        candidate = np.where(better, candidate, following[target])
                        origin = np.where(better, origin, back[target][0])
                        token = np.where(better, token, back[target][1])
                    following[target], back[target] = candidate, (origin, token)
        trace.append(back)
        best = following
    states = list(best)
    ends = np.array([best[state] for state in states])
    state = np.array(states)[ends.argmax(axis=0)]
    tokens = np.zeros((*shape, words.length), dtype=np.int64)
    for i in reversed(range(words.length)):
        origin = state
        for target, (before, token) in trace[i].items():
            here = state == target
            tokens[..., i][here] = token[here]
            origin = np.where(here, before, origin)
        state = origin
    return ends.max(axis=0), tokens


def _largest_token(
    tokens: tuple[int, ...],
    weight: Float64[np.ndarray, "q t"],
    value: Float64[np.ndarray, "t n"],
    offset: Float64[np.ndarray, "q n"],
) -> tuple[Float64[np.ndarray, "q n"], Int64[np.ndarray, "q n"]]:
    several = np.array(tokens)
    gain = weight[:, several, None] * (value[several] + offset[:, None])
    at = gain.argmax(axis=1)
    return np.take_along_axis(gain, at[:, None], axis=1)[:, 0], several[at]
