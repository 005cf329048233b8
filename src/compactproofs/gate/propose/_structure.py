"""PROVED kinds: what certified cells of the gate do without. Dead, stable, duplicate, negligible.

Each is proved by the kernel on one cell, one fact at a time, each on what the one before left
(``_prune``). A proposal writes the facts into the ledger as a note that falls with the cell's
certificate; they explain, and admit nothing that the certificate does not.
"""

from typing import Any, Final, Literal

import numpy as np

from ...kernel import RejectedError
from ...kernel.gate import Cell, Folded, Negligible, RegionEntry, unit_facts
from ...kernel.gate._cell_table import CellTable
from ...kernel.gate._obligations import Certificate
from .._events import Pattern
from .._gate import Gate
from .._prune import Pruned, prune
from .._source import Batch
from .._structure_notes import STRUCTURE_TOPIC, structure_note
from ._certified import Evidence, Irrelevance
from ._proposal import Proposal, Proposer, State

StructureKind = Literal["dead", "stable", "duplicate", "negligible"]
STRUCTURE: Final[tuple[StructureKind, ...]] = ("dead", "stable", "duplicate", "negligible")
_MOST_CELLS: Final = 8
_GAIN: Final = 1e-3  # any: certificates are ranked before what has to be counted


class CertifiedCells:
    """The certified cells of a gate, and what was pruned on each: read again once they change."""

    def __init__(self, gate: Gate, most: int = _MOST_CELLS) -> None:
        """Of a gate that may grow meanwhile; ``most`` cells are used, the first that are asked for.

        Pruning a cell costs as much as some fifty replays of its certificate.
        """
        self.gate = gate
        self._most = most
        self._used: set[str] = set()
        self.pruned: dict[str, Pruned | None] = {}
        """None: not without the witness's slopes."""
        self._regions: tuple[int, ...] | None = None
        self._mine: Batch | None = None
        self._names: list[str] = []
        self._cells: dict[str, Cell] = {}
        self._certificates: dict[str, Certificate] = {}
        self._inside = np.zeros((0, 0), dtype=bool)

    def most_used(self, state: State, pattern: Pattern) -> str | None:
        """The cell that holds most mined inputs with the pattern; None if no cell holds one.

        Cost: a count, once the cells are read.
        """
        regions = tuple(number for number, _ in self.gate.history.living(RegionEntry))
        if regions != self._regions or state.mine is not self._mine:
            self._read(state.mine)
            self._regions, self._mine = regions, state.mine
        held = self._inside[state.mine.having(pattern)].sum(axis=0)
        name = self._names[int(held.argmax())] if held.any() else None
        if name is None or (name not in self._used and len(self._used) >= self._most):
            return None
        self._used.add(name)
        return name

    def cell(self, name: str) -> Cell:
        """A cell by its id."""
        return self._cells[name]

    def entry(self, name: str) -> str:
        """The line that certifies a cell."""
        return self._certificates[name].entry

    def prune(self, name: str) -> Pruned | None:
        """The network without what the cell does without, as far as it is proved."""
        if name not in self.pruned:
            witness = self._certificates[name].certified.witness
            network, sites = self.gate.network, self.gate.sites
            try:
                self.pruned[name] = prune(network, sites, self._cells[name], witness)
            except RejectedError:
                self.pruned[name] = None
        return self.pruned[name]

    def _read(self, mine: Batch) -> None:
        self._certificates = dict(self.gate.admission.obligations.certificates)
        self._names = list(self._certificates)
        known = self.gate.cells
        self._cells = {name: known[name] for name in self._names}
        network, sites = self.gate.network, self.gate.sites
        cells = list(self._cells.values())
        self._inside = (
            CellTable(network, sites, cells, 0.0).inside(mine.h)
            if cells
            else np.zeros((len(mine.h), 0), dtype=bool)
        )


class Structure:
    """Facts of one kind about the certified cell that holds most inputs with a pattern."""

    def __init__(
        self, gate: Gate, kind: StructureKind, certified: CertifiedCells | None = None
    ) -> None:
        """certified: the gate's cells, shared among kinds."""
        self.kind = kind
        self._certified = certified or CertifiedCells(gate)
        self._told: set[str] = set()

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        """One proposal for each cell, or none: no certified cell holds such inputs, or no fact.

        Cost: for ``duplicate`` and ``negligible`` two region bounds for each unit of a cell not
        seen before; for the others one.
        """
        name = self._certified.most_used(state, pattern)
        if name is None or name in self._told:
            return []
        self._told.add(name)
        facts = self._facts(name)
        if not facts:
            return []
        entry = self._certified.entry(name)
        text = structure_note(name, self.kind, facts=facts)

        def certify(gate: Gate) -> str:
            return gate.note(STRUCTURE_TOPIC, text, (entry,))

        return [Proposal(self.kind, (), pattern, (1.0, 1.0), None, 0.0, _GAIN, certify=certify)]

    def _facts(self, name: str) -> list[Any]:
        gate = self._certified.gate
        if self.kind in ("dead", "stable"):
            facts = unit_facts(gate.network, gate.sites, self._certified.cell(name))
            units = facts.dead if self.kind == "dead" else facts.stable & ~facts.dead
            return [int(unit) for unit in units.nonzero()[0]]
        pruned = self._certified.prune(name)
        if pruned is None:
            return []
        if self.kind == "duplicate":
            return [
                {
                    "layer": one.layer,
                    "unit": one.unit,
                    "others": list(one.others),
                    "times": list(one.coefficients),
                    "left": [one.low, one.high],
                }
                for one in pruned.duplicates
            ]
        thinned = [step for step in pruned.steps if isinstance(step, Negligible)]
        widths = [step.network.widths for step in pruned.steps if isinstance(step, Folded)]
        return [
            {
                "paths": len(thinned) - len(pruned.duplicates),
                "widths": list(widths[-1] if widths else gate.network.widths),
            }
        ] * (len(thinned) > len(pruned.duplicates))


def structure_proposers(gate: Gate) -> list[Proposer]:
    """One of each kind, for a gate that is open for writing; they prune each cell once."""
    certified = CertifiedCells(gate)
    return [Structure(gate, kind, certified) for kind in STRUCTURE]


def proved_proposers(gate: Gate) -> list[Proposer]:
    """One of each kind whose rules are proved, for a gate that is open for writing."""
    return [
        Evidence(gate.network, gate.sites),
        Irrelevance(gate.network, gate.sites),
        *structure_proposers(gate),
    ]
