"""The cells of ``crosscoder-d``: from one for each label to as many as it takes.

For each label the queries are grouped so that all sequences of a group are right
(``_cell_groups``). Queries of which something stays open, each by itself, are asked a question
about the tokens before them: the one after which most is right. That goes on where most is open,
until nothing is, or the budget is spent. Nothing found here is trusted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

import numpy as np
from jaxtyping import Int32, Int64

from ..kernel import (
    CrosscoderDOptions,
    IntegerTables,
    Task,
    Tick,
    Transformer,
    integer_tables,
    no_tick,
)
from ..kernel._cell import (
    UNKNOWN_HIGH,
    UNKNOWN_LOW,
    WHOLE,
    Members,
    Ranges,
    margin_functionals,
    range_functionals,
)
from ..kernel._front import Front, front_model, verified_front
from ..kernel._slack import worst_word, wrong_words
from ..kernel._tasks import ClassAutomaton
from ..kernel.theorems.crosscoder_d import words_inside
from ._cell_floats import FloatFront, body_of
from ._cell_groups import Group, group_of, grouping
from ._cell_tree import (
    Claimed,
    Node,
    Path,
    Question,
    at_least,
    query_in,
    token_in,
    witness_arrays,
)

_NEGLIGIBLE = 1 << 14
"""A part of all sequences so small is left open."""
_TRIED = 3  # queries that questions are tried on
_HEAVIEST = (1, 2, 3, 5)
"""Sets of so many tokens, those that draw most attention, are asked for."""
_ROOM = (2, 64, 4096, 1 << 20)
"""So many units an end is moved outward, until the kernel's integers agree."""


@dataclass(eq=False)
class _Open:
    """A leaf of the tree with queries of which something is open."""

    node: Node
    """Below it the open queries one by one, until a question takes their place."""
    label: int
    path: Path
    words: dict[int, ClassAutomaton]
    """Before each open query."""
    open: int


def find_cells(
    net: Transformer,
    task: Task,
    options: CrosscoderDOptions,
    tick: Tick = no_tick,
    *,
    seconds: float = 60.0,
    questions: Sequence[Question] = (),
) -> dict[str, np.ndarray]:
    """The witness of ``crosscoder-d``, by name.

    questions: asked first, in this order, of every label that one cell does not do for, as a
    crosscoder may propose them. seconds: after which no more are asked; every label gets its first
    cells.
    """
    claimed = integer_tables(front_model(net))
    search = _Search(verified_front(net, claimed), claimed, options, questions)
    roots = search.run(task, seconds, tick)
    tables = {f"front_{name}": array for name, array in claimed._asdict().items()}
    front = search.front
    return tables | witness_arrays(roots, front.v, front.x, front.m)


class _Search:
    def __init__(
        self,
        front: Front,
        claimed: IntegerTables,
        options: CrosscoderDOptions,
        questions: Sequence[Question],
    ) -> None:
        self.front = front
        self.floats = FloatFront(front, claimed)
        self.options = options
        self.questions = list(questions)

    def run(self, task: Task, seconds: float, tick: Tick) -> list[Node]:
        """A tree for each label."""
        ends = time.perf_counter() + seconds
        by_label = [(label, list(some)) for label, some in groupby(task.classes(), itemgetter(1))]
        roots: list[Node] = []
        waiting: list[_Open] = []
        for done, (label, classes) in enumerate(by_label):
            tick(done, len(by_label))
            words = {query: one for query, _, one in classes}
            roots.append(Node())
            path = Path.root(task.k, task.v)
            waiting += self._grow(roots[-1], label, path, words, self.questions)
        cells = sum(len(root.cells()) for root in roots)
        done = len(by_label)
        while waiting and time.perf_counter() < ends and cells < self.options.cells:
            tick(done, done + len(waiting))
            done += 1
            waiting.sort(key=lambda one: one.open)
            item = waiting.pop()
            if item.open * _NEGLIGIBLE <= task.total:
                break
            before = len(item.node.cells())
            waiting += self._refine(item)
            cells += len(item.node.cells()) - before
        _give_up_smallest(roots, self.options.cells)
        return roots

    def _grow(
        self,
        node: Node,
        label: int,
        path: Path,
        words: dict[int, ClassAutomaton],
        questions: Sequence[Question] = (),
    ) -> list[_Open]:
        """Put cells below a leaf; what stays open is returned."""
        inside = words_inside(path, words)
        if not inside:
            return []
        body = body_of(self.floats, label, inside)
        if questions and not group_of(body, tuple(inside)).right:
            first, *others = questions
            ways = [(first.narrowed(path, yes), yes) for yes in (True, False)]
            if not all(words_inside(way, words) for way, _ in ways):
                return self._grow(node, label, path, words, others)
            answers = zip(node.ask(first), ways, strict=True)
            return [
                item
                for leaf, (way, _) in answers
                for item in self._grow(leaf, label, way, words, others)
            ]
        found = grouping(body)
        parts: list[tuple[tuple[int, ...], Group | None]] = [
            (group.queries, group) for group in found.right
        ]
        still_open = tuple(query for group in found.open for query in group.queries)
        if still_open:
            parts.append((still_open, None))
        waiting: list[_Open] = []
        for (queries, group), leaf in zip(parts, _leaves(node, parts), strict=True):
            here = {query: inside[query] for query in queries}
            if group is not None:
                self._prove(leaf, label, group, here)
                continue
            within = query_in(queries).narrowed(path, True)
            single = [(one.queries, one) for one in found.open]
            for (queries, one), below in zip(single, _leaves(leaf, single), strict=True):
                self._prove(below, label, one, {queries[0]: inside[queries[0]]})
            left = sum(one.size for one in here.values()) - sum(n.right for n in leaf.cells())
            waiting.append(_Open(leaf, label, within, here, left))
        return waiting

    def _prove(
        self, node: Node, label: int, group: Group, words: dict[int, ClassAutomaton]
    ) -> None:
        """Make a leaf a cell, unless nothing of it is right."""
        claimed = self._claimed(label, group, words)
        wrong = self._wrong(label, claimed, words)
        right = sum(one.size - wrong[query] for query, one in words.items())
        if right:
            node.cell, node.right = claimed, right

    def _refine(self, item: _Open) -> list[_Open]:
        """Ask the best question of an open leaf, if any leaves less open."""
        question = self._best_question(item)
        if question is None:
            return []
        old = replace(item.node)
        waiting: list[_Open] = []
        for leaf, yes in zip(item.node.ask(question), (True, False), strict=True):
            waiting += self._grow(leaf, item.label, question.narrowed(item.path, yes), item.words)
        size = sum(one.size for one in item.words.values())
        if size - sum(node.right for node in item.node.cells()) >= item.open:
            vars(item.node).update(vars(old))
            return []
        return waiting

    def _best_question(self, item: _Open) -> Question | None:
        """The one after whose answers most sequences are right, on a few of the queries."""
        queries = sorted(item.words, key=lambda query: -item.words[query].size)[:_TRIED]
        sample = {query: item.words[query] for query in queries}
        most, best = 0, None
        for question in self._candidates(item, queries):
            right = 0
            for yes in (True, False):
                inside = words_inside(question.narrowed(item.path, yes), sample)
                if inside:
                    body = body_of(self.floats, item.label, inside)
                    for query, one in inside.items():
                        if group_of(body, (query,), play=False).right:
                            right += one.size
            if right > most:
                most, best = right, question
        return best

    def _candidates(self, item: _Open, queries: list[int]) -> list[Question]:
        """About the tokens that draw most attention: how many, and whether at the first place."""
        found = list(self.questions)
        used = sorted({t for one in item.words.values() for ts in one.letters for t in ts})
        if not used:
            return found
        weight = self.floats.weight[:-1][:, queries][:, :, used]  # [i, q, t]
        share = (weight / weight.max(axis=(0, 2), keepdims=True)).mean(axis=1)
        heaviest = [used[n] for n in np.argsort(-share.mean(axis=0), kind="stable").tolist()]
        length = len(share)
        position = int(share.max(axis=1).argmax())
        for number in _HEAVIEST:
            tokens = frozenset(heaviest[:number])
            if number < len(used):
                found += (at_least(c, tokens) for c in range(1, min(length, 3) + 1))
                found.append(token_in(position, tokens))
        return found

    def _claimed(self, label: int, group: Group, words: dict[int, ClassAutomaton]) -> Claimed:
        """Ranges that the kernel will find to hold, and slopes."""
        front, members = self.front, Members.of(words)
        room = np.zeros((2, front.m), dtype=np.int64)
        of_slots = _of_slots(front, members)
        while True:
            low, high = _outward(group, room, of_slots)
            checks = range_functionals(front, members, Ranges.of(low, high, front.ledger))
            fails = np.zeros(checks.direct.shape[1], dtype=bool)
            for query, one in words.items():
                fails |= np.asarray(worst_word(checks.terms(front, query, one), one) > 0)
            if not fails.any():
                break
            above, below = np.flatnonzero(high < UNKNOWN_HIGH), np.flatnonzero(low > UNKNOWN_LOW)
            room[1, above[fails[: len(above)]]] += 1
            room[0, below[fails[len(above) :]]] += 1
        share = np.zeros((front.x, front.m), dtype=np.uint8)
        if group.share is None:
            share[:] = WHOLE * (high.astype(np.int64) > -low.astype(np.int64))
        else:
            share[[x for x in range(front.x) if x != label]] = np.rint(group.share.T * WHOLE)
        return Claimed(low, high, share)

    def _wrong(
        self, label: int, claimed: Claimed, words: dict[int, ClassAutomaton]
    ) -> dict[int, int]:
        """How many words before each query the kernel will not prove right."""
        front = self.front
        ranges = Ranges.of(claimed.low, claimed.high, front.ledger)
        margins = margin_functionals(front, Members.of(words), label, ranges, claimed.share)
        return {
            query: min(
                one.size,
                wrong_words(margins.terms(front, query, one), one, self.options.bins, front.ledger),
            )
            for query, one in words.items()
        }


def _of_slots(
    front: Front, members: Members
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Ends over single tokens and positions, which no average leaves, however it is rounded."""
    queries, tokens = members
    neurons = front.neurons

    def end(
        values: Int64[np.ndarray, "k v m"], of_queries: Int64[np.ndarray, "v m"], of: np.ufunc
    ) -> Int64[np.ndarray, " m"]:
        value, direct = np.asarray(values), np.asarray(of_queries)[queries]
        last = of.reduce(value[-1, queries] + direct, axis=0)
        if len(value) == 1 or not tokens.size:
            return last
        before = of.reduce(value[:-1, tokens], axis=(0, 1)) + of.reduce(direct, axis=0)
        return of(before, last)

    return (
        end(neurons.value_low, neurons.direct_low, np.minimum),
        end(neurons.value_high, neurons.direct_high, np.maximum),
    )


def _outward(
    group: Group,
    room: Int64[np.ndarray, "2 m"],
    of_slots: tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]],
) -> tuple[Int32[np.ndarray, " m"], Int32[np.ndarray, " m"]]:
    """Whole numbers around the ranges; a neuron that stays on or off is told from its sign alone.

    room: for the low and the high ends, how often they failed; too often, and those of single
    positions are taken.
    """
    last = room == len(_ROOM)
    by = np.array([*_ROOM, 0])[room]
    low = np.where(last[0], of_slots[0], np.floor(group.low) - by[0])
    high = np.where(last[1], of_slots[1], np.ceil(group.high) + by[1])
    on, off = low >= 0, high <= 0
    low = np.where(on, 0, np.where(off, UNKNOWN_LOW, low))
    high = np.where(off, 0, np.where(on, UNKNOWN_HIGH, high))
    low, high = np.maximum(low, UNKNOWN_LOW), np.minimum(high, UNKNOWN_HIGH)
    return low.astype(np.int32), high.astype(np.int32)


def _leaves(node: Node, parts: Sequence[tuple[tuple[int, ...], object]]) -> list[Node]:
    """A leaf for each part: is the query one of the first, of the second, ..."""
    leaves: list[Node] = []
    for queries, _ in parts[:-1]:
        here, node = node.ask(query_in(queries))
        leaves.append(here)
    return [*leaves, node][: len(parts)]


def _give_up_smallest(roots: list[Node], most: int) -> None:
    """Keep the cells of most sequences."""
    cells = sorted((node for root in roots for node in root.cells()), key=lambda n: -n.right)
    for node in cells[most:]:
        node.cell, node.right = None, 0
