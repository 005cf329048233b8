"""Brute force: every sequence is decided by itself, from enclosures, in exact integers.

Theorem. A sequence with label ``m`` is right if, for every other output ``x``, an integer upper
bound on ``Z (logit(x) - logit(m))`` (T4, ``_margins``) is negative, and wrong if for some ``x`` a
lower bound is not. Sequences that are neither are undecided and count as not right.

Two passes. The first adds up the class's upper bounds, which share one unit, over all words of the
class; what it proves right is right. The second decides each remaining sequence in a unit of its
own, from both sides.

Cost: O(v^k x) integer operations for the sums of the first pass and O(v^3 x k) for their terms;
O(D k x) for the D sequences that reach the second. Unexplained dimension ``v^k x``, that is
``v^(k+1)``.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import final

import numpy as np
from jaxtyping import Int

from .._claim import ClassCount, Proved, conclude, require_fit
from .._errors import KernelDefectError, OptionError
from .._integers import VerifiedTables
from .._ledger import Counted
from .._margins import Margins
from .._tasks import ClassAutomaton, Task
from .._tick import Tick, no_tick

MAX_SEQUENCES = 1 << 32
MAX_TOKENS = 100  # the recursion below is as deep
_BLOCK = 1 << 17  # numbers per array: what stays in a core's cache


@final
@dataclass(frozen=True)
class BruteForceOptions:
    """Brute force has no options."""


def brute_force(
    tables: VerifiedTables,
    task: Task,
    options: BruteForceOptions,
    tick: Tick = no_tick,
    witness: None = None,
) -> Proved:
    """Decide every sequence of the task; see the theorem above. It takes no witness."""
    if task.total > MAX_SEQUENCES or task.k > MAX_TOKENS:
        raise OptionError(
            f"brute force over {task.v}^{task.k} sequences would not end (at most {MAX_SEQUENCES} "
            f"sequences of {MAX_TOKENS} tokens): use --theorem additive"
        )
    require_fit(task, tables)
    ledger = tables.start_ledger()
    by_class: list[ClassCount] = []
    undecided = done = 0
    for label, classes in groupby(task.classes(), key=itemgetter(1)):
        margins = Margins(tables, label, ledger)
        for query, _, words in classes:
            right, doubts = _decide(margins, query, words)
            by_class.append(ClassCount(query, label, words.size, right))
            undecided += doubts
            done += words.size
            tick(done, task.total)
    return conclude(
        theorem="brute-force",
        options=asdict(options),
        tables=tables,
        task=task,
        by_class=by_class,
        undecided=undecided,
        unexplained_dimension=task.total * tables.d_vocab_out,
        ledger=ledger,
    )


def _decide(margins: Margins, query: int, words: ClassAutomaton) -> tuple[int, int]:
    """How many sequences of the class are proved right, and how many stay undecided."""
    examined = right = undecided = 0
    for several, doubtful in _first_pass(margins, query, words):
        examined += several
        right += several - len(doubtful)
        if not doubtful.size:
            continue
        lower, upper = margins.of_sequences(doubtful)
        shown_right = np.asarray((upper < 0).all(axis=1))
        shown_wrong = np.asarray((lower >= 0).any(axis=1))
        right += int(shown_right.sum())
        undecided += int((~shown_right & ~shown_wrong).sum())
    if examined != words.size:
        raise KernelDefectError(f"{examined} of {words.size} sequences of a class examined")
    return right, undecided


_Block = tuple[int, Int[np.ndarray, "n k"]]
"""How many sequences were examined, and those of them that were not proved right."""


def _first_pass(margins: Margins, query: int, words: ClassAutomaton) -> Iterator[_Block]:
    """Every sequence of the class, in blocks."""
    letters = [np.array(letter, dtype=np.int64) for letter in words.letters]
    tokens = np.concatenate(letters) if letters else np.zeros(0, np.int64)
    scale = margins.scale(query, tokens)
    outputs = len(margins.outputs)
    if not outputs:  # a single output is never outdone
        yield words.size, np.zeros((0, words.length + 1), dtype=np.int64)
        return
    last = slice(words.length, words.length + 1)
    start = margins.upper(query, last, np.array([query]), scale)[0].T  # [x, 1]
    terms = [
        np.moveaxis(margins.upper(query, slice(0, words.length), letter, scale), 2, 1)
        for letter in letters
    ]  # [letter][i, x, t]

    def extend(state: int, sums: Counted, prefix: Int[np.ndarray, "n i"]) -> Iterator[_Block]:
        position = prefix.shape[1]
        if position == words.length:
            doubtful = np.flatnonzero(np.asarray(sums.max(axis=0) >= 0))
            queries = np.full((len(doubtful), 1), query)
            yield len(prefix), np.concatenate([prefix[doubtful], queries], axis=1)
            return
        for target, by_letter in words.moves[position][state].items():
            for letter in by_letter:
                choices = letters[letter]
                rows = max(1, _BLOCK // (outputs * len(choices)))
                for begin in range(0, len(prefix), rows):
                    some = prefix[begin : begin + rows]
                    added = terms[letter][position][:, None, :]
                    longer = sums[:, begin : begin + rows, None] + added
                    before = np.repeat(some, len(choices), axis=0)
                    now = np.tile(choices, len(some))[:, None]
                    yield from extend(
                        target,
                        longer.reshape(outputs, -1),
                        np.concatenate([before, now], axis=1),
                    )

    yield from extend(0, start, np.zeros((1, 0), dtype=np.int64))
