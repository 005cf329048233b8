"""Trees of cells: a disjoint cover of the sequences of a label, by construction.

A tree is read from rows ``(kind, number, set)`` in pre-order: a node, then what answers it with
yes, then what answers it with no. The sets are rows of marks, one for each token. A node asks of a
sequence ``t_0 .. t_{k-1}``

    QUERY               is t_{k-1} in the set?
    TOKEN at i < k - 1  is t_i in the set?
    COUNT c >= 1        are at least c of t_0 .. t_{k-2} in the set?

and ends in a cell, PROVE, or in sequences given up, SKIP. Any tree is a disjoint cover: a sequence
answers each question with yes or no. Whoever uses it takes the words of a class through all leaves,
so that their sizes must add up to the class.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, final

import numpy as np
from jaxtyping import Int32, UInt8

from ._errors import MalformedError
from ._tasks import ClassAutomaton

PROVE: Final = 0
SKIP: Final = 1
QUERY: Final = 2
TOKEN: Final = 3
COUNT: Final = 4

_MAX_STATES: Final = 1 << 14

Marks = tuple[bool, ...]
"""For each token whether it is in a set."""


_State = tuple[int, int, tuple[int, ...]]


class Counter(NamedTuple):
    """So many tokens of the word are in the set."""

    of: Marks
    least: int
    most: int


@final
@dataclass(frozen=True)
class Path:
    """What the answers on the way to a leaf say of a sequence."""

    query: Marks
    """The last tokens it may have."""
    token: tuple[Marks, ...]
    """For each position of the word the tokens it may hold."""
    counters: tuple[Counter, ...] = ()

    @classmethod
    def root(cls, k: int, v: int) -> "Path":
        """No question yet."""
        return cls((True,) * v, ((True,) * v,) * (k - 1))

    def answered(self, kind: int, number: int, of: Marks, yes: bool) -> "Path":
        """With one more answer."""
        if kind == COUNT:
            least, most = (number, len(self.token)) if yes else (0, number - 1)
            return replace(self, counters=(*self.counters, Counter(of, least, most)))
        kept = tuple(mark == yes for mark in of)
        if kind == QUERY:
            return replace(self, query=_both(self.query, kept))
        token = list(self.token)
        token[number] = _both(token[number], kept)
        return replace(self, token=tuple(token))

    def within(self, words: ClassAutomaton) -> ClassAutomaton | None:
        """The words that the answers allow, or None if there are none.

        A state is a position, a state of ``words`` and, for each counter, the tokens counted so
        far; beyond what decides, they are not counted.
        """
        if not self.counters and all(all(marks) for marks in self.token):
            return _without_idle_letters(words)
        counters = self._merged()
        letters, old = _refined(words.letters, (*self.token, *(c.of for c in counters)))
        firsts = [tokens[0] for tokens in letters]
        start: _State = (0, 0, (0,) * len(counters))
        number: dict[_State, int] = {start: 0}
        queue: list[_State] = [start]
        step: list[tuple[int, ...]] = []
        for position, state, counts in queue:  # grows while it is read
            row: list[int] = []
            for letter, token in zip(old, firsts, strict=True):
                target = -1
                if position < words.length and self.token[position][token]:
                    target = words.step[state][letter]
                after = _counted(counters, counts, token, words.length)
                if target < 0 or after is None:
                    row.append(-1)
                    continue
                there = (position + 1, target, after)
                if there not in number:
                    number[there] = len(queue)
                    queue.append(there)
                row.append(number[there])
            step.append(tuple(row))
            if len(queue) > _MAX_STATES:
                raise MalformedError(
                    f"a cell has more than {_MAX_STATES} states: ask fewer questions of COUNT"
                )
        accepting = tuple(
            words.accepting[state]
            and all(n >= counter.least for n, counter in zip(counts, counters, strict=True))
            for _, state, counts in queue
        )
        allowed = ClassAutomaton(words.length, letters, tuple(step), accepting)
        return _without_idle_letters(allowed) if allowed.size else None

    def _merged(self) -> tuple[Counter, ...]:
        """One counter for each set."""
        merged: dict[Marks, Counter] = {}
        for one in self.counters:
            other = merged.get(one.of, one)
            least, most = max(one.least, other.least), min(one.most, other.most)
            merged[one.of] = Counter(one.of, least, most)
        return tuple(merged.values())


def _both(a: Marks, b: Marks) -> Marks:
    return tuple(x and y for x, y in zip(a, b, strict=True))


def _counted(
    counters: tuple[Counter, ...], counts: tuple[int, ...], token: int, length: int
) -> tuple[int, ...] | None:
    """The counts after one more token; None if one exceeds what its counter allows."""
    after = tuple(n + c.of[token] for c, n in zip(counters, counts, strict=True))
    if any(n > c.most for c, n in zip(counters, after, strict=True)):
        return None
    # Where no more are too many, enough are enough.
    return tuple(
        min(n, c.least) if c.most >= length else n for c, n in zip(counters, after, strict=True)
    )


def _refined(
    letters: tuple[tuple[int, ...], ...], marks: tuple[Marks, ...]
) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Letters split until their tokens have equal marks, and the old letter of each."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for letter, tokens in enumerate(letters):
        for token in tokens:
            alike.setdefault((letter, *(one[token] for one in marks)), []).append(token)
    return tuple(map(tuple, alike.values())), tuple(key[0] for key in alike)


def _without_idle_letters(words: ClassAutomaton) -> ClassAutomaton:
    """The same words; letters that occur in none are left out."""
    used = sorted(
        {
            letter
            for moves in words.moves
            for targets in moves.values()
            for letters in targets.values()
            for letter in letters
        }
    )
    if len(used) == len(words.letters):
        return words
    return ClassAutomaton(
        words.length,
        tuple(words.letters[letter] for letter in used),
        tuple(tuple(row[letter] for letter in used) for row in words.step),
        words.accepting,
    )


class Leaf(NamedTuple):
    """Where a tree ends."""

    path: Path
    proved: bool
    """False for sequences given up."""


def leaves(
    tree: Int32[np.ndarray, "n 3"], sets: UInt8[np.ndarray, "s v"], trees: int, k: int
) -> list[list[Leaf]]:
    """The leaves of each tree, in pre-order; raises ``MalformedError`` for anything but trees."""
    if (sets > 1).any():
        raise MalformedError(f"tensor sets holds {int(sets.max())}: its marks are 0 and 1")
    v = sets.shape[1]
    known = [tuple(map(bool, row)) for row in sets.tolist()]
    rows = enumerate(tree.tolist())
    result = [list(_leaves(rows, known, k, v)) for _ in range(trees)]
    if next(rows, None) is not None:
        raise MalformedError(f"tensor tree has {len(tree)} rows, more than {trees} trees need")
    return result


def _leaves(
    rows: Iterator[tuple[int, list[int]]], sets: list[Marks], k: int, v: int
) -> Iterator[Leaf]:
    open_paths = [Path.root(k, v)]
    numbers = {QUERY: range(1), TOKEN: range(k - 1), COUNT: range(1, k)}
    while open_paths:
        path = open_paths.pop()
        at, (kind, number, of) = next(rows, (-1, [0, 0, 0]))
        if at < 0:
            raise MalformedError("tensor tree ends within a tree")
        if kind in (PROVE, SKIP) and number == of == 0:
            yield Leaf(path, kind == PROVE)
        elif kind in numbers and number in numbers[kind] and 0 <= of < len(sets):
            open_paths += (path.answered(kind, number, sets[of], yes) for yes in (False, True))
        else:
            raise MalformedError(
                f"row {at} of the tensor tree is {[kind, number, of]}: it must be a leaf, or a "
                f"question with a position or a count below {k} and one of {len(sets)} sets"
            )
