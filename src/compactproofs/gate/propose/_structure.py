"""PROVED kinds: what certified cells of the gate do without. Dead, stable, duplicate, negligible.

Each is proved by the kernel on one cell, one fact at a time, each on what the one before left
(``_prune``). A proposal writes the facts into the ledger as a note that falls with the cell's
certificate; they explain, and admit nothing that the certificate does not.
"""

import json
from typing import Any, Final, Literal

from ...kernel import RejectedError
from ...kernel.gate import Folded, Negligible, unit_facts
from ...kernel.gate._cell_table import CellTable
from .._events import Pattern
from .._gate import Gate
from .._prune import Pruned, prune
from ._certified import Evidence, Irrelevance
from ._proposal import Proposal, Proposer, State

StructureKind = Literal["dead", "stable", "duplicate", "negligible"]
STRUCTURE: Final[tuple[StructureKind, ...]] = ("dead", "stable", "duplicate", "negligible")
TOPIC: Final = "structure"
"""The topic of the notes."""
_GAIN: Final = 1e-3  # any: certificates are ranked before what has to be counted


class Structure:
    """Facts of one kind about the certified cell that holds most inputs with a pattern."""

    def __init__(self, gate: Gate, kind: StructureKind, known: dict[str, Pruned] | None = None):
        """known: cells that were pruned before, shared among kinds."""
        self.kind = kind
        self._gate = gate
        self._known = {} if known is None else known

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        """One proposal, or none: no certified cell holds such inputs, or there is no such fact.

        Cost: for ``duplicate`` and ``negligible`` two region bounds for each unit of a cell not
        seen before; for the others one.
        """
        certificates = self._gate.admission.obligations.certificates
        h = state.mine.h[state.mine.having(pattern)]
        if not certificates or not len(h):
            return []
        names = list(certificates)
        cells = [self._gate.cells[name] for name in names]
        network, sites = self._gate.network, self._gate.sites
        held = CellTable(network, sites, cells, 0.0).inside(h).sum(axis=0)
        best = int(held.argmax())
        if not held[best]:
            return []
        facts = self._facts(names[best])
        if not facts:
            return []
        entry = certificates[names[best]].entry
        text = json.dumps({"cell": names[best], "kind": self.kind, "facts": facts})

        def certify(gate: Gate) -> str:
            return gate.note(TOPIC, text, (entry,))

        return [Proposal(self.kind, (), pattern, (1.0, 1.0), None, 0.0, _GAIN, certify=certify)]

    def _facts(self, name: str) -> list[Any]:
        network, sites, cell = self._gate.network, self._gate.sites, self._gate.cells[name]
        if self.kind in ("dead", "stable"):
            facts = unit_facts(network, sites, cell)
            units = facts.dead if self.kind == "dead" else facts.stable & ~facts.dead
            return [int(unit) for unit in units.nonzero()[0]]
        if name not in self._known:
            witness = self._gate.admission.obligations.certificates[name].certified.witness
            try:
                self._known[name] = prune(network, sites, cell, witness)
            except RejectedError:  # not without the witness's slopes
                return []
        pruned = self._known[name]
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
                "widths": list(widths[-1] if widths else network.widths),
            }
        ] * (len(thinned) > len(pruned.duplicates))


def proved_proposers(gate: Gate) -> list[Proposer]:
    """One of each kind whose rules are proved, for a gate that is open for writing."""
    known: dict[str, Pruned] = {}
    return [
        Evidence(gate.network, gate.sites),
        Irrelevance(gate.network, gate.sites),
        *(Structure(gate, kind, known) for kind in STRUCTURE),
    ]
