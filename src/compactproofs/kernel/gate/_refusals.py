"""Why an input is refused: the nearest cell and what fails there, the work list of a search."""

from collections.abc import Mapping
from typing import final

import numpy as np
from jaxtyping import Float64

from ._cell_table import CellTable
from ._conditions import Standing
from ._evidence import NO_ANSWER
from ._fingerprints import fingerprints
from ._obligations import Obligations
from ._relu_network import ReluNetwork
from ._sites import Sites
from ._verdict import Verdict

_MOST_WORDS = 8


@final
class Refusals:
    """Words for refusals. Nothing here decides: an input that comes here is refused already."""

    def __init__(
        self,
        network: ReluNetwork,
        sites: Sites,
        obligations: Obligations,
        standing: Mapping[str, Standing],
        within: float,
    ) -> None:
        """Prepare for the cells with a certificate; for all of them, if there is no such cell."""
        self._network, self._sites, self._within = network, sites, within
        self._obligations, self._standing = obligations, standing
        certified = [cell for cell in obligations.cells if cell in obligations.certificates]
        self._names = certified or list(obligations.cells)
        self._cells = [obligations.cells[name] for name in self._names]
        self._table: CellTable | None = None
        if self._cells:
            self._low = np.stack([cell.low for cell in self._cells]) + within
            self._high = np.stack([cell.high for cell in self._cells]) - within
            self._labels = np.array([cell.label for cell in self._cells])
            self._lacking = np.array([len(standing[name].reasons) for name in self._names])

    def of(self, h: Float64[np.ndarray, " s"], answer: int, given: bool) -> Verdict:
        """The verdict on an input that nothing admits. Cost: O(c s), for one cell its events."""
        own = self._about_input(h, answer, given)
        if not self._names:
            return Verdict(None, {}, (*own, "(1) the ledger has no cell"))
        number = self._nearest(h, answer)
        name, label = self._names[number], self._cells[number].label
        if self._table is None:
            self._table = CellTable(self._network, self._sites, self._cells, self._within)
        words = self._table.failing(h, number)
        reasons = [f"(1) {one}" for one in words[:_MOST_WORDS]]
        if len(words) > _MOST_WORDS:
            reasons.append(f"(1) and {len(words) - _MOST_WORDS} more")
        reasons += self._standing[name].reasons
        if given and answer not in (NO_ANSWER, label):
            reasons.append(f"(5) the model answers {answer}, the cell is about {label}")
        if not reasons and not own:
            reasons.append("(1) not in every part of the cell")
        return Verdict(None, {}, (*(f"cell {name[:8]}: {one}" for one in reasons), *own), name)

    def _about_input(
        self, h: Float64[np.ndarray, " s"], answer: int, given: bool
    ) -> tuple[str, ...]:
        reasons = []
        if not given:
            reasons.append("(5) the model's outputs were not given")
        elif answer == NO_ANSWER:
            reasons.append("(5) the model's outputs have no one largest, or are not finite")
        records = self._obligations.records
        key = fingerprints(self._network.sha256, self._sites.sha256, h[None])[0]
        for signed in records.get(key, ()):
            reasons.append(
                f"the record is signed by {signed.signer} as label {signed.label}, the model "
                f"answers {answer}"
            )
        odd = np.flatnonzero(~np.isfinite(h))
        if len(odd):
            reasons.append(f"(6) {self._sites.name(int(odd[0]))} is {h[odd[0]]}, not finite")
        return tuple(reasons)

    def _nearest(self, h: Float64[np.ndarray, " s"], answer: int) -> int:
        """Of the answer's cells the one with the fewest sites outside, then the least outside."""
        with np.errstate(invalid="ignore", over="ignore"):
            outside = np.maximum(np.maximum(self._low - h, h - self._high), 0.0)
            far = np.nan_to_num(outside).sum(axis=1)
        failing = (~(outside <= 0)).sum(axis=1)
        keys = (far, failing + self._lacking, self._labels != answer)
        return int(np.lexsort(keys)[0])
