"""T4 + T5, the additive theorem: clear the softmax denominator, bound the slack, count.

Theorem. Fix a class: query ``q``, label ``m``. For a wrong output ``x`` let ``y_i(t) >= f_i(t)`` be
the integer bounds of ``_margins``, over the tokens ``t`` that occur in words of the class. T5
(``_slack``), with one column for each token, bounds the words that are wrong; the rest of the
class is right.

*Anytime.* A witness may say for each class how much work to spend, and in which order to ask
against which output a word is wrong first (``_first_rival``): the theorem is sound for every
choice, so the search for a good one is free.

Proof: docs/theory.md, T4 and T5. Cost: O(v^3 x k) for the terms and their maxima, whatever the
model; O(N + C log v) for the ``N`` numbers of open outputs in open classes and the ``C = k v R``
numbers of the ``R`` rows counted; O(k L min(v, L)) a row for its products, times the states and
letters of the class, with ``L``, the 64-bit limbs that hold its bins, about
``(bins + k) (k log2 v + 32) / 64`` at most. ``N <= v^3 x k`` and ``R <= v^2 x``. Plus enumeration
where asked for; without it ``v^k`` enters by its logarithm alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Int, Int32

from .._claim import ClassCount, Proved, conclude, require_fit
from .._errors import MalformedError, OptionError
from .._first_rival import MAX_EIGHTHS, SPARE, Rival, wrong_by_first_rival
from .._integers import VerifiedTables
from .._ledger import Ledger
from .._margins import Margins
from .._remainder import remaining_words
from .._slack import Terms, worst_word, wrong_words
from .._tables import unexplained_dimension
from .._tasks import ClassAutomaton, Task
from .._tick import Tick, no_tick
from .._witness import require_array

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


SKIP = 0
"""Nothing is proved of the class, at no cost."""
WORST_CASE = -1
"""All of the class is right, or nothing is proved of it."""
ENUMERATE = -2
"""The words that the worst case leaves open are listed (``_remainder``)."""
OPEN_PREFIXES = 1 << 19
"""Beyond so many open prefixes at one position an enumeration is given up: nothing is proved."""


class EffortWitness(NamedTuple):
    """For each class a number of bins, or one of the codes above."""

    effort: Int32[np.ndarray, "q m"]
    order: Int32[np.ndarray, "n 6"]
    """Rows ``query, label, output, group, pivot, eighths``, a class's in its order (see ``Rival``;
    here output and pivot are outputs). A class with rows is counted by ``_first_rival``."""


def additive(
    tables: VerifiedTables,
    task: Task,
    options: AdditiveOptions,
    tick: Tick = no_tick,
    witness: EffortWitness | None = None,
) -> Proved:
    """Prove a lower bound on the accuracy by the theorem above."""
    require_fit(task, tables)
    effort = _efforts(witness, options.bins, task.v, tables.d_vocab_out)
    orders = {} if witness is None else _orders(witness.order, effort)
    ledger = tables.start_ledger()
    by_class: list[ClassCount] = []
    labels = len(set(task.automaton.label.tolist()))
    for done, (label, classes) in enumerate(groupby(task.classes(), key=itemgetter(1))):
        tick(done, labels)
        margins = Margins(tables, label, ledger) if effort[:, label].any() else None
        for query, _, words in classes:
            size, spent = words.size, int(effort[query, label])
            wrong = size
            if margins is not None and spent != SKIP:
                order = orders.get((query, label), ())
                wrong = wrong_of_class(margins, query, words, spent, ledger, order)
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
        witness=witness,
    )


def _efforts(
    witness: EffortWitness | None, bins: int, v: int, outputs: int
) -> Int[np.ndarray, "q m"]:
    if witness is None:
        return np.full((v, outputs), bins)
    effort = require_array("effort", witness.effort, np.int32, (v, outputs))
    if (effort < ENUMERATE).any() or (effort > MAX_BINS).any():
        raise MalformedError(
            f"tensor effort holds {int(effort.min())} to {int(effort.max())}: it may hold "
            f"{ENUMERATE}, {WORST_CASE}, {SKIP} and numbers of bins up to {MAX_BINS}"
        )
    return effort


def _orders(
    given: object, effort: Int[np.ndarray, "q m"]
) -> Mapping[tuple[int, int], Sequence[Rival]]:
    """The order of each class that has one, in columns of its terms."""
    count = len(given) if isinstance(given, np.ndarray) and given.ndim == 2 else 0
    rows = require_array("order", given, np.int32, (count, 6))
    v, outputs = effort.shape
    result: dict[tuple[int, int], list[Rival]] = {}
    earlier: dict[tuple[int, int], set[int]] = {}
    for number, (query, label, output, group, pivot, eighths) in enumerate(rows.tolist()):
        known = earlier.setdefault((query, label), set())
        if not (
            0 <= query < v
            and 0 <= label < outputs
            and effort[query, label] > 0
            and 0 <= output < outputs
            and output != label
            and output not in known
            and group >= 0
            and 0 <= eighths <= MAX_EIGHTHS
            and (pivot in known if eighths else pivot == -1)
        ):
            raise MalformedError(
                f"row {number} of the tensor order is {rows[number].tolist()}: it must name a "
                "class with bins, an output not named before, and as pivot one named before or -1, "
                f"with a multiplier up to {MAX_EIGHTHS}"
            )
        known.add(output)
        rival = Rival(output - (output > label), group, pivot - (pivot > label), eighths)
        result.setdefault((query, label), []).append(rival)
    return result


def wrong_of_class(
    margins: Margins,
    query: int,
    words: ClassAutomaton,
    effort: int,
    ledger: Ledger,
    order: Sequence[Rival] = (),
) -> int:
    """An upper bound on the words of a class that are wrong; its size at most."""
    if order:
        terms = class_terms(margins, query, words, SPARE)
        return wrong_by_first_rival(terms, words, order, effort, ledger)
    terms = class_terms(margins, query, words)
    if effort == ENUMERATE:
        worst = np.asarray(worst_word(terms, words))
        ledger.point(worst.size)
        at_risk = np.flatnonzero(worst >= 0)
        if not at_risk.size:
            return 0
        narrowed = Terms(terms.at_query[at_risk], terms.before[:, :, at_risk], terms.letter_of)
        return remaining_words(narrowed, words, OPEN_PREFIXES, ledger)
    bins = 0 if effort == WORST_CASE else effort
    return min(words.size, wrong_words(terms, words, bins, ledger))


def class_terms(margins: Margins, query: int, words: ClassAutomaton, spare: int = 0) -> Terms:
    """The bounds of a class, a column for each token, grouped by letter. Cost: O(k v x).

    spare: bits by which the unit is coarser, for whom multiplies terms.
    """
    tokens = np.array([t for letter in words.letters for t in letter], dtype=np.int64)
    letter_of = np.array([a for a, letter in enumerate(words.letters) for _ in letter], np.int64)
    scale = margins.scale(query, tokens) + spare
    last = slice(words.length, words.length + 1)
    at_query = margins.upper(query, last, np.array([query]), scale)[0, 0]
    before = margins.upper(query, slice(0, words.length), tokens, scale)
    return Terms(at_query, before, letter_of)
