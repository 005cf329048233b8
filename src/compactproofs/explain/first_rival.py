"""In which order to ask against which output a word is wrong first, on a sample of words.

The witness of ``kernel/_first_rival``: outputs are taken by how often they are wrong; each gets the
earlier output and multiplier that leave fewest sampled words, or joins the group to which it adds
fewest. The sample only guides; the kernel counts.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from ..kernel._first_rival import Rival
from ..kernel._slack import Terms
from ..kernel._tasks import ClassAutomaton

_SAMPLES = 2048
_EIGHTHS = (2, 4, 8, 16, 32, 64)
_PIVOTS = 16
"""So many outputs, those that are wrong most often, are tried as pivots."""
_GROUPS = 6
"""An output is tried in so many groups, the largest first."""


def find_order(
    above: Terms, outputs: Int64[np.ndarray, " n"], words: ClassAutomaton, seed: int
) -> list[Rival]:
    """An order of some outputs (columns of ``above``) of one class.

    Cost: O(samples n^2) for the pivots and O(samples k n) for the groups.
    """
    columns = sample_words(words, _SAMPLES, np.random.default_rng(seed))
    size = float(np.abs(np.asarray(above.before)).max()) or 1.0
    tables = np.asarray(above.before)[..., outputs] / size
    own = np.asarray(above.at_query)[outputs] / size
    margin = own + sum(tables[i][columns[:, i]] for i in range(words.length))  # [n, x]
    share = (margin >= 0).mean(axis=0)
    spread = margin.mean(axis=0) / np.maximum(margin.std(axis=0), 1e-300)
    rank = np.lexsort((-spread, -share))
    order: list[Rival] = []
    groups: list[_Group] = []
    for place, x in enumerate(rank):
        pivot, eighths, left = _best_pivot(margin, int(x), rank[: min(place, _PIVOTS)])
        table, at_query = 8 * tables[..., x], 8 * own[x]
        if eighths:
            table, at_query = table - eighths * tables[..., pivot], at_query - eighths * own[pivot]
        candidates = sorted(groups, key=lambda group: -group.size)[:_GROUPS]
        joined = [group.joined(table, float(at_query), columns) for group in candidates]
        added = [new.size - old.size for new, old in zip(joined, candidates, strict=True)]
        best = int(np.argmin(added)) if added else -1
        if added and added[best] <= left:
            groups[groups.index(candidates[best])] = joined[best]
            number = candidates[best].number
        else:
            number = len(groups)
            groups.append(_Group(number, table, float(at_query), left))
        order.append(
            Rival(
                int(outputs[x]),
                number,
                int(outputs[pivot]) if eighths else -1,
                eighths,
            )
        )
    return order


class _Group(NamedTuple):
    number: int
    table: Float64[np.ndarray, "i c"]
    at_query: float
    size: float
    """Share of the sample that fulfils the joint condition."""

    def joined(
        self, table: Float64[np.ndarray, "i c"], at_query: float, columns: Int64[np.ndarray, "n i"]
    ) -> "_Group":
        both, query = np.maximum(self.table, table), max(self.at_query, at_query)
        total = query + both[np.arange(len(both)), columns].sum(axis=1)
        return _Group(self.number, both, query, float((total >= 0).mean()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Group) and self.number == other.number


def _best_pivot(
    margin: Float64[np.ndarray, "n x"], x: int, earlier: Int64[np.ndarray, " p"]
) -> tuple[int, int, float]:
    """The earlier output, the multiplier, and the share of the sample that they leave."""
    own = 8 * margin[:, x]
    best = (float((own >= 0).mean()), 0.0, -1, 0)
    for eighths in _EIGHTHS:
        condition = own[:, None] - eighths * margin[:, earlier]
        left = (condition >= 0).mean(axis=0)
        if not left.size:
            break
        # Among equals the one that stays furthest from the edge.
        near = condition.mean(axis=0) / np.maximum(condition.std(axis=0), 1e-300)
        at = int(np.lexsort((near, left))[0])
        best = min(best, (float(left[at]), float(near[at]), int(earlier[at]), eighths))
    return best[2], best[3], best[0]


def sample_words(
    words: ClassAutomaton, samples: int, rng: np.random.Generator
) -> Int64[np.ndarray, "n i"]:
    """Uniform words of a class as columns of its terms (tokens grouped by letter)."""
    sizes = [len(letter) for letter in words.letters]
    starts = np.cumsum([0, *sizes])
    ways: list[dict[int, int]] = [{s: 1 for s, accepts in enumerate(words.accepting) if accepts}]
    for moves in reversed(words.moves):
        ways.insert(
            0,
            {
                state: sum(
                    sum(sizes[a] for a in letters) * ways[0].get(target, 0)
                    for target, letters in targets.items()
                )
                for state, targets in moves.items()
            },
        )
    state = np.zeros(samples, dtype=np.int64)
    result = np.zeros((samples, words.length), dtype=np.int64)
    for i, moves in enumerate(words.moves):
        following = state.copy()
        for now, targets in moves.items():
            here = np.flatnonzero(state == now)
            choices = [(target, a) for target, letters in targets.items() for a in letters]
            chance = np.array(
                [sizes[a] * ways[i + 1].get(target, 0) / ways[i][now] for target, a in choices]
            )
            chosen = rng.choice(len(choices), size=here.size, p=chance / chance.sum())
            for number, (target, letter) in enumerate(choices):
                rows = here[chosen == number]
                result[rows, i] = starts[letter] + rng.integers(sizes[letter], size=rows.size)
                following[rows] = target
        state = following
    return result
