"""Mining: which conjunctions of events are most surprising, given what is presumed so far.

The gain of explaining a pattern that ``f`` of n mine inputs have and P of all are presumed to have:

    n KL(Bern(f) || Bern(P)) - ln 2 bits(pattern)   nats,

bits being the log2 of the number of patterns of its order.

Notation: n mine inputs, E events of all variables together.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from ._presumption import Sampled
from .propose._proposal import State, index_bits

Numbers = Float64[np.ndarray, "..."] | float

_ALL_TRIPLES = 3_000_000_000  # multiplications

Places = tuple[tuple[int, int], ...]


class Mined(NamedTuple):
    """A pattern, how surprising it is, and its share of the mine data against the presumed one."""

    places: Places
    gain: float
    """Nats, less the price of its description."""
    share: float
    presumed: float


def divergence(f: Numbers, p: Numbers) -> Any:
    """KL(Bern(f) || Bern(p)), nats; p strictly between 0 and 1."""
    from scipy.special import rel_entr

    return rel_entr(f, p) + rel_entr(1 - f, 1 - p)


def mine(
    state: State,
    draws: int = 10_000,
    order: int = 4,
    beam: int = 8,
    keep: int = 40,
    seed: int = 0,
) -> list[Mined]:
    """The ``keep`` patterns of largest gain: all of order 1, 2 and 3, then extensions of the best.

    Each order from 4 to ``order`` extends the ``beam`` best of the order before; so does order 3
    where the events are too many to try all. The presumed probabilities are estimated from
    ``draws`` draws of the model. Events that no site decides are left out. Cost: draws v E^2 up to
    3e9, or draws E^2; and beam draws E an order.
    """
    sampled = state.model.sample(draws, np.random.default_rng(seed))
    return _Miner(state, sampled).best(order, beam, keep)


class _Miner:
    """The events of all variables in one row, and what is counted and presumed of them."""

    def __init__(self, state: State, sampled: Sampled) -> None:
        self.state, self.sampled = state, sampled
        self.events: list[tuple[int, int]] = [
            (v, j) for v, variable in enumerate(state.variables) for j in range(variable.size)
        ]
        self.variable = np.array([v for v, _ in self.events])
        usable = [state.variables[v].events[j].is_region for v, j in self.events]
        self.usable = np.array(usable, dtype=bool)
        self.held: Bool[np.ndarray, "n E"] = np.stack(
            [state.codes[:, v] == j for v, j in self.events], axis=1
        )
        self.least = 0.5 / len(sampled.held)

    def best(self, order: int, beam: int, keep: int) -> list[Mined]:
        n = len(self.held)
        alone = self._scored(self.held.mean(axis=0), self.sampled.given.mean(axis=0), 1)
        found = [
            Mined((self.events[e],), float(alone[0][e]), float(alone[1][e]), float(alone[2][e]))
            for e in np.flatnonzero(self.usable)
        ]
        counts = self.held.astype(np.float64)
        scores, share, presumed = self._scored(counts.T @ counts / n, self.sampled.pairs(), 2)
        later = self.variable[:, None] < self.variable[None]
        scores = np.where(later & self.usable[:, None] & self.usable, scores, -np.inf)
        flat = np.argsort(scores, axis=None)[::-1][: 4 * keep]
        level = []
        for a, b in zip(*np.unravel_index(flat, scores.shape), strict=True):
            if scores[a, b] > -np.inf:
                pair = (self.events[a], self.events[b])
                numbers = (scores[a, b], share[a, b], presumed[a, b])
                level.append(Mined(pair, *(float(x) for x in numbers)))
        found += level
        for size in range(3, order + 1):
            few = len(self.sampled.held) * len(self.state.variables) * len(self.events) ** 2
            if size == 3 and few <= _ALL_TRIPLES:
                level = self._triples(4 * keep)
            else:
                level = self._extended(level[:beam], size)
            found += level
        unique = {mined.places: mined for mined in found}
        return sorted(unique.values(), key=lambda mined: -mined.gain)[:keep]

    def _scored(self, share, presumed, order: int):
        presumed = np.clip(presumed, self.least, 1 - self.least)
        gain = len(self.held) * divergence(share, presumed)
        return gain - np.log(2) * index_bits(self.state, order), share, presumed

    def _triples(self, keep: int) -> list[Mined]:
        held, drawn = self.held.astype(np.float32), self.sampled.held.astype(np.float32)
        given = self.sampled.given.astype(np.float32)
        later = (self.variable[:, None] < self.variable[None]) & self.usable[:, None] & self.usable
        found: list[Mined] = []
        for e in np.flatnonzero(self.usable):
            ours, theirs = self.held[:, e], self.sampled.held[:, e]
            share = held[ours].T @ held[ours] / len(held)
            presumed = drawn[theirs].T @ given[theirs] / len(drawn)
            gain = self._scored(share.astype(np.float64), presumed.astype(np.float64), 3)[0]
            gain = np.where(later & (self.variable > self.variable[e])[:, None], gain, -np.inf)
            least = found[-1].gain if len(found) == keep else -np.inf
            for a, b in np.argwhere(gain > least):
                places = (self.events[e], self.events[a], self.events[b])
                numbers = (gain[a, b], share[a, b], presumed[a, b])
                found.append(Mined(places, *(float(x) for x in numbers)))
            found = sorted(found, key=lambda mined: -mined.gain)[:keep]
        return found

    def _extended(self, level: list[Mined], order: int) -> list[Mined]:
        found = {}
        number = {event: e for e, event in enumerate(self.events)}
        for mined in level:
            own = [number[place] for place in mined.places]
            inside = self.held[:, own].all(axis=1)
            share = self.held[inside].sum(axis=0) / len(self.held)
            after = self.sampled.with_last(own)
            for e in np.flatnonzero(self.usable):
                if self.variable[e] in self.variable[own]:
                    continue
                places = tuple(sorted((*mined.places, self.events[e])))
                if places in found:
                    continue
                if places[-1] == self.events[e]:
                    p = after[e]
                else:
                    rest = [number[place] for place in places[:-1]]
                    p = self.sampled.with_last(rest)[number[places[-1]]]
                gain, _, presumed = self._scored(share[e], p, order)
                found[places] = Mined(places, float(gain), float(share[e]), float(presumed))
        return sorted(found.values(), key=lambda mined: -mined.gain)[: len(level) * 4]


class Compulsory(NamedTuple):
    """A cell of the mine data that is too improbable, by what is presumed, to be admitted."""

    places: Places
    surprise: float
    """-log2 of its presumptive lower likelihood."""
    inputs: int


def compulsory(state: State, tau: float = 1e-5) -> list[Compulsory]:
    """The cells of mine inputs whose presumptive lower likelihood is below ``tau``, worst first.

    An input's cell is the values of all its variables: every one must be explained, or its inputs
    stay refused. Cost: three evaluations of the presumption.
    """
    cells, counts = np.unique(state.codes, axis=0, return_counts=True)
    surprise = state.model.upper_surprise(cells)
    worst = np.argsort(-surprise)
    return [
        Compulsory(
            tuple((v, int(code)) for v, code in enumerate(cells[i])),
            float(surprise[i]),
            int(counts[i]),
        )
        for i in worst
        if surprise[i] > -np.log2(tau)
    ]


def culprits(state: State, cell: Places, order: int = 3) -> Places:
    """The ``order`` values of a cell that its surprise comes from most, beyond what is usual.

    Of a variable, what is usual is its entropy given the others of the cell. Events that no site
    decides are left out.
    """
    codes = np.array([[value for _, value in cell]])
    excess = []
    for v, value in cell:
        log_p = state.model.log_conditional(v, codes)[0]
        usable = state.variables[v].events[value].is_region
        excess.append(-log_p[value] + np.exp(log_p) @ log_p if usable else -np.inf)
    worst = np.argsort(excess)[::-1][:order]
    return tuple(sorted(cell[v] for v in worst if excess[v] > -np.inf))
