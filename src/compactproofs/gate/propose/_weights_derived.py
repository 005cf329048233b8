"""Weights-derived: how often two sites of a layer are in given bins follows from the weights."""

from itertools import combinations

import numpy as np

from .._events import Pattern
from .._presumption import Coupling
from ._gaussian_pairs import pair_tables, with_margins
from ._proposal import Proposal, State


class WeightsDerived:
    """P(A, B) from the weights, the moments of the layer below and P(A), P(B): no joint count.

    The prediction is PRESUMED; what is stored is the held-out count.
    """

    kind = "weights_derived"

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        """For each two bins of sites of one group whose layer below is known.

        The predicted interval allows for 2.6 standard errors of the correlation, and of the share
        of the first event.
        """
        return [
            proposal
            for pair in combinations(state.places(pattern) or (), 2)
            for proposal in self._of_pair(state, pair)
        ]

    def _of_pair(self, state: State, places: tuple[tuple[int, int], ...]) -> list[Proposal]:
        variables = [state.variables[v] for v, _ in places]
        group = variables[0].group
        sites = [variable.site for variable in variables]
        if variables[1].group != group or group not in state.below or None in sites:
            return []
        below = state.below[group]
        pair = np.array([[site - below.start for site in sites if site is not None]])
        first, second = (np.asarray(variable.edges)[None] for variable in variables)
        shares = [
            np.bincount(state.codes[:, v], minlength=state.variables[v].size)[None]
            / len(state.codes)
            for v, _ in places
        ]
        found = []
        for slack in (0.0, -2.6, 2.6):
            tables = pair_tables(below, pair, first, second, slack / np.sqrt(max(below.n - 3, 1)))
            (table,) = with_margins(tables, *shares)
            if not found and 2 * table[places[0][1], places[1][1]] < table[places[0][1]].sum():
                places = state.opposite(places)
            (_, a), (_, b) = places
            found.append(float(table[a, b] / max(table[a].sum(), 1e-12)))
        value, *ends = found
        noise = 2.6 * float(np.sqrt(value * (1 - value) / max(below.n, 1)))
        low, high = max(0.0, min(found) - noise), min(1.0, max(ends + [value]) + noise)
        size = len([u for u in state.variables if u.group == group])
        cells = size * (size - 1) / 2 * variables[0].size * variables[1].size
        change = Coupling(places[:1], places[1], min(max(value, 1e-6), 1 - 1e-6), low, high)
        return [
            Proposal(
                self.kind,
                state.events(places[:1]),
                state.events(places[1:]),
                (low, high),
                state.presumed(places),
                float(np.log2(max(cells, 1.0))),
                state.gain((change,)),
                (change,),
            )
        ]
