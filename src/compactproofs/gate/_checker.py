"""How a frozen proposal is decided on: the extension point of the discovery loop.

A `Checker` replaces two steps of the loop: how much later data a proposal will be counted on, fixed
before any of it arrives, and what the count then means. It cannot make the ledger say anything
false: the count, its interval and its alpha are the rule book's, and a checker that returns any
other interval is refused with CheckerError. So admission stays monotone in every stated
uncertainty, and every admitted region stays certified, whatever a checker does.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from compactproofs.kernel import UserError
from compactproofs.kernel.gate._proportions import Interval

from ._rule_book import Frozen
from .propose._proposal import Proposal

LARGEST_RATIO = 2
"""An accepted interval's ends differ at most by this factor."""


class CheckerError(UserError):
    """A checker whose interval is not that of the count."""


class Judgement(NamedTuple):
    """What became of a frozen proposal. ``interval`` is the one that was counted."""

    decision: Literal["accepted", "refused", "pending"]
    interval: Interval
    reason: str


@runtime_checkable
class Checker(Protocol):
    """Plans a count and judges it."""

    def plan(self, proposal: Proposal, share: float, alpha: float) -> int | None:
        """How many later observations to count on, once; None to look whenever some arrive.

        ``share`` is the expected share of observations with the proposal's ``given``, ``alpha``
        about what the count will be charged.
        """
        ...

    def judge(self, frozen: Frozen, interval: Interval) -> Judgement:
        """Decide, given the interval that the rule book counted; called after every count."""
        ...


def conditions(proposal: Proposal, interval: Interval) -> list[str]:
    """What speaks against the rule, in words; nothing if it may be accepted.

    The interval must meet the predicted one (the prediction is right), exclude what is presumed
    without the rule (the rule is needed), and have ends within a factor of 2 (it is precise).
    """
    low, high = proposal.predicted
    against = []
    if interval.high < low or interval.low > high:
        against.append(f"contradicted: predicted {low:.4g} .. {high:.4g}")
    without = proposal.without
    if without is not None and interval.low <= without <= interval.high:
        against.append(f"not needed: {without:.4g} is presumed without it")
    if interval.low <= 0 or interval.high > LARGEST_RATIO * interval.low:
        against.append("too few data: the ends differ by more than a factor of 2")
    return [f"{text}; counted {interval.k} of {interval.n}" for text in against]


@dataclass(frozen=True)
class FixedSample:
    """One look after a number of observations fixed in advance; the Clopper-Pearson interval.

    The number is what the prediction needs to be told from what is presumed without the rule, and
    for ends within a factor of 2, times ``margin``; a multiple of ``shard``.
    """

    shard: int = 1
    margin: float = 1.5

    def plan(self, proposal: Proposal, share: float, alpha: float) -> int:
        """See `Checker`."""
        needed = self.margin * needed_hits(proposal, alpha) / max(share, 1e-9)
        return max(1, math.ceil(min(needed, 1e12) / self.shard)) * self.shard

    def judge(self, frozen: Frozen, interval: Interval) -> Judgement:
        """Accepted if nothing speaks against it: there is no second look."""
        against = conditions(frozen.proposal, interval)
        return Judgement("refused" if against else "accepted", interval, "; ".join(against))


@dataclass(frozen=True)
class Sequential:
    """A look at every shard; a confidence sequence, valid at all of them at once.

    Accepted as soon as nothing speaks against the rule, so that the evidence against the value
    presumed without it has reached 1 / alpha; refused as soon as the prediction is excluded.
    """

    def plan(self, proposal: Proposal, share: float, alpha: float) -> None:
        """See `Checker`."""

    def judge(self, frozen: Frozen, interval: Interval) -> Judgement:
        """See `Checker`; what is only imprecise stays pending."""
        against = conditions(frozen.proposal, interval)
        if not against:
            return Judgement("accepted", interval, "")
        wrong = interval.empty or against[0].startswith("contradicted")
        return Judgement("refused" if wrong else "pending", interval, "; ".join(against))


def needed_hits(proposal: Proposal, alpha: float) -> float:
    """About how many observations of ``given`` decide: by the normal approximation."""
    p = min(max(sum(proposal.predicted) / 2, 1e-6), 1 - 1e-6)
    z = NormalDist().inv_cdf(1 - alpha / 2)
    # ends p (1 +- d) are within a factor of 2 for d = 1/3
    precise = 9 * z * z * (1 - p) / p
    hits = max(precise, 2 * z * z / 2)
    without = proposal.without
    if without is not None and without != p:
        hits = max(hits, z * z * max(p * (1 - p), 0.02) / (p - without) ** 2)
    return hits
