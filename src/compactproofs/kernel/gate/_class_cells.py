"""G4: the cells of a class-wise theorem are a gate, whose coverage is the theorem's bound.

A class-wise theorem proves sets of token sequences right, whole. Take these sets as cells and admit
a sequence exactly if it lies in one of them.

Theorem (G4). On an admitted sequence the model's answer is the task's label: the wrong mass is 0.
Under the task's uniform distribution the gate admits exactly ``coverage`` of all sequences; if the
theorem decides by these sets alone (the additive theorem without counting, where every effort is
the worst case; the cubic theorem), ``coverage`` is the theorem's bound, the same fraction.

Proof. Each set holds only sequences that the theorem proved right. They are disjoint, as classes
are, and so are the cubic theorem's sets inside a class, told apart by ``n``. Both sides count the
same sequences.

With counting, or with enumeration, a theorem knows how many sequences of a class are right but not
which: such a class is no cell, and the coverage is below the bound.
"""

from fractions import Fraction
from math import comb
from typing import final

import numpy as np
from jaxtyping import Bool, Int

from .._claim import Proved, require_fit
from .._errors import KernelDefectError, TaskError
from .._frozen import Immutable, frozen
from .._integers import VerifiedTables
from .._ledger import Ledger
from .._tasks import Task, meaning_digest
from ..theorems.cubic import CubicOptions, cubic, safe_tokens

_SEAL = object()


@final
class ClassGate(Immutable):
    """Admits the token sequences of the cells of one theorem about one model and task."""

    __slots__ = ("coverage", "fillings", "model_sha256", "proved", "task", "whole")

    proved: Proved
    """The theorem's result: what the admission rests on."""
    task: Task
    model_sha256: str
    coverage: Fraction
    """The exact share of the task's sequences that is admitted."""
    whole: Bool[np.ndarray, "q m"]
    """Classes that are cells."""
    fillings: Bool[np.ndarray, "q m z n"] | None
    """Of the cubic theorem: with ``n`` smaller tokens, all of them in the set, it is admitted."""

    def __init__(
        self,
        proved: Proved,
        task: Task,
        coverage: Fraction,
        whole: Bool[np.ndarray, "q m"],
        fillings: Bool[np.ndarray, "q m z n"] | None,
        *,
        seal: object,
    ) -> None:
        """Only ``class_gate`` and ``cubic_gate`` hold the seal."""
        if seal is not _SEAL:
            raise TypeError("a ClassGate comes from class_gate or cubic_gate alone")
        self._assign(
            proved=proved,
            task=task,
            model_sha256=proved.claim.model_sha256,
            coverage=coverage,
            whole=frozen(whole),
            fillings=None if fillings is None else frozen(fillings),
        )

    def admitted(self, tokens: Int[np.ndarray, "n k"]) -> Bool[np.ndarray, " n"]:
        """Which sequences are admitted; one with a token outside the vocabulary is not.

        Raises TaskError for sequences of another length or not of integers. Cost: O(k) a sequence.
        """
        if tokens.shape[1] != self.task.k:
            raise TaskError(
                f"sequences have {tokens.shape[1]} tokens, but {self.task.name} has k={self.task.k}"
            )
        if not np.issubdtype(tokens.dtype, np.integer):
            raise TaskError(f"tokens are {tokens.dtype}: pass integers, nothing is rounded")
        known = ((tokens >= 0) & (tokens < self.task.v)).all(axis=1)
        known &= np.isin(tokens[:, -1], np.asarray(self.task.queries))
        result = np.zeros(len(tokens), dtype=bool)
        inside = tokens[known].astype(np.int64)
        if not len(inside):
            return result
        query, label = inside[:, -1], self.task.labels(inside)
        if self.fillings is None:
            result[known] = self.whole[query, label]
            return result
        before = inside[:, :-1]
        smaller = before != label[:, None]
        n = smaller.sum(axis=1)
        right = self.whole[query, label] & (n == 0)
        for count in range(1, self.task.k):
            rows = np.flatnonzero(n == count)
            safe = self.fillings[query[rows, None], label[rows, None], before[rows], count - 1]
            right[rows] = (safe | ~smaller[rows]).all(axis=1)
        result[known] = right
        return result


def class_gate(proved: Proved, task: Task) -> ClassGate:
    """The gate whose cells are the classes that a theorem proved right as a whole.

    Raises TaskError if the proof is about another task.
    """
    if meaning_digest(task) != proved.claim.task_sha256:
        raise TaskError(
            f"the proof is about {proved.claim.task}, not {task.name}: pass the task it names"
        )
    outputs = int(task.automaton.label.max()) + 1
    whole = np.zeros((task.v, outputs), dtype=bool)
    admitted = 0
    for part in proved.by_class:
        if part.correct == part.size:
            whole[part.query, part.label] = True
            admitted += part.size
    return ClassGate(proved, task, Fraction(admitted, task.total), whole, None, seal=_SEAL)


def cubic_gate(tables: VerifiedTables, task: Task) -> ClassGate:
    """The gate whose cells are the sets of the cubic theorem, on the same integers.

    Raises what the theorem raises. Cost: twice the theorem's.
    """
    require_fit(task, tables)
    proved = cubic(tables, task, CubicOptions())
    v, k = task.v, task.k
    whole = np.zeros((v, v), dtype=bool)
    fillings = np.zeros((v, v, v, k - 1), dtype=bool)
    admitted = 0
    for safe in safe_tokens(tables, task, Ledger()):
        whole[safe.query, safe.query :] = safe.alone
        fillings[safe.query, safe.query :] = safe.fillings
        for label in range(safe.query, v):
            admitted += int(safe.alone[label - safe.query])
            # Below the query's own label one position must hold the label itself.
            most = k - 1 if label == safe.query else k - 2
            for n in range(1, most + 1):
                tokens = int(safe.fillings[label - safe.query, :, n - 1].sum())
                admitted += comb(k - 1, n) * tokens**n
    if admitted != proved.claim.correct:
        raise KernelDefectError(f"{admitted} sequences are in cells, not {proved.claim.correct}")
    return ClassGate(proved, task, Fraction(admitted, task.total), whole, fillings, seal=_SEAL)
