"""Cells of any transformer: in each, the MLPs that the answer passes through are straight lines.

The witness puts each sequence that it claims right into a cell, in any way at all; those of one
cell with different labels are told apart here. ``relaxed`` of the last MLPs are replaced by lines,
at the last position, where the answer is read. For the sequences of a cell with one label:

1. ``mid`` and ``z``, the residual before the first of these MLPs and what reaches its neurons, are
   enclosed exactly, whatever the model's depth; what sequences share, above all the earlier
   positions, is computed once (``_shared_prefix``).
2. All but the last of these MLPs are linear in the cell, with an error for each neuron; attention
   carries these errors on: the residual is a cloud (``_cloud``).
3. On the ranges of ``z`` over the cell every neuron of the last MLP is bounded by a line
   (``_lines``): for each output ``x`` one vector ``C`` and number ``B`` for the whole cell, with

       logit(label) - logit(x) >= mid C + B,

   and less what the cloud's errors can take from it.

Theorem. A sequence for which these bounds exceed 0 for every ``x`` but the label is right.

The partition is disjoint because the witness holds one cell for each sequence; it need not be
exhaustive, and what is in no cell counts as not right. Every claim is checked: a sequence whose
bound does not reach above 0 refutes the witness.

Cost: that of ``_shared_prefix``, ``2 d x`` for each sequence and ``4 d m x`` for each cell, and
what ``_cloud`` states if ``relaxed > 1``. Unexplained dimension: what is still taken case by case,
``d`` numbers of every claimed sequence, and ``(d + 1) (x - 1)`` of the lines of each cell.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from .._claim import ClassCount, Proved, conclude, require_fit
from .._cloud import Cloud, through_attention, through_lines
from .._enclosure import Ball
from .._errors import EnclosureError, MalformedError, OptionError, RejectedError
from .._ledger import Ledger
from .._lines import margin_lines
from .._network import sequences
from .._shared_prefix import SharedPrefix
from .._tasks import Task
from .._tick import Tick, no_tick
from .._transformer import Transformer
from .._witness import require_array
from ._brute_force_network import count_classes

MAX_SEQUENCES = 1 << 20
MAX_CELL = 1 << 16  # sequences of a cell, whose residuals are kept at one time


@final
@dataclass(frozen=True)
class CellsOptions:
    """How many cells a proof may have, and how much of the model is linear in them."""

    cells: int = 1024
    """Counted apart by label; a witness with more is refused."""
    relaxed: int = 1
    """MLPs in lines, counted from the last."""

    def __post_init__(self) -> None:
        """Refuse cells outside ``1 .. MAX_SEQUENCES`` and ``relaxed`` below 1."""
        if type(self.cells) is not int or not 1 <= self.cells <= MAX_SEQUENCES:
            raise OptionError(f"cells = {self.cells} must be from 1 to {MAX_SEQUENCES}")
        if type(self.relaxed) is not int or self.relaxed < 1:
            raise OptionError(f"relaxed = {self.relaxed} must be at least 1, the last MLP")


class CellsWitness(NamedTuple):
    """The partition."""

    cell: Int32[np.ndarray, " n"]
    """Of each sequence, in the order of ``_network.sequences``; -1 for one that is not claimed."""


def cells(
    net: Transformer,
    task: Task,
    options: CellsOptions,
    tick: Tick = no_tick,
    witness: CellsWitness | None = None,
) -> Proved:
    """Prove a lower bound on the accuracy by the theorem above."""
    require_fit(task, net)
    require_relaxable(net, options)
    if witness is None:
        raise OptionError("the theorem cells needs its witness: the cell of each sequence")
    tokens, cell = claimed_cells(task, witness)
    labels = task.labels(tokens)
    groups = cells_by_label(cell, labels)
    if len(groups) > options.cells:
        raise OptionError(
            f"the witness has {len(groups)} cells by label, more than cells = {options.cells}"
        )
    ledger = Ledger()
    shared = SharedPrefix(net, ledger, tick)
    done = 0
    for batch in in_batches(groups, shared.at_once):
        here = tokens[np.concatenate(batch)]
        mid, z = residuals(shared, here, len(net.blocks) - options.relaxed)
        start = 0
        for group in batch:
            rows = slice(start, start + len(group))
            start += len(group)
            label = int(labels[group[0]])
            try:
                bounds = margin_bounds(net, shared, label, here[rows], mid[rows], z[rows], options)
            except EnclosureError as error:  # the errors of lines may be of any size
                raise RejectedError(f"the cell {cell[group[0]]} is too wide: {error}") from None
            right = above_zero(bounds, label)
            if not right.all():
                first = group[int(np.argmin(right))]
                raise RejectedError(
                    f"the sequence {tokens[first].tolist()} is not proved right in its cell "
                    f"{cell[first]}, as the witness claims"
                )
            done += len(group)
            tick(done, len(tokens))
    right = cell >= 0
    sizes: dict[tuple[int, int], list[int]] = {}
    count_classes(sizes, tokens[:, -1], labels, right)
    correct = int(right.sum())
    return conclude(
        theorem="cells",
        options=asdict(options),
        tables=net,
        task=task,
        by_class=[ClassCount(q, m, *counts) for (q, m), counts in sorted(sizes.items())],
        undecided=task.total - correct,
        unexplained_dimension=correct * net.d_model
        + len(groups) * (net.d_model + 1) * (net.d_vocab_out - 1),
        ledger=ledger,
        witness=witness,
    )


def claimed_cells(
    task: Task, witness: CellsWitness
) -> tuple[Int64[np.ndarray, "n k"], Int32[np.ndarray, " n"]]:
    """All sequences of the task and their cells; refuses an array of another form."""
    if task.total > MAX_SEQUENCES:
        raise OptionError(
            f"{task.name} has {task.total} sequences, more than the {MAX_SEQUENCES} that the "
            "theorem cells takes: use --theorem crosscoder-d or additive"
        )
    cell = require_array("cell", witness.cell, np.int32, (task.total,))
    if (cell < -1).any():
        raise MalformedError(f"tensor cell holds {int(cell.min())}: cells are 0 and up, -1 is none")
    return sequences(task, 0, task.total), cell


def cells_by_label(
    cell: Int32[np.ndarray, " n"], labels: Int64[np.ndarray, " n"]
) -> list[Int64[np.ndarray, " _"]]:
    """The sequences of each cell and label, by number; refuses a cell that is too large."""
    claimed = np.flatnonzero(cell >= 0)
    order = claimed[np.lexsort((claimed, labels[claimed], cell[claimed]))]
    if not order.size:
        return []
    change = (np.diff(cell[order]) != 0) | (np.diff(labels[order]) != 0)
    groups = np.split(order, np.flatnonzero(change) + 1)
    largest = max(groups, key=len)
    if len(largest) > MAX_CELL:
        raise MalformedError(
            f"cell {cell[largest[0]]} holds {len(largest)} sequences of one label, more than "
            f"{MAX_CELL}: split it"
        )
    return groups


def in_batches(
    groups: list[Int64[np.ndarray, " _"]], size: int
) -> Iterator[list[Int64[np.ndarray, " _"]]]:
    """Runs of cells with at least ``size`` sequences together."""
    batch: list[Int64[np.ndarray, " _"]] = []
    held = 0
    for group in groups:
        batch.append(group)
        held += len(group)
        if held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def require_relaxable(net: Transformer, options: CellsOptions) -> None:
    """Refuse more MLPs in lines than the model has, or than can be carried through."""
    depth = len(net.blocks) if net.blocks[0].d_mlp else 1
    if options.relaxed > depth:
        raise OptionError(
            f"relaxed = {options.relaxed}, but this model has {depth} MLPs to replace by lines"
        )
    if options.relaxed > 1 and net.attention_dir != "causal":
        raise OptionError(
            f"relaxed = {options.relaxed} needs causal attention, and this model's is "
            f"{net.attention_dir}: use relaxed = 1"
        )


def residuals(
    shared: SharedPrefix, tokens: Int64[np.ndarray, "n k"], layer: int
) -> tuple[Ball, Ball]:
    """``mid [n, d]`` and ``z [n, m]`` of a layer, block by block."""
    parts = [
        shared.last(tokens[start : start + shared.at_once], layer)
        for start in range(0, len(tokens), shared.at_once)
    ]

    def joined(halves: list[Ball]) -> Ball:
        return Ball(
            np.concatenate([half.mid for half in halves]),
            np.concatenate([half.rad for half in halves]),
            halves[0].ledger,
        )

    return joined([mid for mid, _ in parts]), joined([z for _, z in parts])


def margin_bounds(
    net: Transformer,
    shared: SharedPrefix,
    label: int,
    tokens: Int64[np.ndarray, "n k"],
    mid: Ball,
    z: Ball,
    options: CellsOptions,
) -> Float64[np.ndarray, "n x"]:
    """Numbers not above ``logit(label) - logit(x)`` of the sequences of one cell and label.

    mid, z: of the first MLP in lines.
    """
    cloud = Cloud(mid, None, None)
    for layer in range(len(net.blocks) - options.relaxed, len(net.blocks) - 1):
        cloud = through_lines(net.blocks[layer], cloud, z)
        block, earlier = net.blocks[layer + 1], shared.earlier(layer + 1, tokens)
        cloud = through_attention(block, shared.circuits[layer + 1], cloud, earlier)
        z = cloud.read(Ball.exact(block.W_in, mid.ledger), Ball.exact(block.b_in, mid.ledger))
    lines = margin_lines(net, label, z.lower().min(axis=0), z.upper().max(axis=0), mid)
    return lines.bounds(cloud)


def above_zero(bounds: Float64[np.ndarray, "n x"], label: int) -> Bool[np.ndarray, " n"]:
    """Where every output but the label is certainly behind it."""
    above = bounds > 0
    above[:, label] = True
    return np.asarray(above.all(axis=1))
