"""Feature sum, as far as counting goes: a site is the sum of decoded features up to an error.

The proved side, that the error adds over the features of a cell, is the kernel's.
"""

import numpy as np
from jaxtyping import Float64

from .._events import Event, Pattern
from .._presumption import LinearBase
from ._proposal import Proposal, State, guessed


class FeatureSum:
    """``abs(site - features D - b) <= r``, r the 95 % quantile on the mine data.

    The decoder is given: only r is paid for.
    """

    kind = "feature_sum"

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        """For the sites of the pattern whose group is decoded from features."""
        places = state.places(pattern) or ()
        found = []
        for v, _ in places:
            variable = state.variables[v]
            decoded = state.decoded.get(variable.group)
            if decoded is None or variable.site is None or v in state.model.bases:
                continue
            own = variable.site - decoded.start
            row = np.zeros(state.mine.h.shape[1])
            row[variable.site] = 1.0
            row[decoded.features] = -decoded.D[:, own]
            left = state.mine.h @ row - decoded.b[own]
            radius = float(np.quantile(np.abs(left), 0.95))
            ends = np.array([decoded.b[own] - radius]), np.array([decoded.b[own] + radius])
            event = Event(
                f"{variable.name} = features +- {radius:.4g}",
                f"sum of features at {variable.name}",
                0,
                row[None],
                *ends,
            )
            k = int(np.count_nonzero(np.abs(left) <= radius))
            spread, values = self._spread(state, v, decoded.features, decoded.D[:, own])
            rest = variable.values(state.mine.h) - values
            change = LinearBase(
                v,
                spread,
                np.full(state.variables[0].size, rest.mean()),
                float(max(rest.std(), 1e-9)),
                np.asarray(variable.edges, dtype=np.float64),
            )
            mixed = np.random.default_rng(0).permutation(state.mine.h[:, variable.site])
            apart = mixed + left - state.mine.h[:, variable.site]
            found.append(
                Proposal(
                    self.kind,
                    (),
                    (event,),
                    guessed(k, len(left)),
                    float(np.mean(np.abs(apart) <= radius)),
                    float(np.log2(len(state.variables))) + state.precision,
                    state.gain((change,)),
                    (change,),
                )
            )
        return found

    @staticmethod
    def _spread(
        state: State, v: int, features: slice, weights: Float64[np.ndarray, " f"]
    ) -> tuple[Float64[np.ndarray, " v"], Float64[np.ndarray, " n"]]:
        """The decoder's column on the features' variables, and what their centres add up to."""
        spread = np.zeros(len(state.variables))
        for u in range(1, v):
            site = state.variables[u].site
            if site is not None and features.start <= site < features.stop:
                spread[u] = weights[site - features.start]
        used = np.flatnonzero(spread)
        values = state.model.centres[used[None], state.codes[:, used]] @ spread[used]
        return spread, values
