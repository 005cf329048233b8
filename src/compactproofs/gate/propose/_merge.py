"""Merge: one rule about the hull of neighbouring bins in place of a rule about each of them."""

import numpy as np

from .._events import Event, Pattern
from ._proposal import Accepted, Proposal, State, guessed, index_bits


class Merge:
    """P(B or B' | A) for two bins of a site that touch, where the ledger has a rule about each.

    The ledger gets shorter by a rule; the hull is measured afresh, since the sum of two intervals
    would be wider. What is presumed stays as it was.
    """

    kind = "merge"

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        """For rules about the pattern's events."""
        ids = {event.id for event in pattern}
        rules = [rule for rule in state.rules if _mergeable(rule)]
        found = []
        for first in rules:
            for second in rules:
                (b,), (c,) = first.proposal.then, second.proposal.then
                same = set(first.proposal.given) == set(second.proposal.given)
                if not same or b.variable != c.variable or c.code != b.code + 1:
                    continue
                if {b.id, c.id} & ids:
                    found.append(self._merged(state, first, second))
        return found

    def _merged(self, state: State, first: Accepted, second: Accepted) -> Proposal:
        (b,), (c,) = first.proposal.then, second.proposal.then
        hull = hull_of(b, c)
        given = state.mine.having(first.proposal.given)
        k = int(np.count_nonzero(given & state.mine.having((hull,))))
        price = index_bits(state, 1 + len(first.proposal.given)) + state.precision
        return Proposal(
            self.kind,
            first.proposal.given,
            (hull,),
            guessed(k, int(np.count_nonzero(given))),
            None,
            price - first.proposal.bits - second.proposal.bits,
            0.0,
            replaces=(first.id, second.id),
        )


def hull_of(first: Event, second: Event) -> Event:
    """The least event with both bins of one linear combination of sites."""
    return Event(
        f"{first.name} or {second.name}",
        f"hull in {first.variable}",
        first.code,
        first.rows,
        np.minimum(first.low, second.low),
        np.maximum(first.high, second.high),
    )


def _mergeable(rule: Accepted) -> bool:
    then = rule.proposal.then
    return len(then) == 1 and len(then[0].rows) == 1 and rule.proposal.kind != "merge"
