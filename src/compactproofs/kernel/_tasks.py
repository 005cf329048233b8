"""The tasks that there are, by name; ``_task`` says what a task is."""

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from math import gcd
from typing import Final, final

import numpy as np
from jaxtyping import Bool, Int

from ._automata import ClassAutomaton as ClassAutomaton
from ._automata import LabelAutomaton as LabelAutomaton
from ._errors import TaskError
from ._task import Task as Task
from ._task import meaning_digest as meaning_digest

_MAX_STATES: Final = 1 << 16
_MAX_ENTRIES: Final = 1 << 22  # of an automaton's table, states times tokens


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


def _check_sizes(name: str, k: int, v: int, fewest: int) -> None:
    if type(k) is not int or type(v) is not int or k < fewest or v < 1:
        raise TaskError(
            f"the task {name} is not defined: k must be a whole number, at least {fewest}, and v "
            "one, at least 1"
        )


def _check_states(name: str, states: int, v: int) -> None:
    most = min(_MAX_STATES, _MAX_ENTRIES // v)
    if states > most:
        raise TaskError(
            f"the task {name} is too large: its automaton would have more than {most} states; "
            "lower k or v"
        )


@final
class SecondLargest(Task):
    """The label is the second largest of the ``k`` tokens, equal ones counted apart."""

    def __init__(self, k: int, v: int) -> None:
        """``k >= 2`` tokens from a vocabulary of ``v >= 1``, at most 202."""
        self.k = k
        self.v = v
        _check_sizes(self.name, k, v, fewest=2)
        _check_states(self.name, v * (v + 1) // 2, v)

    @property
    def name(self) -> str:
        """As ``second:k=4,v=12``."""
        return f"second:k={self.k},v={self.v}"

    @cached_property
    def automaton(self) -> LabelAutomaton:
        """The state is the pair of the two largest tokens so far, at first (0, 0).

        The zeros before any token change nothing, for at least two tokens follow. The pair
        ``a >= b`` has the number ``a (a + 1) / 2 + b``.
        """
        a, b = np.tril_indices(self.v)
        tokens = np.arange(self.v)
        largest = np.maximum(a[:, None], tokens)
        second = np.maximum(b[:, None], np.minimum(a[:, None], tokens))
        return LabelAutomaton(largest * (largest + 1) // 2 + second, b)

    def acceptor(
        self, label: int
    ) -> tuple[Int[np.ndarray, "states v"], Bool[np.ndarray, " states"]]:
        """The same automaton over three tokens: below the label, the label, above it.

        Whether the second largest is the label depends on no more; below 0 there is nothing.
        """
        own = min(label, 1)
        step, second = _SECOND_OF_THREE.automaton
        return step[:, own + np.sign(np.arange(self.v) - label)], second == own


_SECOND_OF_THREE: Final = SecondLargest(2, 3)


@final
class SumModV(Task):
    """The label is the sum of the ``k`` tokens modulo ``v``."""

    def __init__(self, k: int, v: int) -> None:
        """``k >= 1`` tokens from a vocabulary of ``v >= 1``, at most 2048."""
        self.k = k
        self.v = v
        _check_sizes(self.name, k, v, fewest=1)
        _check_states(self.name, v, v)

    @property
    def name(self) -> str:
        """As ``sum:k=2,v=31``."""
        return f"sum:k={self.k},v={self.v}"

    @cached_property
    def automaton(self) -> LabelAutomaton:
        """The state is the sum so far."""
        tokens = np.arange(self.v)
        return LabelAutomaton((tokens[:, None] + tokens) % self.v, tokens)

    def classes(self) -> Iterator[tuple[int, int, ClassAutomaton]]:
        """The same as of any task, written down: words with the sum ``label - query``."""
        letters = tuple((token,) for token in range(self.v))
        step = tuple(map(tuple, self.automaton.step.tolist()))
        with_sum = [
            ClassAutomaton(self.k - 1, letters, step, tuple(s == wanted for s in range(self.v)))
            for wanted in range(self.v)
        ]
        for label in range(self.v):
            for query in range(self.v) if self.k > 1 else (label,):
                yield query, label, with_sum[(label - query) % self.v]


@final
class FetchAndMap(Task):
    """The last token points at another one; the label is that token, permuted.

    The last token ``q`` points at the position ``p = q mod (k - 1)``, and the label is
    ``perm(t_p)`` with ``perm(t) = (a t + 1) mod v``, where ``a`` is the least whole number that has
    no divisor but 1 in common with ``v`` and is at least 2 and at least ``618 v / 1000``.
    """

    def __init__(self, k: int, v: int) -> None:
        """``k >= 2`` tokens from ``v >= 1``; the automaton remembers the first ``k - 1``.

        Raises TaskError where that takes more than 2^16 states, or 2^22 entries of its table.
        """
        self.k = k
        self.v = v
        _check_sizes(self.name, k, v, fewest=2)
        # Without the first comparison v^k could be a number of megabytes.
        many = v > 1 and k > _MAX_STATES.bit_length()
        _check_states(self.name, _MAX_STATES + 1 if many else _words_up_to(k - 1, v) + v, v)

    @property
    def name(self) -> str:
        """As ``fetch:k=4,v=16``."""
        return f"fetch:k={self.k},v={self.v}"

    @cached_property
    def permutation(self) -> Int[np.ndarray, " v"]:
        """``perm(t)`` for every token."""
        factor = max(2, -(-618 * self.v // 1000))
        while gcd(factor, self.v) > 1:
            factor += 1
        return (factor * np.arange(self.v) + 1) % self.v

    @cached_property
    def automaton(self) -> LabelAutomaton:
        """The state is the word so far, up to ``k - 1`` tokens; after the query, the label.

        The empty word is 0, and the word ``s`` with a token ``t`` added is ``v s + 1 + t``. The
        label ``m`` follows on all words; other states have the label 0.
        """
        v, n = self.v, self.k - 1
        shorter, words = _words_up_to(n - 1, v), _words_up_to(n, v)
        step = np.empty((words + v, v), dtype=np.int64)
        step[:shorter] = v * np.arange(shorter)[:, None] + 1 + np.arange(v)
        token = np.array([np.arange(words - shorter) // v ** (n - 1 - p) % v for p in range(n)])
        step[shorter:words] = words + self.permutation[token[np.arange(v) % n]].T
        step[words:] = np.arange(words, words + v)[:, None]
        return LabelAutomaton(step, np.concatenate([np.zeros(words, np.int64), np.arange(v)]))

    def classes(self) -> Iterator[tuple[int, int, ClassAutomaton]]:
        """The same as of any task, written down: words with one token given, the others free."""
        for label in range(self.v):
            words = [self._words(position, label) for position in range(self.k - 1)]
            for query in range(self.v):
                yield query, label, words[query % (self.k - 1)]

    def class_automaton(self, query: int, label: int) -> ClassAutomaton | None:
        """The words before ``query`` that give ``label``, or None if there are none."""
        if not 0 <= label < self.v:
            return None
        return self._words(query % (self.k - 1), label)

    def _words(self, position: int, label: int) -> ClassAutomaton:
        """Words that hold at ``position`` the token that maps to ``label``."""
        (source,) = np.flatnonzero(self.permutation == label).tolist()
        others = tuple(token for token in range(self.v) if token != source)
        letters = ((source,), others) if others else ((source,),)
        reading = [(state + 1,) * len(letters) for state in range(position)]
        there = (position + 1, -1)[: len(letters)]
        done = (position + 1,) * len(letters)
        return ClassAutomaton(
            length=self.k - 1,
            letters=letters,
            step=(*reading, there, done),
            accepting=(False,) * (position + 1) + (True,),
        )


def _words_up_to(length: int, v: int) -> int:
    """How many words over ``v`` tokens have at most ``length`` of them."""
    return sum(v**n for n in range(length + 1))


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


_TASKS: Final[dict[str, Callable[[int, int], Task]]] = {
    "max": MaxOfK,
    "second": SecondLargest,
    "sum": SumModV,
    "fetch": FetchAndMap,
}
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
    whole = _TASKS[kind](values["k"], values["v"])
    if queries is None:
        return whole
    if not parts:
        raise TaskError(f"the task {text!r} is a part of {whole.name}: pass the whole task here")
    return PartOfTask(whole, queries)
