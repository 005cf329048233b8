"""PROVED kinds: cells around the inputs that have a pattern, with certificates of the kernel.

What is proposed adds a region to the gate and nothing to the presumption: it says what the network
does on a cell, not how often an input is in it.
"""

import numpy as np

from ...kernel.gate import Cell, RegionWitness, ReluNetwork, Sites
from .._events import Pattern
from .._gate import Gate
from .._irrelevance import FreeingSettings, FreeSitesError, free_sites
from .._regions import RegionSearchError, RegionSettings, search_regions
from ._proposal import Proposal, State

_GAIN = 1e-3  # any: certificates are ranked before what has to be counted


class Evidence:
    """A cell whose events bound the margins from below: certified by how it is made."""

    kind = "evidence"

    def __init__(self, network: ReluNetwork, sites: Sites) -> None:
        """Of the network that the gate is about."""
        self._network, self._sites = network, sites

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        """The cell that holds most mined inputs that have the pattern; none if none is found."""
        held = state.mine.having(pattern)
        settings = RegionSettings(clusters=(1,), most=1)
        try:
            found = search_regions(
                self._network, self._sites, state.mine.h[held], state.mine.classes[held], settings
            )
        except RegionSearchError:
            return []
        return [_proposal(self.kind, pattern, cell, witness) for cell, witness in found[:1]]


class Irrelevance:
    """A cell around one input in which as many sites as possible may have any recorded value."""

    kind = "irrelevance"

    def __init__(self, network: ReluNetwork, sites: Sites, splits: int = 0) -> None:
        """Of the gate's network; with ``splits``, torch is needed and more sites are freed."""
        self._network, self._sites = network, sites
        self._settings = FreeingSettings(splits=splits, steps=15 if splits else 0)

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        """Around the mined input with the pattern that is nearest to the mean of all of them."""
        h = state.mine.h[state.mine.having(pattern)]
        if not len(h):
            return []
        nearest = h[int(np.linalg.norm(h - h.mean(axis=0), axis=1).argmin())]
        label = int(state.mine.classes[np.all(state.mine.h == nearest, axis=1).argmax()])
        ends = state.mine.h.min(axis=0), state.mine.h.max(axis=0)
        try:
            found = free_sites(self._network, self._sites, nearest, label, ends, self._settings)
        except FreeSitesError:
            return []
        return (
            [_proposal(self.kind, pattern, found.cell, found.witness)] if len(found.freed) else []
        )


def _proposal(kind: str, pattern: Pattern, cell: Cell, witness: RegionWitness) -> Proposal:
    def certify(gate: Gate) -> str:
        return gate.add_region(cell, witness)

    return Proposal(kind, (), pattern, (1.0, 1.0), None, 0.0, _GAIN, certify=certify)
