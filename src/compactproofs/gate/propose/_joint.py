"""Joint: some events imply another with a probability that only counting can tell."""

from .._events import Pattern
from .._presumption import Coupling
from ._proposal import Proposal, State, guessed, index_bits


class Joint:
    """P(B | A) = p, A one or more events of earlier variables than B's."""

    kind = "joint"

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        """The conditional share of the last event given the others, counted on the mine data."""
        places = state.places(pattern)
        if places is None or len(places) < 2:
            return []
        given = places[:-1]
        n = state.count(given)
        if not n:
            return []
        if 2 * state.count(places) < n:
            places = state.opposite(places)
        k, then = state.count(places), places[-1]
        low, high = guessed(k, n)
        change = Coupling(given, then, (k + 0.5) / (n + 1), low, high)
        return [
            Proposal(
                self.kind,
                state.events(given),
                state.events((then,)),
                (low, high),
                state.presumed(places),
                index_bits(state, len(places)) + state.precision,
                state.gain((change,)),
                (change,),
                measured=True,
            )
        ]
