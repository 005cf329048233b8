"""Theorem D: cells described by predicates on the tokens, with exact ranges of the neurons.

Subject: one layer, one head, ReLU neurons (``_front``). For every label a tree of questions about
the sequence (``_cells``) ends in cells. Of each cell the witness claims a range for every neuron,
which is verified exactly, whatever attention does (``_cell``, *Ranges*); in the ranges the neurons
are bounded by lines (*Relaxation*), and what is left is one function per position: T5 (``_slack``)
bounds the words that are wrong against some output. All other sequences of the cell are right.

Nothing of the witness is trusted. Its integer tables are verified (``_integers``) and so are its
ranges; any tree covers the sequences of a label once, any slope gives a bound. A crosscoder's part
is to propose cells: the theorem does not ask where they come from.

Proof: the statements of ``_front``, ``_cell``, ``_cells`` and ``_slack``; docs/theory.md section 7.
Without neurons and with one cell for each label it is the additive theorem.

Cost, for ``U`` cells of ``Q`` queries: that of the tables with ``x + m`` outputs, ``2 d m x`` for
the coefficients, ``O(U m x (k v + Q))`` for the margins and ``O(U Q k v (2 m + x))`` for ranges and
worst cases, times the states of the class; and ``O(k L min(v, L))`` for each of the outputs that
slack is counted of, see ``additive``. ``v^k`` enters by its logarithm alone.

Unexplained dimension: the entries of the tables A, B, F, G, H of the front, the coefficients R, and
for each cell two ends for every neuron and a margin for every other output, ``2 m + x - 1``.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from .._cell import (
    WHOLE,
    Members,
    Ranges,
    margin_functionals,
    range_functionals,
    ranges_hold,
)
from .._cells import Path, leaves
from .._claim import ClassCount, Proved, conclude, require_fit
from .._errors import KernelDefectError, MalformedError, OptionError, RejectedError
from .._front import Front, verified_front
from .._integers import IntegerTables
from .._slack import wrong_words
from .._tables import unexplained_dimension
from .._tasks import ClassAutomaton, Task
from .._tick import Tick, no_tick
from .._transformer import Transformer
from .._witness import require_array

MAX_BINS = 65536
MAX_CELLS = 1 << 16


@final
@dataclass(frozen=True)
class CrosscoderDOptions:
    """How many cells a proof may have, and how finely slack is counted in them."""

    bins: int = 128
    """0 to take the worst case of each cell only."""
    cells: int = 1024
    """A witness with more is refused."""

    def __post_init__(self) -> None:
        """Refuse bins outside ``0 .. MAX_BINS`` and cells outside ``1 .. MAX_CELLS``."""
        for name, value, least, most in (
            ("bins", self.bins, 0, MAX_BINS),
            ("cells", self.cells, 1, MAX_CELLS),
        ):
            if type(value) is not int or not least <= value <= most:
                raise OptionError(f"{name} = {value} must be from {least} to {most}")


class CellWitness(NamedTuple):
    """The front's tables, a tree for each label, and what is claimed of each cell."""

    front_weight_low: Int32[np.ndarray, "k v v"]
    front_weight_high: Int32[np.ndarray, "k v v"]
    front_weight_exponent: Int32[np.ndarray, "k v v"]
    front_value_low: Int32[np.ndarray, "k v n"]
    front_value_high: Int32[np.ndarray, "k v n"]
    front_direct_low: Int32[np.ndarray, "v n"]
    front_direct_high: Int32[np.ndarray, "v n"]
    front_shift: Float64[np.ndarray, " v"]
    front_grid: Int64[np.ndarray, "1"]
    """These nine as in ``IntegerTables``; outputs ``n``: the logits, then the neurons."""
    tree: Int32[np.ndarray, "nodes 3"]
    sets: UInt8[np.ndarray, " sv"]
    """Trees of the labels in ascending order, see ``_cells``; the sets row after row."""
    range_low: Int32[np.ndarray, "u m"]
    range_high: Int32[np.ndarray, "u m"]
    """For each cell that is not given up; see ``Ranges`` for ends that are not claimed."""
    share: UInt8[np.ndarray, " uxm"]
    """Slopes of undecided neurons with negative coefficients, see ``margin_functionals``: for each
    such cell, row after row, a row for each output."""


CELL_WITNESS_TYPES = dict.fromkeys(CellWitness._fields, "I32") | {
    "front_shift": "F64",
    "front_grid": "I64",
    "sets": "U8",
    "share": "U8",
}


def crosscoder_d(
    net: Transformer,
    task: Task,
    options: CrosscoderDOptions,
    tick: Tick = no_tick,
    witness: CellWitness | None = None,
) -> Proved:
    """Prove a lower bound on the accuracy by the theorem above."""
    require_fit(task, net)
    if witness is None:
        raise OptionError("crosscoder-d needs its witness: the cells and what is claimed of them")
    claimed = IntegerTables(*(getattr(witness, f"front_{name}") for name in IntegerTables._fields))
    front = verified_front(net, claimed)
    by_class = classes_proved(front, task, options, tick, witness)
    return conclude(
        theorem="crosscoder-d",
        options=asdict(options),
        tables=net,
        task=task,
        by_class=by_class,
        undecided=task.total - sum(part.correct for part in by_class),
        unexplained_dimension=_unexplained_dimension(front, len(witness.range_low)),
        ledger=front.ledger,
        witness=witness,
    )


def classes_proved(
    front: Front, task: Task, options: CrosscoderDOptions, tick: Tick, witness: CellWitness
) -> list[ClassCount]:
    """What the cells prove of each class."""
    by_label = [(label, list(some)) for label, some in groupby(task.classes(), itemgetter(1))]
    cells = _cells(witness, front, len(by_label), options.cells)
    by_class: list[ClassCount] = []
    for done, (label, classes) in enumerate(by_label):
        tick(done, len(by_label))
        words = {query: one for query, _, one in classes}
        held, right = dict.fromkeys(words, 0), dict.fromkeys(words, 0)
        for cell in cells[done]:
            inside = words_inside(cell.path, words)
            for query, one in inside.items():
                held[query] += one.size
            if cell.proved and inside:
                for query, wrong in wrong_in_cell(front, label, cell, inside, options.bins):
                    right[query] += inside[query].size - wrong
        for query, one in words.items():
            if held[query] != one.size:
                raise KernelDefectError(f"the cells do not cover the class ({query}, {label})")
            by_class.append(ClassCount(query, label, one.size, right[query]))
    return by_class


class CellClaim(NamedTuple):
    """A cell, and what the witness says of it."""

    path: Path
    proved: bool
    """Whether anything is to be proved of it; if not, the rest is empty."""
    low: Int32[np.ndarray, " m"]
    high: Int32[np.ndarray, " m"]
    share: UInt8[np.ndarray, "x m"]


def _cells(witness: CellWitness, front: Front, labels: int, most: int) -> list[list[CellClaim]]:
    """The cells of each label, in the order of the tree; refuses arrays of another form."""
    v, m, x = front.v, front.m, front.x
    nodes = len(witness.tree) if _axes(witness.tree) == 2 else 0
    marked = len(witness.sets) // v if _axes(witness.sets) == 1 else 0
    tree = require_array("tree", witness.tree, np.int32, (nodes, 3))
    sets = require_array("sets", witness.sets, np.uint8, (marked * v,)).reshape(marked, v)
    trees = leaves(tree, sets, labels, front.k)
    number = sum(leaf.proved for some in trees for leaf in some)
    if number > most:
        raise OptionError(f"the witness has {number} cells, more than cells = {most}")
    low = require_array("range_low", witness.range_low, np.int32, (number, m))
    high = require_array("range_high", witness.range_high, np.int32, (number, m))
    share = require_array("share", witness.share, np.uint8, (number * x * m,))
    if (share > WHOLE).any():
        raise MalformedError(f"tensor share holds {int(share.max())}: {WHOLE} parts are the whole")
    rows = iter(zip(low, high, share.reshape(number, x, m), strict=True))
    nothing = (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((x, 0), np.uint8))
    return [
        [CellClaim(*leaf, *(next(rows) if leaf.proved else nothing)) for leaf in some]
        for some in trees
    ]


def _axes(array: object) -> int:
    return array.ndim if isinstance(array, np.ndarray) else 0


def words_inside(path: Path, words: dict[int, ClassAutomaton]) -> dict[int, ClassAutomaton]:
    """The words before each query that a cell holds; queries without any left out."""
    known: dict[int, ClassAutomaton | None] = {}  # many queries share their words
    inside: dict[int, ClassAutomaton] = {}
    for query, one in words.items():
        if path.query[query]:
            if id(one) not in known:
                known[id(one)] = path.within(one)
            if (kept := known[id(one)]) is not None:
                inside[query] = kept
    return inside


def wrong_in_cell(
    front: Front,
    label: int,
    cell: CellClaim,
    inside: dict[int, ClassAutomaton],
    bins: int,
) -> Iterator[tuple[int, int]]:
    """Every query with an upper bound on its words in the cell that are wrong.

    Raises ``RejectedError`` if a neuron can leave the range that the witness claims.
    """
    members = Members.of(inside)
    ranges = Ranges.of(cell.low, cell.high, front.ledger)
    checks = range_functionals(front, members, ranges)
    for query, words in inside.items():
        if not ranges_hold(front, checks, query, words):
            raise RejectedError(
                f"a neuron leaves the range claimed of it in a cell of label {label}, query {query}"
            )
    margins = margin_functionals(front, members, label, ranges, cell.share)
    for query, words in inside.items():
        terms = margins.terms(front, query, words)
        yield query, min(words.size, wrong_words(terms, words, bins, front.ledger))


def _unexplained_dimension(front: Front, cells: int) -> int:
    """See the top of this file."""
    m, x = front.m, front.x
    tables = unexplained_dimension(front.v, front.k, x + m)
    return tables + m * x + cells * (2 * m + x - 1)
