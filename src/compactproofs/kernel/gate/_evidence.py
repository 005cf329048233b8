"""Counting on the stream: which data lie in which events, and which answers were bad.

The event of a cell is the set of activation vectors that ``CellTable`` finds inside it without
any uncertainty; a composite cell's event is the conjunction of those of its parts. Data are bad if
the answer (the one largest output, or none) is not their label.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from .._errors import UserError
from ._cell import Cell
from ._cell_table import CellTable
from ._chain import Batch, History, UnusableError
from ._entries import BAD, RecordEntry, StreamEntry
from ._relu_network import ReluNetwork
from ._shards import Shard
from ._sites import Sites


@runtime_checkable
class Shards(Protocol):
    """Where shards are found by name; a dict is such a place."""

    def get(self, sha256: str, /) -> Shard | None:
        """The shard of this SHA-256, if it is there."""
        ...


NO_ANSWER: Final = -1
UNLABELLED: Final = -1


def answers(outputs: Float64[np.ndarray, "n x"]) -> Int64[np.ndarray, " n"]:
    """The place of the one largest output; -1 for a tie, NaN or infinity."""
    best = outputs.argmax(axis=1)
    top = np.take_along_axis(outputs, best[:, None], axis=1)
    alone = (outputs == top).sum(axis=1) == 1
    return np.where(alone & np.isfinite(outputs).all(axis=1), best, NO_ANSWER)


def stored_arrays(
    history: History, shards: Shards, number: int, reference: str
) -> Mapping[str, Shaped[np.ndarray, "..."]]:
    """The arrays of the shard that a line names; raises UnusableError if they are not there."""
    shard = shards.get(reference)
    if type(shard) is not Shard or shard.sha256 != reference:
        raise UnusableError(f"{history.name(number)}: its shard {reference[:12]} is missing")
    return shard.arrays


def stored_rows(
    history: History, shards: Shards, number: int, sites: Sites, outputs: int
) -> Mapping[str, Shaped[np.ndarray, "..."]]:
    """The data of a record or of a batch of the stream, with shapes and labels checked."""
    entry = history.lines[number].entry
    if not isinstance(entry, RecordEntry | StreamEntry):
        raise UnusableError(f"{history.name(number)} holds no data")
    arrays = stored_arrays(history, shards, number, entry.shard)
    wanted: dict[str, tuple[type, tuple[int, ...]]] = {
        "h": (np.float64, (entry.rows, sites.size)),
        "labels": (np.int64, (entry.rows,)),
    }
    if isinstance(entry, StreamEntry):
        wanted["outputs"] = np.float64, (entry.rows, outputs)
    found = {name: (values.dtype.type, values.shape) for name, values in arrays.items()}
    if found != wanted or not entry.rows:
        raise UnusableError(f"{history.name(number)}: its shard holds {found}, not {wanted}")
    labels = arrays["labels"]
    least = 0 if isinstance(entry, RecordEntry) else UNLABELLED
    if (labels < least).any() or (labels >= outputs).any():
        raise UnusableError(f"{history.name(number)}: a label is none of {outputs} outputs")
    return arrays


class Evidence:
    """The stream of a ledger, as what the cells of the ledger see of it."""

    def __init__(
        self,
        network: ReluNetwork,
        sites: Sites,
        history: History,
        shards: Shards,
        cells: Mapping[str, Cell],
        parts: Mapping[str, tuple[str, ...]],
    ) -> None:
        """cells, parts: of ``living_cells``."""
        self._network, self._sites = network, sites
        self._history, self._shards, self._parts = history, shards, parts
        events = [cell for cell, own in parts.items() if own == (cell,)]
        self._column = {cell: number for number, cell in enumerate(events)}
        try:
            self._table = CellTable(network, sites, [cells[event] for event in events], 0.0)
        except UserError as error:
            raise UnusableError(str(error)) from None
        self._seen: dict[int, Bool[np.ndarray, "n c"]] = {}

    def events(self, cells: Iterable[str]) -> frozenset[str]:
        """The events whose conjunction these cells are, "bad" included."""
        return frozenset(
            part for cell in cells for part in ((BAD,) if cell == BAD else self._parts[cell])
        )

    def count(
        self, antecedent: frozenset[str], consequent: frozenset[str], start: int, stop: int
    ) -> tuple[int, int]:
        """``k, n``: of the data ``start .. stop - 1`` with the antecedent, those with both.

        Raises UnusableError if the stream is shorter, or holds unlabelled data where "bad" is
        asked for. Cost: O(n s c) for data not looked at before.
        """
        self._require(start, stop)
        k = n = 0
        for batch in self._history.span(start, stop):
            rows = slice(max(start - batch.start, 0), stop - batch.start)
            among = self._all_of(antecedent, batch)[rows]
            n += int(among.sum())
            k += int((among & self._all_of(consequent, batch)[rows]).sum())
        return k, n

    def bad_in_any(self, groups: Iterable[Iterable[str]], start: int, stop: int) -> list[int]:
        """Of the union of the cells of the first i groups, for each i, the bad data."""
        self._require(start, stop)
        sets = [[self.events([cell]) for cell in group] for group in groups]
        bad = [0] * len(sets)
        for batch in self._history.span(start, stop):
            rows = slice(max(start - batch.start, 0), stop - batch.start)
            wrong = self._all_of(frozenset({BAD}), batch)[rows]
            union = np.zeros_like(wrong)
            for number, group in enumerate(sets):
                for events in group:
                    union = union | self._all_of(events, batch)[rows]
                bad[number] += int((union & wrong).sum())
        return bad

    def _require(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self._history.length:
            raise UnusableError(
                f"data {start} to {stop} of a stream of {self._history.length} cannot be counted"
            )

    def _all_of(self, events: frozenset[str], batch: Batch) -> Bool[np.ndarray, " n"]:
        arrays = stored_rows(
            self._history, self._shards, batch.number, self._sites, self._network.outputs
        )
        inside = self._inside(batch, arrays["h"])
        columns = [self._column[event] for event in sorted(events - {BAD})]
        holds = np.asarray(inside[:, columns].all(axis=1))
        if BAD in events:
            if (arrays["labels"] == UNLABELLED).any():
                raise UnusableError(
                    f"{self._history.name(batch.number)} has unlabelled data: they are neither "
                    "bad nor good"
                )
            holds = holds & (answers(arrays["outputs"]) != arrays["labels"])
        return holds

    def _inside(self, batch: Batch, h: Float64[np.ndarray, "n s"]) -> Bool[np.ndarray, "n c"]:
        if batch.number not in self._seen:
            self._seen[batch.number] = self._table.inside(h)
        return self._seen[batch.number]
