"""T4 + T5, the additive theorem: clear the softmax denominator, bound the slack, count.

Theorem. Fix a class: query ``q``, label ``m``. For a wrong output ``x`` let ``y_i(t) >= f_i(t)`` be
the integer bounds of ``_margins``, over the tokens ``t`` that occur in words of the class. T5
(``_slack``), with one column for each token, bounds the words that are wrong; the rest of the
class is right.

Proof: docs/theory.md, T4 and T5. Cost: O(v^3 x k) for the maxima, plus at most
``O(k bins min(v, bins))`` for each ``(q, m, x)`` not excluded by the worst case; independent of
``v^k``.
"""

from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import final

import numpy as np

from .._claim import ClassCount, Proved, conclude, require_fit
from .._errors import OptionError
from .._integers import VerifiedTables
from .._margins import Margins
from .._slack import Terms, wrong_words
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
    tables: VerifiedTables,
    task: Task,
    options: AdditiveOptions,
    tick: Tick = no_tick,
    witness: None = None,
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
            terms = class_terms(margins, query, words)
            wrong = min(size, wrong_words(terms, words, options.bins, ledger))
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


def class_terms(margins: Margins, query: int, words: ClassAutomaton) -> Terms:
    """The bounds of a class, a column for each token, grouped by letter. Cost: O(k v x)."""
    tokens = np.array([t for letter in words.letters for t in letter], dtype=np.int64)
    letter_of = np.array([a for a, letter in enumerate(words.letters) for _ in letter], np.int64)
    scale = margins.scale(query, tokens)
    last = slice(words.length, words.length + 1)
    at_query = margins.upper(query, last, np.array([query]), scale)[0, 0]
    before = margins.upper(query, slice(0, words.length), tokens, scale)
    return Terms(at_query, before, letter_of)
