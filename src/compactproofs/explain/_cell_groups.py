"""Which queries of a label share a cell: groups in which every sequence is right, few of them.

Untrusted: the kernel verifies ranges and counts again.
"""

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float64

from ._cell_floats import Body, Lines, ListedBody

WHOLE: Final = 128
_ROUNDS = {True: 24, False: 10}  # of fictitious play, for listed and for spelled bodies


class Group(NamedTuple):
    """Queries, the hull of their neurons' ranges, and slopes."""

    queries: tuple[int, ...]
    low: Float64[np.ndarray, " m"]
    high: Float64[np.ndarray, " m"]
    share: Float64[np.ndarray, "m y"] | None
    """None for the usual slopes, the ones that round best."""
    worst: float
    """The largest bracket of any sequence; negative if all are right."""

    @property
    def right(self) -> bool:
        """Whether every sequence is right, as far as float64 can tell."""
        return self.worst < 0


def group_of(body: Body, queries: tuple[int, ...], *, play: bool = True) -> Group:
    """The group with its best slopes. Cost: that of ``Body.worst``, a few times."""
    low, high = body.hull(list(queries))
    lines = body.lines(low, high)
    found = body.worst(list(queries), lines.slope, lines.tau)
    plain = Group(queries, low, high, None, float(found.bracket.max(initial=-np.inf)))
    if plain.right or not play or not lines.bent.any():
        return plain
    return _play(body, plain, lines)


def _play(body: Body, plain: Group, lines: Lines) -> Group:
    """Fictitious play: slopes against sequences, which both improve on the other's average.

    For a neuron with ``c < 0`` any share of ``c`` is a bound, ``c share z``: the whole of it is
    best where ``z`` is above 0 on average over the worst sequences so far, none of it elsewhere.
    What that average leaves to the best slopes bounds what any slopes can reach.
    """
    queries = list(plain.queries)
    bent = np.where(lines.bent, lines.c, 0.0)
    fixed = np.where(lines.bent, 0.0, lines.slope)
    share = np.divide(lines.slope, lines.c, out=np.zeros_like(bent), where=lines.bent)
    best, least = share.copy(), np.full(bent.shape[1], np.inf)
    average, rest = np.zeros_like(bent), np.zeros(bent.shape[1])
    for turn in range(_ROUNDS[isinstance(body, ListedBody)]):
        rounded = np.rint(share * WHOLE) / WHOLE
        slope = bent * rounded
        bracket, z = body.worst(queries, fixed + slope, lines.tau)
        better = bracket < least
        least[better] = bracket[better]
        best[:, better] = rounded[:, better]
        if (least < 0).all():
            break
        step = 2 / (turn + 2)
        average += (z.T - average) * step
        rest += (bracket - (slope * z.T).sum(axis=0) - rest) * step
        above = average > 0
        if (rest + np.where(above, bent * average, 0).sum(axis=0) >= 0).any():
            break
        share += (above - share) * (1 / (turn + 2))
    return plain._replace(share=best, worst=float(least.max()))


class Grouping(NamedTuple):
    """A disjoint cover of the queries of a body."""

    right: list[Group]
    open: list[Group]
    """Of one query each: with it alone something stays open."""


def grouping(body: Body) -> Grouping:
    """Groups of a body's queries, greedily: the largest group that grows from any query first."""
    everything = tuple(body.words)
    whole = group_of(body, everything)
    if whole.right or not len(whole.low):  # without neurons no cell is better than another
        return Grouping([whole], [])
    alone = [group_of(body, (query,)) for query in everything]
    left = {group.queries[0]: group for group in alone if group.right}
    still_open = [group for group in alone if not group.right]
    together = group_of(body, tuple(left)) if still_open and len(left) > 1 else whole
    if left and together.right:
        return Grouping([together], still_open)
    return Grouping(_Growing(body, left).groups(), still_open)


def _size(group: Group) -> int:
    return len(group.queries)


class _Growing:
    def __init__(self, body: Body, alone: dict[int, Group]) -> None:
        self.body = body
        self.left = dict(alone)
        self.known: dict[frozenset[int], Group] = {}
        self.exhaustive = isinstance(body, ListedBody)

    def groups(self) -> list[Group]:
        found: list[Group] = []
        grown: dict[int, Group] = {}
        while self.left:
            seeds = list(self.left) if self.exhaustive else [next(iter(self.left))]
            for seed in seeds:
                if seed not in grown:
                    grown[seed] = self._grow(seed)
            best = max((grown[seed] for seed in seeds), key=_size)
            found.append(best)
            taken = set(best.queries)
            for query in taken:
                del self.left[query]
            grown = {s: g for s, g in grown.items() if not taken & set(g.queries)}
        return found

    def _grow(self, seed: int) -> Group:
        """Add the query with which the worst case stays lowest, while all stays right."""
        group = self.left[seed]
        candidates = [query for query in self.left if query != seed]
        while candidates:
            near = self._nearest(group, candidates)
            tried = {query: self._joined(group, query) for query in near}
            fitting = {query: one.worst for query, one in tried.items() if one.right}
            candidates = [q for q in candidates if q in fitting or q not in tried]
            if fitting:
                best = min(fitting, key=fitting.__getitem__)
                group = tried[best]
                candidates.remove(best)
        return group

    def _nearest(self, group: Group, candidates: list[int]) -> list[int]:
        """All of them, or the one whose ranges add least to the neurons' triangles."""
        if self.exhaustive:
            return candidates
        size = np.abs(self.body.lines(group.low, group.high).c).mean(axis=1)

        def area(query: int) -> float:
            low = np.minimum(group.low, self.body.low[query])
            high = np.maximum(group.high, self.body.high[query])
            inside = np.maximum(-low, 0) * np.maximum(high, 0)
            return float((size * inside / np.maximum(high - low, 1)).sum())

        return [min(candidates, key=area)]

    def _joined(self, group: Group, query: int) -> Group:
        key = frozenset((*group.queries, query))
        if key not in self.known:
            self.known[key] = group_of(self.body, tuple(sorted(key)))
        return self.known[key]
