"""Constant: an event has a share of the inputs that does not depend on anything, such as all."""

from .._events import Pattern
from .._presumption import Coupling
from ._proposal import Proposal, State, guessed, index_bits


class Constant:
    """P(A) is a constant: of a site that stays in a range, a feature that seldom fires."""

    kind = "constant"

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        """The share of a single event; of the more frequent of two, which is measured better."""
        places = state.places(pattern)
        if places is None or len(places) != 1:
            return []
        n = len(state.codes)
        if 2 * state.count(places) < n:
            places = state.opposite(places)
        k = state.count(places)
        low, high = guessed(k, n)
        change = Coupling((), places[0], (k + 0.5) / (n + 1), low, high)
        return [
            Proposal(
                self.kind,
                (),
                state.events(places),
                (low, high),
                state.presumed(places),
                index_bits(state, 1) + state.precision,
                state.gain((change,)),
                (change,),
                measured=True,
            )
        ]
