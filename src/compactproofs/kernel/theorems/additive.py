"""T4 + T5, the additive theorem: clear the softmax denominator, bound the slack, count.

Theorem. Fix a class: query ``q``, label ``m``. For a wrong output ``x`` let ``y_i(t) >= f_i(t)`` be
the integer bounds of ``_margins``, over the tokens ``t`` that occur in words of the class (at
whichever position), ``M_i = max_t y_i(t)``, ``base = y_{k-1}(q)`` and ``W = base + sum_i M_i``.

1. If the largest ``base + sum_i y_i(t_i)`` over the words of the class is negative, no sequence of
   the class is wrong against ``x``. (The automaton of the class makes this maximum exact: for
   max-of-k it contains the condition that some position holds ``m``.)
2. Otherwise a sequence that is wrong against ``x`` has ``sum_i (M_i - y_i(t_i)) <= W``; at most
   ``wrong_x`` words, counted by ``count_within_slack``, are that close.
3. With ``y_i(t) = max_x y_i(t, x)`` over the outputs not excluded by 1, the same bounds the
   sequences wrong against *any* of them by ``wrong_joint``.

So at least ``size - min(size, sum_x wrong_x, wrong_joint)`` sequences of the class are right.

Proof: docs/theory.md, T4 and T5. Cost: O(v^3 x k) for the maxima, plus at most
``O(k bins min(v, bins))`` for each ``(q, m, x)`` not excluded by 1; independent of ``v^k``.
"""

from dataclasses import asdict, dataclass
from functools import reduce
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Int64

from .._claim import ClassCount, Proved, conclude, require_fit
from .._counting import count_within_slack
from .._errors import OptionError
from .._integers import VerifiedTables
from .._ledger import Counted, Ledger
from .._margins import Margins
from .._tables import unexplained_dimension
from .._tasks import ClassAutomaton, Task
from .._tick import Tick, no_tick

MAX_BINS = 65536


@final
@dataclass(frozen=True)
class AdditiveOptions:
    """How finely slack is counted: more bins, a tighter bound, a longer proof."""

    bins: int = 128

    def __post_init__(self) -> None:
        """Refuse bins outside ``1 .. MAX_BINS``."""
        if type(self.bins) is not int or not 1 <= self.bins <= MAX_BINS:
            raise OptionError(f"bins = {self.bins} must be from 1 to {MAX_BINS}")


def additive(
    tables: VerifiedTables, task: Task, options: AdditiveOptions, tick: Tick = no_tick
) -> Proved:
    """Prove a lower bound on the accuracy by the theorem above."""
    require_fit(task, tables)
    ledger = tables.start_ledger()
    by_class: list[ClassCount] = []
    labels = len(set(task.automaton.label.tolist()))
    for done, (label, classes) in enumerate(groupby(task.classes(), key=itemgetter(1))):
        tick(done, labels)
        margins = Margins(tables, label, ledger)
        for query, _, words in classes:
            size = words.size
            wrong = min(size, _wrong_words(margins, query, words, options.bins, ledger))
            by_class.append(ClassCount(query, label, size, size - wrong))
    return conclude(
        theorem="additive",
        options=asdict(options),
        tables=tables,
        task=task,
        by_class=by_class,
        undecided=task.total - sum(part.correct for part in by_class),
        unexplained_dimension=unexplained_dimension(task.v, task.k, tables.d_vocab_out),
        ledger=ledger,
    )


class _Terms(NamedTuple):
    """The bounds ``y`` of one class."""

    at_query: Int64[np.ndarray, " x"]
    before: Int64[np.ndarray, "i t x"]
    """Tokens are grouped by letter."""
    letter_of: Int64[np.ndarray, " t"]


def _terms(margins: Margins, query: int, words: ClassAutomaton) -> _Terms:
    tokens = np.array([t for letter in words.letters for t in letter], dtype=np.int64)
    letter_of = np.array([a for a, letter in enumerate(words.letters) for _ in letter], np.int64)
    scale = margins.scale(query, tokens)
    last = slice(words.length, words.length + 1)
    at_query = margins.upper(query, last, np.array([query]), scale)[0, 0]
    before = margins.upper(query, slice(0, words.length), tokens, scale)
    return _Terms(at_query, before, letter_of)


def _wrong_words(
    margins: Margins, query: int, words: ClassAutomaton, bins: int, ledger: Ledger
) -> int:
    """An upper bound on the words after which the model is wrong or tied."""
    terms = _terms(margins, query, words)
    worst = _worst_word(terms, words)
    open_outputs = np.flatnonzero(np.asarray(worst >= 0))
    # The worst outputs first: their counts reach the joint one soonest, and the rest is saved.
    order = np.argsort(-np.asarray(worst)[open_outputs], kind="stable")
    open_outputs = open_outputs[order]
    ledger.point(open_outputs.size)
    if not open_outputs.size:
        return 0
    if not words.length:
        return 1  # the empty word, which has no slack to count
    at_query, before = terms.at_query[open_outputs], terms.before[:, :, open_outputs]
    if open_outputs.size > 1:
        at_query, before = _with_joint(at_query, ledger), _with_joint(before, ledger)
    highest = before.max(axis=1)  # [i, x]
    budgets = (at_query + highest.sum(axis=0)).tolist()
    slack = np.moveaxis(highest[:, None, :] - before, 2, 0)
    counts = count_within_slack(words, slack, terms.letter_of, budgets, bins, ledger)
    wrong_joint = next(counts)
    if open_outputs.size == 1:
        return wrong_joint
    wrong_by_output = 0
    for wrong in counts:
        wrong_by_output += wrong
        if wrong_by_output >= wrong_joint:  # the sum only grows
            return wrong_joint
    return wrong_by_output


def _with_joint(rows: Int64[np.ndarray, "*shape x"], ledger: Ledger) -> Counted:
    """The maximum over all outputs, then the rows of the outputs themselves."""
    joint = rows.max(axis=-1, keepdims=True)
    return Counted.of(np.concatenate([joint, rows], axis=-1), ledger)


def _worst_word(terms: _Terms, words: ClassAutomaton) -> Int64[np.ndarray, " x"]:
    """For each wrong output the largest ``base + sum_i y_i(t_i)`` over the words of the class."""
    by_letter = [
        terms.before[:, terms.letter_of == letter].max(axis=1)
        for letter in range(len(words.letters))
    ]
    best = {0: terms.at_query}
    for position, moves in enumerate(words.moves):
        following: dict[int, Int64[np.ndarray, " x"]] = {}
        for state, targets in moves.items():
            for target, letters in targets.items():
                for letter in letters:
                    candidate = best[state] + by_letter[letter][position]
                    if target in following:
                        candidate = np.maximum(following[target], candidate)
                    following[target] = candidate
        best = following
    return reduce(np.maximum, best.values())
