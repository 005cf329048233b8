"""Common cause: events are independent once the class is known."""

from itertools import combinations

import numpy as np
from jaxtyping import Float64

from .._events import Pattern
from .._presumption import ClassTable
from ._proposal import Proposal, State

Pair = tuple[tuple[int, int], ...]


class CommonCause:
    """P(A, B) = sum over classes c of P(c) P(A | c) P(B | c), for all pairs of a group at once."""

    kind = "common_cause"

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        """Tables given the class for two variables of the pattern, and for all of their groups.

        The groups are those of the pair of which the tables say most. Price: a number for each
        class and value but the last. What is measured is the joint share of the two events, which
        the tables predict.
        """
        places = [place for place in state.places(pattern) or () if place[0] != 0]
        pairs = list(combinations(places, 2))
        if not pairs:
            return []
        telling = max(pairs, key=lambda pair: _told(state, pair))
        groups = {state.variables[v].group for v, _ in telling}
        several = [v for v, u in enumerate(state.variables) if u.group in groups]
        wanted = [(pair, [v for v, _ in pair]) for pair in pairs] + [(telling, several)]
        found = []
        for pair, touched in wanted:
            new = [v for v in touched if v not in state.model.bases]
            if new and all(v in new or self._given(state, v) for v, _ in pair):
                found.append(self._proposal(state, pair, new))
        return found

    def _proposal(self, state: State, pair: Pair, new: list[int]) -> Proposal:
        changes = tuple(ClassTable(v, class_table(state, v)) for v in new)
        low, high, value = predicted(state, pair)
        if value < 0.5:
            pair = state.opposite(pair)
            low, high, _ = predicted(state, pair)
        numbers = sum(state.variables[v].size - 1 for v in new) * state.variables[0].size
        return Proposal(
            self.kind,
            state.events(pair[:1]),
            state.events(pair[1:]),
            (low, high),
            state.presumed(pair),
            float(np.log2(len(state.variables))) + numbers * state.precision,
            state.gain(changes),
            changes,
        )

    @staticmethod
    def _given(state: State, v: int) -> bool:
        return isinstance(state.model.bases.get(v), ClassTable)


def _told(state: State, pair: Pair) -> float:
    """How far the tables' P(second | first) is from what is presumed, in its own noise."""
    low, high, value = predicted(state, pair)
    return abs(value - state.presumed(pair)) / max(high - low, 1e-9)


def class_table(state: State, v: int) -> Float64[np.ndarray, "c j"]:
    """P(variable v = j | class c) on the mine data, one added to each count."""
    table = np.ones((state.variables[0].size, state.variables[v].size))
    np.add.at(table, (state.codes[:, 0], state.codes[:, v]), 1.0)
    return table / table.sum(axis=1, keepdims=True)


def predicted(state: State, pair: Pair) -> tuple[float, float, float]:
    """An interval and the value of P(second | first) if both depend on the class alone.

    The interval is 2.6 standard deviations of the tables' sampling noise, by the delta method.
    """
    n_classes, n = state.variables[0].size, len(state.codes)
    share = (np.bincount(state.codes[:, 0], minlength=n_classes) + 1) / (n + n_classes)
    (u, a), (v, b) = pair
    first, second = class_table(state, u)[:, a], class_table(state, v)[:, b]
    total = float(share @ first)
    value = float(share @ (first * second)) / total
    per_class = share * n
    slope_second = share * first / total
    slope_first = share * (second - value) / total
    variance = slope_second**2 * second * (1 - second) + slope_first**2 * first * (1 - first)
    sd = float(np.sqrt((variance / per_class).sum()))
    return max(0.0, value - 2.6 * sd), min(1.0, value + 2.6 * sd), value
