"""Search for the cells of the theorem ``cells``: which sequences share one linear bound.

It begins with one cell for each label (or with cells that the caller proposes, such as the inputs
whose strongest crosscoder features are the same) and splits the cell with most unproved sequences,
until none is left or there are as many cells as allowed. A split separates the inputs of the first
neurons in lines into two means, each neuron weighted by what its line costs. Nothing here is
trusted: claimed is what the kernel's own bounds exceed with room.

Notation: N sequences, d width, m neurons, x outputs; mid, z, a, C, B as in ``kernel/_lines.py``.
"""

import heapq
from itertools import count
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64

from ..kernel import EnclosureError, OptionError, Task, Tick, Transformer, no_tick
from ..kernel._ledger import Ledger
from ..kernel._network import sequences
from ..kernel._shared_prefix import SharedPrefix
from ..kernel.theorems.cells import (
    MAX_CELL,
    MAX_SEQUENCES,
    CellsOptions,
    margin_bounds,
    require_relaxable,
    residuals,
)

_ROOM = 2.0**-24
"""Of the largest bound of a cell: far above what other machines round differently."""
_ROUNDS = 10  # of the two means


class _Cell(NamedTuple):
    """Sequences of one label, by number, and what the lines say of them."""

    rows: Int64[np.ndarray, " s"]
    label: int
    proved: Bool[np.ndarray, " s"]
    cost: Float64[np.ndarray, " m"]
    """Of each neuron, what replacing it by a line may take from a margin."""

    @property
    def open(self) -> int:
        """Sequences not proved."""
        return len(self.rows) - int(self.proved.sum())


def find_cells_through_depth(
    net: Transformer,
    task: Task,
    options: CellsOptions,
    tick: Tick = no_tick,
    seeds: Int[np.ndarray, " N"] | None = None,
) -> dict[str, np.ndarray]:
    """The witness: the cell of every sequence that is proved in it, -1 for the others.

    seeds: a number for each sequence in lexicographic order; sequences with different numbers are
    in different cells from the start. Cost: a forward pass of every sequence, then
    ``O(s d x + d m x)`` for each split of ``s`` sequences.
    """
    if task.total > MAX_SEQUENCES:
        raise OptionError(
            f"{task.name} has {task.total} sequences, more than the {MAX_SEQUENCES} that the "
            "theorem cells takes: use --theorem crosscoder-d or additive"
        )
    require_relaxable(net, options)
    search = _Search(net, task, options, tick)
    return {"cell": search.witness(search.split(seeds, tick))}


@final
class _Search:
    def __init__(self, net: Transformer, task: Task, options: CellsOptions, tick: Tick) -> None:
        self.net, self.options = net, options
        self.tokens = sequences(task, 0, task.total)
        self.labels = np.asarray(task.labels(self.tokens), dtype=np.int64)
        self.shared = SharedPrefix(net, Ledger(), tick)
        first = len(net.blocks) - options.relaxed
        self.mid, self.z = residuals(self.shared, self.tokens, first)
        self.block = net.blocks[first]

    def split(
        self, seeds: Int[np.ndarray, " N"] | None, tick: Tick
    ) -> list[Int64[np.ndarray, " _"]]:
        """Cells of one label each, at most as many as the options allow."""
        most = self.options.cells
        begun = np.zeros(len(self.labels), dtype=np.int64) if seeds is None else np.asarray(seeds)
        if begun.shape != self.labels.shape:
            raise OptionError(
                f"seeds have shape {begun.shape}, not one number for each of the "
                f"{len(self.labels)} sequences"
            )
        _, group = np.unique(np.stack([begun, self.labels]), axis=1, return_inverse=True)
        group = group.reshape(-1)
        order = np.argsort(group, kind="stable")
        begin = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
        begin = sorted(
            (part for rows in begin for part in _of_size(rows)), key=lambda rows: -len(rows)
        )
        number = count()
        heap: list[tuple[int, int, _Cell]] = []
        for rows in begin[:most]:
            cell = self.look(rows)
            heapq.heappush(heap, (-cell.open, next(number), cell))
        closed: list[_Cell] = []
        while heap and len(heap) + len(closed) < most:
            tick(len(self.labels) + sum(first for first, _, _ in heap), len(self.labels))
            if not heap[0][2].open:
                break
            cell = heapq.heappop(heap)[2]
            parts = self.halves(cell)
            if parts is None:
                closed.append(cell)
                continue
            for rows in parts:
                half = self.look(rows)
                heapq.heappush(heap, (-half.open, next(number), half))
        return [cell.rows for cell in closed] + [cell.rows for _, _, cell in heap]

    def look(self, rows: Int64[np.ndarray, " s"]) -> _Cell:
        """What is proved of a cell, about; in float64 where that is simple."""
        label = int(self.labels[rows[0]])
        z = self.z.mid[rows]
        low, high = z.min(axis=0), z.max(axis=0)
        undecided = (low < 0) & (high > 0)
        if self.options.relaxed > 1:
            weight = np.linalg.norm(self.block.W_out, axis=1)
            proved = self.bounds(rows).min(axis=1) > 0
        else:
            c = self.net.W_U[:, [label]] - self.net.W_U
            a = self.block.W_out @ c
            weight = np.abs(a).max(axis=1, initial=0.0)
            proved = self._in_floats(rows, label, a, low, high) > 0
        cost = weight * np.where(undecided, np.minimum(-low, high), 0.0)
        return _Cell(rows, label, proved, cost)

    def _in_floats(
        self,
        rows: Int64[np.ndarray, " s"],
        label: int,
        a: Float64[np.ndarray, "m x"],
        low: Float64[np.ndarray, " m"],
        high: Float64[np.ndarray, " m"],
    ) -> Float64[np.ndarray, " s"]:
        """The least bound of each sequence where the last MLP alone is in lines."""
        net, block = self.net, self.block
        undecided = (low < 0) & (high > 0)
        chord = np.where(undecided, high, 0.0) / np.where(undecided, high - low, 1.0)
        flat = np.where(undecided, high > -low, low >= 0).astype(float)
        s = np.where(undecided[:, None] & (a < 0), chord[:, None], flat[:, None])
        t = np.where(undecided[:, None] & (a < 0), (-chord * low)[:, None], 0.0)
        c = net.W_U[:, [label]] - net.W_U
        start = block.b_out @ c + net.b_U[label] - net.b_U
        start = start + (a * (s * block.b_in[:, None] + t)).sum(axis=0)
        bound = self.mid.mid[rows] @ (c + block.W_in @ (a * s)) + start
        bound[:, label] = np.inf
        return bound.min(axis=1)

    def bounds(self, rows: Int64[np.ndarray, " s"]) -> Float64[np.ndarray, "s x"]:
        """The kernel's bounds of a cell's margins; infinity at its label."""
        label = int(self.labels[rows[0]])
        try:
            found = margin_bounds(
                self.net,
                self.shared,
                label,
                self.tokens[rows],
                self.mid[rows],
                self.z[rows],
                self.options,
            )
        except EnclosureError:  # errors too large to be carried through a softmax
            return np.full((len(rows), self.net.d_vocab_out), -np.inf)
        found[:, label] = np.inf
        return found

    def halves(self, cell: _Cell) -> tuple[Int64[np.ndarray, " a"], Int64[np.ndarray, " b"]] | None:
        """Two means of the weighted neurons; None if the lines cost nothing, or nothing differs."""
        points = self.z.mid[cell.rows] * cell.cost
        points = points - points.mean(axis=0)
        if len(cell.rows) < 2 or not points.any():
            return None
        _, _, axes = np.linalg.svd(points[:: max(1, len(points) // 4096)], full_matrices=False)
        side = points @ axes[0] > 0
        for _ in range(_ROUNDS):
            if side.all() or not side.any():
                return None
            near, far = points[side].mean(axis=0), points[~side].mean(axis=0)
            new = ((points - near) ** 2).sum(axis=1) < ((points - far) ** 2).sum(axis=1)
            if (new == side).all():
                break
            side = new
        if side.all() or not side.any():
            return None
        return cell.rows[side], cell.rows[~side]

    def witness(self, cells: list[Int64[np.ndarray, " _"]]) -> Int[np.ndarray, " N"]:
        """What the kernel's bounds prove with room, as its tensor."""
        cell = np.full(len(self.labels), -1, dtype=np.int32)
        used = 0
        for rows in cells:
            kept = self.kept(rows)
            if len(kept):
                cell[kept] = used
                used += 1
        return cell

    def kept(self, rows: Int64[np.ndarray, " s"]) -> Int64[np.ndarray, " kept"]:
        """The sequences of a cell that are proved in it once the others have left."""
        while len(rows):
            bounds = self.bounds(rows)
            finite = np.abs(bounds[np.isfinite(bounds)])
            room = _ROOM * finite.max(initial=0.0)
            proved = (bounds > room).all(axis=1)
            if proved.all():
                break
            rows = rows[proved]
        return rows


def _of_size(rows: Int64[np.ndarray, " s"]) -> list[Int64[np.ndarray, " _"]]:
    """Parts of at most as many sequences as a cell may have."""
    return [rows[start : start + MAX_CELL] for start in range(0, len(rows), MAX_CELL)]
