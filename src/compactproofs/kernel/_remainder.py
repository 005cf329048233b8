"""Enumerating what a bound leaves open: the words whose integer bound is not negative.

Prefixes of words grow position by position along the automaton of the class. A prefix is dropped
when its partial sum plus the largest completion that the automaton allows is negative for every
output: then every word that begins with it is right. What is left at the end are exactly the words
with ``base + sum_i y_i(t_i) >= 0`` for some output, and no other word of the class is wrong.
"""

import numpy as np
from jaxtyping import Int64

from ._ledger import Counted, Ledger
from ._slack import Terms
from ._tasks import ClassAutomaton

_BLOCK = 1 << 21
"""Numbers extended at a time."""


def remaining_words(terms: Terms, words: ClassAutomaton, limit: int, ledger: Ledger) -> int:
    """How many words could be wrong; ``words.size`` if more than ``limit`` prefixes stay open.

    Cost: O(x) for each prefix kept, times the tokens that could follow it. Columns must stand for
    one token each.
    """
    completion = _largest_completions(terms, words)
    reached = {0: terms.at_query[None, :]}
    if not ((reached[0] + completion[0][0]) >= 0).any():
        return 0
    for position, moves in enumerate(words.moves):
        following: dict[int, list[Int64[np.ndarray, "n x"]]] = {}
        kept = 0
        for state, targets in moves.items():
            if state not in reached:
                continue
            for target, letters in targets.items():
                columns = np.flatnonzero(np.isin(terms.letter_of, letters))
                step = terms.before[position][columns]
                bound = completion[position + 1][target]
                for block in _blocks(reached[state], step.size):
                    sums = block[:, None, :] + step[None]
                    still = np.asarray((sums + bound) >= 0).any(axis=-1)
                    kept += int(still.sum())
                    if kept > limit:
                        return words.size
                    if still.any():
                        following.setdefault(target, []).append(sums[still])
        reached = {
            state: Counted.of(np.concatenate(parts), ledger) for state, parts in following.items()
        }
    return sum(len(prefixes) for prefixes in reached.values())


def _blocks(prefixes: Int64[np.ndarray, "n x"], step: int) -> list[Int64[np.ndarray, "b x"]]:
    rows = max(1, _BLOCK // max(1, step))
    return [prefixes[start : start + rows] for start in range(0, len(prefixes), rows)]


def _largest_completions(
    terms: Terms, words: ClassAutomaton
) -> list[dict[int, Int64[np.ndarray, " x"]]]:
    """``[i][state]``: the largest sum over the positions from ``i`` on, for each output."""
    length = words.length
    nothing = terms.at_query - terms.at_query
    accepting = {state: nothing for state, accepts in enumerate(words.accepting) if accepts}
    result: list[dict[int, Int64[np.ndarray, " x"]]] = [accepting]
    for position in range(length - 1, -1, -1):
        best = {
            letter: terms.before[position][terms.letter_of == letter].max(axis=0)
            for letter in range(len(words.letters))
        }
        here: dict[int, Int64[np.ndarray, " x"]] = {}
        for state, targets in words.moves[position].items():
            ways = [
                best[letter] + result[0][target]
                for target, letters in targets.items()
                for letter in letters
            ]
            largest = ways[0]
            for way in ways[1:]:
                largest = np.maximum(largest, way)
            here[state] = largest
        result.insert(0, here)
    return result
