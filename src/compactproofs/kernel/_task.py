"""What a task is: the right answer to each input, and how many inputs there are of each kind.

A task fixes the number of tokens ``k``, the vocabulary ``v``, the uniform distribution over all
``v^k`` sequences, and a label for each sequence: that of the state in which a finite automaton
stops after reading it (docs/theory.md, T8). Theorems work class by class: the class ``(q, m)``
holds the sequences whose last token (the query) is ``q`` and whose label is ``m``. Counts of
sequences are Python integers, which do not overflow.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int

from ._automata import ClassAutomaton, LabelAutomaton, classes_with_label, merge_states


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
        for label in sorted(set(self.automaton.label.tolist())):
            yield from classes_with_label(*self.acceptor(label), label, self.k)

    def class_automaton(self, query: int, label: int) -> ClassAutomaton | None:
        """The words before ``query`` that give ``label``, or None if there are none."""
        step, accepted = self.acceptor(label)
        return merge_states(step, accepted[step[:, query]], self.k - 1)

    def acceptor(
        self, label: int
    ) -> tuple[Int[np.ndarray, "states v"], Bool[np.ndarray, " states"]]:
        """An automaton of the sequences with one label: its steps and its accepting states."""
        step, labels = self.automaton
        return step, labels == label


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
