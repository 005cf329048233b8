"""What the discovery loop found out, and how it got there."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from compactproofs.kernel.gate._credal import lower_probability
from compactproofs.kernel.gate._proportions import Interval

from ._events import Pattern, codes_of
from ._patterns import Compulsory, Mined
from ._rule_book import Frozen, RuleBook
from ._source import Batch
from .propose import Proposal, State


class Step(NamedTuple):
    """One decision, as it is logged; ``row`` is JSON."""

    number: int
    frozen: Frozen | None
    proposal: Proposal
    decision: str
    reason: str
    interval: Interval | None
    before: float | None
    """Bits of the description before the decision, on the newest shard; None for certificates."""
    after: float | None
    watched: float | None
    """The same on data that the loop never decides by, after the decision."""

    def row(self) -> dict[str, Any]:
        """The step as JSON can hold it."""
        proposal, interval, frozen = self.proposal, self.interval, self.frozen
        return {
            "round": self.number,
            "kind": proposal.kind,
            "given": [event.name for event in proposal.given],
            "then": [event.name for event in proposal.then],
            "decision": self.decision,
            "reason": self.reason,
            "predicted": list(proposal.predicted),
            "without": proposal.without,
            "counted": interval and [interval.k, interval.n],
            "interval": interval and [float(interval.low), float(interval.high)],
            "alpha": frozen and float(frozen.alpha),
            "born": frozen and frozen.born,
            "take": frozen and frozen.take,
            "bits": proposal.bits,
            "mine_gain_bits": proposal.gain / float(np.log(2)),
            "bits_before": self.before,
            "bits_after": self.after,
            "bits_watched": self.watched,
        }


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the loop found out."""

    state: State
    steps: tuple[Step, ...]
    pending: tuple[Frozen, ...]
    unexplained: tuple[Mined, ...]
    """Patterns that are still surprising, the most first."""
    compulsory: tuple[Compulsory, ...]
    """Cells of the mine data below the threshold, by the presumption."""
    bits: float
    """Of the rules kept."""

    @property
    def accepted(self) -> list[Step]:
        """The steps that left a rule or a certificate."""
        return [step for step in self.steps if step.decision == "accepted"]

    @property
    def always_shorter(self) -> bool:
        """Whether every accepted rule made the description of fresh data shorter."""
        steps = [(step.before, step.after) for step in self.accepted]
        return all(a < b for b, a in steps if a is not None and b is not None)

    @property
    def largest_unexplained(self) -> float:
        """Bits of surprise of the most surprising pattern left; 0 if none is."""
        gain = max((mined.gain for mined in self.unexplained), default=0.0)
        return max(gain, 0.0) / float(np.log(2))

    def surprise(self, batch: Batch) -> Float64[np.ndarray, " n"]:
        """Bits of surprise of each observation, by what is presumed now; ranks, never admits."""
        state = self.state
        return state.model.surprise(codes_of(state.variables, batch.h, batch.classes))


class ExplainedCell(NamedTuple):
    """A conjunction of events that the rules make probable, whatever else is true."""

    pattern: Pattern
    lower: float
    """Lower probability over everything compatible with the rules."""


def explained_cells(
    explanation: Explanation, book: RuleBook, tau: float = 1e-5
) -> list[ExplainedCell]:
    """The patterns that accepted rules are about, of lower probability at least ``tau``.

    The most probable first. These are the cells that a gate may admit by, once they are certified.
    Cost: a search among the statements for each accepted rule.
    """
    statements = book.statements()
    found: dict[frozenset[str], ExplainedCell] = {}
    for step in explanation.accepted:
        pattern = step.proposal.given + step.proposal.then
        names = frozenset(map(book.name_of, pattern))
        lower = float(lower_probability(names, statements))
        if pattern and lower >= tau:
            found[names] = ExplainedCell(pattern, lower)
    return sorted(found.values(), key=lambda cell: -cell.lower)
