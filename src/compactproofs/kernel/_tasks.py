"""Tasks: what the right answer is, and how many inputs there are of each kind.

A task fixes the number of tokens ``k``, the vocabulary ``v``, the uniform distribution over all
``v^k`` sequences, and a label for each sequence: that of the state in which a finite automaton
stops after reading it (docs/theory.md, T8). Theorems work class by class: the class ``(q, m)``
holds the sequences whose last token (the query) is ``q`` and whose label is ``m``. Counts of
sequences are Python integers, which do not overflow.
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Int

from ._errors import TaskError


class LabelAutomaton(NamedTuple):
    """A deterministic automaton over the tokens ``0 .. v-1`` that starts in state 0."""

    step: Int[np.ndarray, "states v"]
    """The state after reading token ``t`` in state ``s`` is ``step[s, t]``."""
    label: Int[np.ndarray, " states"]
    """The label of a sequence that ends in state ``s`` is ``label[s]``."""


@final
@dataclass(frozen=True)
class ClassAutomaton:
    """Which words ``t_0 .. t_{k-2}`` put before a fixed query give a fixed label.

    Tokens that the automaton cannot tell apart share one *letter*; tokens that occur in no such
    word have none. Reading starts in state 0.
    """

    length: int
    """Tokens in a word, ``k - 1``."""
    letters: tuple[tuple[int, ...], ...]
    """For each letter the tokens it stands for, ascending; no token occurs twice."""
    step: tuple[tuple[int, ...], ...]
    """``step[s][a]``: the state after letter ``a`` in state ``s``, or -1: no word goes on so."""
    accepting: tuple[bool, ...]
    """Whether a word that ends in state ``s`` gives the label."""

    @cached_property
    def moves(self) -> tuple[dict[int, dict[int, tuple[int, ...]]], ...]:
        """``moves[i][s]``: for each next state the letters at position ``i`` that lead there.

        Only states that can be reached at ``i`` and moves after which a word can still be
        accepted at its end: following all moves spells the words of the class, each once.
        """
        forward = [{0}]
        for _ in range(self.length):
            forward.append({t for s in forward[-1] for t in self.step[s] if t >= 0})
        useful = {s for s in forward[-1] if self.accepting[s]}
        moves: list[dict[int, dict[int, tuple[int, ...]]]] = []
        for states in reversed(forward[:-1]):
            here: dict[int, dict[int, tuple[int, ...]]] = {}
            for state in sorted(states):
                for letter, target in enumerate(self.step[state]):
                    if target in useful:
                        letters = here.setdefault(state, {}).get(target, ())
                        here[state][target] = (*letters, letter)
            moves.append(here)
            useful = set(here)
        return tuple(reversed(moves))

    @cached_property
    def size(self) -> int:
        """The exact number of words."""
        counts = {0: int(self.length > 0 or self.accepting[0])}
        for here in self.moves:
            following: dict[int, int] = {}
            for state, targets in here.items():
                for target, letters in targets.items():
                    choices = sum(len(self.letters[letter]) for letter in letters)
                    following[target] = following.get(target, 0) + counts[state] * choices
            counts = following
        return sum(counts.values())


class Task(ABC):
    """A labelling of all ``v^k`` token sequences, uniformly distributed."""

    k: int
    """Tokens in a sequence."""
    v: int
    """Size of the vocabulary."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The canonical spelling, which ``parse_task`` reads back."""

    @cached_property
    @abstractmethod
    def automaton(self) -> LabelAutomaton:
        """The automaton that computes the label of a whole sequence."""

    @property
    def queries(self) -> range:
        """The last tokens that sequences may have; all tokens, but for a ``PartOfTask``."""
        return range(self.v)

    @property
    def whole(self) -> "Task":
        """The task without restriction of its queries."""
        return self

    @property
    def total(self) -> int:
        """The number of sequences: ``v^(k-1)`` for each query."""
        return len(self.queries) * self.v ** (self.k - 1)

    @cached_property
    def digest(self) -> str:
        """See ``meaning_digest``."""
        return meaning_digest(self)

    def labels(self, tokens: Int[np.ndarray, "n k"]) -> Int[np.ndarray, " n"]:
        """The label of each sequence. Cost: one look-up per token."""
        step, label = self.automaton
        state = np.zeros(len(tokens), dtype=np.int64)
        for column in tokens.T:
            state = step[state, column]
        return label[state]

    def classes(self) -> Iterator[tuple[int, int, ClassAutomaton]]:
        """Every ``(query, label, words)`` with at least one sequence, in the order of the labels.

        A disjoint cover of the sequences.
        """
        step, labels = self.automaton
        for label in sorted(set(labels.tolist())):
            # Many queries accept the same states: for max-of-k, all below the label.
            known: dict[bytes, ClassAutomaton | None] = {}
            for query in range(self.v):
                accepts = labels[step[:, query]] == label
                key = accepts.tobytes()
                if key not in known:
                    known[key] = _merge_states(step, accepts, self.k - 1)
                words = known[key]
                if words is not None:
                    yield query, label, words

    def class_automaton(self, query: int, label: int) -> ClassAutomaton | None:
        """The words before ``query`` that give ``label``, or None if there are none."""
        step, labels = self.automaton
        return _merge_states(step, labels[step[:, query]] == label, self.k - 1)


def _merge_states(
    step: Int[np.ndarray, "states v"], accepts: Bool[np.ndarray, " states"], length: int
) -> ClassAutomaton | None:
    """The automaton of the words of a length that end in a state of ``accepts``, or None.

    States that accept the same continuations are merged (Moore's partition refinement,
    O(states v) a round); states from which nothing is accepted are dropped.
    """
    block = accepts.astype(np.int64)
    while True:
        refined = _number_rows(np.column_stack([block, block[step]]))
        if refined.max() == block.max():
            break
        block = refined
    member = np.unique(block, return_index=True)[1]  # one state of each block
    merged = block[step[member]]
    words = _trim(merged, accepts[member], int(block[0]), length)
    return words if words is not None and words.size else None


def meaning_digest(task: Task) -> str:
    """SHA-256 (hex) of ``k``, ``v`` and the automaton's tables: the meaning, not the name.

    Of a part of a task its queries as well.
    """
    step, label = task.automaton
    meaning: dict[str, object] = {
        "distribution": "uniform",
        "k": task.k,
        "label": label.tolist(),
        "step": step.tolist(),
        "v": task.v,
    }
    if task.queries != range(task.v):
        meaning["queries"] = [task.queries.start, task.queries.stop - 1]
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(b"compactproofs task 1\n" + text.encode()).hexdigest()


def _number_rows(rows: Int[np.ndarray, "n c"]) -> Int[np.ndarray, " n"]:
    """Equal rows get equal numbers ``0, 1, ...``, different rows different ones."""
    packed = np.ascontiguousarray(rows, dtype=np.int64)
    as_one = packed.view(np.dtype((np.void, packed.shape[1] * 8))).ravel()
    return np.unique(as_one, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _trim(
    merged: Int[np.ndarray, "states v"],
    accepts: Bool[np.ndarray, " states"],
    start: int,
    length: int,
) -> ClassAutomaton | None:
    """Keep the states between start and acceptance, start first; group tokens into letters."""
    live = accepts.copy()
    while (grown := live | live[merged].any(axis=1)).sum() > live.sum():
        live = grown
    if not live[start]:
        return None
    order = [start]
    for state in order:  # grows while it is read
        order += [s for s in dict.fromkeys(merged[state].tolist()) if live[s] and s not in order]
    renumber = np.full(len(live), -1)
    renumber[order] = np.arange(len(order))
    step = renumber[merged[order]]
    by_column: dict[tuple[int, ...], list[int]] = {}
    for token, column in enumerate(map(tuple, step.T.tolist())):
        by_column.setdefault(column, []).append(token)
    by_column.pop((-1,) * len(order), None)
    return ClassAutomaton(
        length=length,
        letters=tuple(tuple(tokens) for tokens in by_column.values()),
        step=tuple(zip(*by_column, strict=True)) if by_column else ((),) * len(order),
        accepting=tuple(bool(a) for a in accepts[order]),
    )


@final
class MaxOfK(Task):
    """The label is the largest of the ``k`` tokens."""

    def __init__(self, k: int, v: int) -> None:
        """``k >= 1`` tokens from a vocabulary of ``v >= 1``."""
        if type(k) is not int or type(v) is not int or k < 1 or v < 1:
            raise TaskError(f"max-of-k with k={k}, v={v}: both must be whole numbers, at least 1")
        self.k = k
        self.v = v

    @property
    def name(self) -> str:
        """As ``max:k=4,v=64``."""
        return f"max:k={self.k},v={self.v}"

    @cached_property
    def automaton(self) -> LabelAutomaton:
        """The state is the largest token so far; 0 before any, which changes no maximum."""
        tokens = np.arange(self.v)
        return LabelAutomaton(np.maximum(tokens[:, None], tokens[None, :]), tokens)

    def classes(self) -> Iterator[tuple[int, int, ClassAutomaton]]:
        """The same as of any task, written down: all tokens up to ``m``, one of them ``m``."""
        n = self.k - 1
        for m in range(self.v):
            below, upto = tuple(range(m)), tuple(range(m + 1))
            if n:
                some = ClassAutomaton(n, (below, (m,)), ((0, 1), (1, 1)), (False, True))
                yield from ((q, m, some) for q in range(m))
            yield m, m, ClassAutomaton(n, (upto,), ((0,),), (True,))


@final
class PartOfTask(Task):
    """The sequences of a task whose last token lies in a range, uniformly distributed."""

    def __init__(self, whole: Task, queries: range) -> None:
        """queries: some, but not all, of the tokens, in a row."""
        v = whole.v
        first, last = (queries[0], queries[-1]) if len(queries) else (0, -1)
        if queries.step != 1 or not 0 <= first <= last < v or len(queries) == v:
            raise TaskError(
                f"queries {first}-{last} of {whole.name}: must be a range within 0-{v - 1}, "
                "not empty and not all of it"
            )
        if whole.whole is not whole:
            raise TaskError(f"{whole.name} is a part already: take parts of the whole task")
        self.k = whole.k
        self.v = v
        self._whole = whole
        self._queries = queries

    @property
    def name(self) -> str:
        """As ``max:k=4,v=64,q=0-31``."""
        return f"{self._whole.name},q={self._queries[0]}-{self._queries[-1]}"

    @cached_property
    def automaton(self) -> LabelAutomaton:
        """That of the whole task."""
        return self._whole.automaton

    @property
    def queries(self) -> range:
        """The last tokens that sequences may have."""
        return self._queries

    @property
    def whole(self) -> Task:
        """The task that this is a part of."""
        return self._whole

    def classes(self) -> Iterator[tuple[int, int, ClassAutomaton]]:
        """The classes of the whole task with these queries."""
        return (one for one in self._whole.classes() if one[0] in self._queries)

    def class_automaton(self, query: int, label: int) -> ClassAutomaton | None:
        """That of the whole task, or None for another query."""
        return self._whole.class_automaton(query, label) if query in self._queries else None


_TASKS = {"max": MaxOfK}
_MAX_V = 2048  # the automaton has v^2 entries
_MAX_BITS = 12_000  # of v^k, so that every count prints in under 4000 digits


def is_task_name(text: str) -> bool:
    """Whether ``text`` spells a task of ours, so that no other task may bear it."""
    return text.partition(":")[0] in _TASKS


def parse_task(text: str, *, parts: bool = False) -> Task:
    """Read a task like ``max:k=4,v=64``; raises ``TaskError`` with the way out.

    parts: whether a part of a task will do, as ``max:k=4,v=64,q=0-31`` (last tokens 0 to 31).
    """
    kind, _, parameters = text.partition(":")
    if kind not in _TASKS:
        raise TaskError(
            f"unknown task {text!r}: known tasks are {', '.join(_TASKS)}, as max:k=4,v=64"
        )
    values: dict[str, int] = {}
    queries: range | None = None
    for part in parameters.split(","):
        match = re.fullmatch(r"([kv])=([1-9][0-9]{0,5})", part)
        ends = re.fullmatch(r"q=(0|[1-9][0-9]{0,5})-(0|[1-9][0-9]{0,5})", part)
        if ends is not None and queries is None:
            queries = range(int(ends[1]), int(ends[2]) + 1)
        elif match is None or match[1] in values:
            raise TaskError(
                f"cannot read {part!r} in the task {text!r}: write it as {kind}:k=4,v=64, or "
                f"{kind}:k=4,v=64,q=0-31 for a part of it"
            )
        else:
            values[match[1]] = int(match[2])
    if set(values) != {"k", "v"}:
        raise TaskError(f"the task {text!r} needs both k and v, as {kind}:k=4,v=64")
    if values["v"] > _MAX_V or values["k"] * values["v"].bit_length() > _MAX_BITS:
        raise TaskError(
            f"the task {text!r} is too large: v is at most {_MAX_V} and v^k at most 2^{_MAX_BITS}"
        )
    whole = _TASKS[kind](**values)
    if queries is None:
        return whole
    if not parts:
        raise TaskError(f"the task {text!r} is a part of {whole.name}: pass the whole task here")
    return PartOfTask(whole, queries)
