"""The discovery loop: start from nothing, explain what is surprising, keep what fresh data confirm.

A round: the patterns that the presumption finds most surprising in the mine data; proposals for
them; all proposals of the round are frozen; the next shard arrives; each proposal that has its data
is judged; what is accepted enters the presumption if that makes the description of fresh data
shorter, and is retracted else. Every frozen proposal keeps its alpha, whatever becomes of it.

The description is ``horizon`` times the mean surprise of the newest shard, which no rule or table
has seen, plus the bits of the rules. It must fall by more than two standard errors.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from compactproofs.kernel import RejectedError, UserError
from compactproofs.kernel.gate._proportions import Interval

from ._checker import Checker, CheckerError, FixedSample, Judgement
from ._events import CLASS_VARIABLE, Variable, codes_of
from ._explanation import Explanation, Step
from ._patterns import Places, compulsory, culprits, mine
from ._presumption import Coupling, Presumption
from ._rule_book import Frozen, RuleBook
from ._source import Batch, Source
from .propose import Accepted, Decoded, LayerBelow, Proposal, Proposer, State, measured_proposers
from .propose._proposal import PROVED_FIRST, guessed

_AT_ONCE = 2  # proposals of a round about one variable: further ones were made for another model

_COMPULSORY = 5  # cells of a round, the worst ones, whose events are tried as patterns


class ExplainError(UserError):
    """A discovery that cannot start: no data, no variables, or a class variable not first."""


@dataclass(frozen=True)
class Budget:
    """How far the loop goes. ``mine`` inputs are looked at, then shards of ``shard`` arrive."""

    mine: int = 900
    shard: int = 150
    rounds: int = 10
    proposals: int = 12
    """Frozen in a round, those about the share of a condition not counted."""
    horizon: int | None = None
    """Inputs over which the bits of the rules are spread; as many as are mined if None."""
    tau: float = 1e-5
    draws: int = 10_000
    order: int = 4
    seed: int = 0


def explain(
    book: RuleBook,
    source: Source,
    variables: Sequence[Variable],
    mined: Batch,
    budget: Budget = Budget(),
    *,
    proposers: Sequence[Proposer] | None = None,
    checker: Checker | None = None,
    below: Mapping[str, LayerBelow] | None = None,
    decoded: Mapping[str, Decoded] | None = None,
    watch: Batch | None = None,
) -> Explanation:
    """Explain what ``source`` brings, in rules that ``book`` keeps.

    ``mined`` was taken from the source before, and its events are ``variables``, the class first.
    ``watch`` is scored after every step and decides nothing. The loop ends with its budget, with
    the source, or when nothing is worth its bits.

    Raises ExplainError, CheckerError. Cost: a round mines ``draws`` draws and fits one variable a
    proposal, about a second for 32 sites.
    """
    state = replace(start_from(variables, mined), below=below or {}, decoded=decoded or {})
    loop = _Loop(book, state, budget, checker or FixedSample(budget.shard), watch)
    loop.run(source, measured_proposers() if proposers is None else list(proposers))
    return loop.result()


def take_mine(source: Source, budget: Budget) -> Batch:
    """The inputs to mine in. Taken once, they never come back to be counted."""
    return source.take(budget.mine)


def start_from(variables: Sequence[Variable], mined: Batch) -> State:
    """Knowing nothing: every variable uniform, and independent of all others.

    Raises ExplainError without inputs, or if the first variable is not the class.
    """
    if not len(mined.h) or not variables or variables[0].group != CLASS_VARIABLE:
        raise ExplainError(
            f"{len(mined.h)} mined inputs and {len(variables)} variables: give at least one input, "
            "and the class variable first"
        )
    sizes = tuple(variable.size for variable in variables)
    codes = codes_of(variables, mined.h, mined.classes)
    centres = np.zeros((len(sizes), max(sizes)))
    for v, variable in enumerate(variables):
        if variable.direction is not None:
            values = variable.values(mined.h)
            for j in np.unique(codes[:, v]):
                centres[v, j] = values[codes[:, v] == j].mean()
    return State(tuple(variables), mined, codes, Presumption(sizes, centres, codes))


@dataclass(eq=False)
class _Loop:
    """What changes while the loop runs."""

    book: RuleBook
    state: State
    budget: Budget
    checker: Checker
    watch: Batch | None
    bits: float = 0.0
    steps: list[Step] = field(default_factory=list)
    pending: list[Frozen] = field(default_factory=list)
    tried: set[Any] = field(default_factory=set)
    measured: set[frozenset[str]] = field(default_factory=set)

    def run(self, source: Source, proposers: list[Proposer]) -> None:
        """Rounds until the budget, the source or the ideas run out."""
        for number in range(self.budget.rounds):
            chosen = self._chosen(proposers, (self.budget.rounds - number) * self.budget.shard)
            for proposal in chosen:
                if proposal.certify is not None:
                    self._certify(number, proposal)
                else:
                    self._freeze(proposal)
            if not self.pending:
                break
            fresh = source.take(self.budget.shard)
            if len(fresh.h) < self.budget.shard:  # a short shard would stop before a planned count
                break
            self.book.observe(fresh)
            self._judge(number, fresh)

    def result(self) -> Explanation:
        """What is explained, pending and left."""
        budget = self.budget
        return Explanation(
            self.state,
            tuple(self.steps),
            tuple(self.pending),
            tuple(mine(self.state, budget.draws, budget.order, seed=budget.seed)),
            tuple(compulsory(self.state, budget.tau)),
            self.bits,
        )

    def _chosen(self, proposers: list[Proposer], left: int) -> list[Proposal]:
        """The best proposal for each of the most surprising patterns, the most surprising first.

        Certificates come in addition. What does not pay, or what ``left`` observations cannot
        decide, is not frozen.
        """
        budget, state = self.budget, self.state
        chosen: list[Proposal] = []
        touched: Counter[int] = Counter()
        undecided = {s for frozen in self.pending for s in _subjects(frozen.proposal)}
        for places in self._surprising():
            if sum(p.certify is None for p in chosen) >= budget.proposals:
                break
            if all(touched[v] >= _AT_ONCE for v, _ in places):
                continue
            pattern = state.events(places)
            found = [p for proposer in proposers for p in proposer.propose(state, pattern)]
            new = [p for p in found if p.score > 0 and p.key not in self.tried]
            plans = {id(p): self._plan(p) or 0 for p in new}
            for proposal in sorted(new, key=lambda p: (*_rank(p), plans[id(p)])):
                subjects, variables = _subjects(proposal), _variables(proposal)
                crowded = any(touched[v] >= _AT_ONCE for v in variables)
                if crowded or subjects & undecided or plans[id(proposal)] > left:
                    continue
                undecided |= subjects
                # A rule that was made for a wrong share of an event would be needed for that alone.
                touched.update({v: _AT_ONCE if len(places) == 1 else 1 for v in variables})
                chosen.append(proposal)
                self.tried.add(proposal.key)
                if proposal.certify is None:
                    break
        return chosen

    def _surprising(self) -> list[Places]:
        """Patterns that are worth their description, then what makes the worst cells compulsory."""
        budget, state = self.budget, self.state
        found = mine(state, budget.draws, budget.order, seed=budget.seed)
        patterns = [mined.places for mined in found if mined.gain > 0]
        patterns.sort(key=lambda places: len(places) > 1)  # what an event's share explains, first
        cells = compulsory(state, budget.tau)[:_COMPULSORY] if patterns else []
        return patterns + [culprits(state, cell.places) for cell in cells]

    def _plan(self, proposal: Proposal) -> int | None:
        if proposal.certify is not None:
            return None
        # What is charged is only known once it is frozen; a plan needs its order of size.
        counted = sum(step.frozen is not None for step in self.steps)
        alpha = 1e-2 / (counted + len(self.pending) + 1) ** 2
        share = float(self.state.mine.having(proposal.given).mean())
        return self.checker.plan(proposal, share, alpha)

    def _freeze(self, proposal: Proposal) -> None:
        needs = frozenset(event.id for event in proposal.given)
        if needs and needs not in self.measured:
            self.measured.add(needs)
            k, n = int(self.state.mine.having(proposal.given).sum()), len(self.state.mine.h)
            share = Proposal("mass", (), proposal.given, guessed(k, n), None, 0.0, 0.0)
            self.pending.append(self.book.freeze(share, self._plan(share)))
        self.pending.append(self.book.freeze(proposal, self._plan(proposal)))

    def _certify(self, number: int, proposal: Proposal) -> None:
        """PROVED kinds need no data: the kernel's word is enough."""
        try:
            name = self.book.certify(proposal)
        except RejectedError as error:
            self._log(number, None, proposal, "refused", str(error), None, None, None)
            return
        self._keep(name, proposal, self.state.model.with_changes(proposal.changes))
        self._log(number, None, proposal, "accepted", "", None, None, None)

    def _judge(self, number: int, fresh: Batch) -> None:
        still = []
        for frozen in self.pending:
            interval = self.book.count(frozen)
            if interval is None:
                still.append(frozen)
                continue
            judgement = self.checker.judge(frozen, interval)
            if judgement.interval != interval:
                raise CheckerError(
                    f"{type(self.checker).__name__} returned {judgement.interval}, but {interval} "
                    "was counted: a checker decides, and states no other interval"
                )
            if judgement.decision == "pending":
                still.append(frozen)
                continue
            self._decide(number, frozen, judgement, fresh)
        self.pending = still

    def _decide(self, number: int, frozen: Frozen, judgement: Judgement, fresh: Batch) -> None:
        proposal = frozen.proposal
        before, old = self._total(self.state.model, self.bits, fresh)
        log = (number, frozen, proposal)
        if judgement.decision == "refused":
            self.book.refuse(frozen, judgement.reason)
            self._log(*log, "refused", judgement.reason, judgement.interval, before, before)
            return
        if proposal.kind == "mass":
            self._log(*log, "stored", "", judgement.interval, before, before)
            return
        proposal = _with_measured(proposal, judgement.interval)
        model = self.state.model.with_changes(proposal.changes)
        after, new = self._total(model, self.bits + proposal.bits, fresh)
        noise = 2 * self._horizon * float((new - old).std()) / max(len(new) - 1, 1) ** 0.5
        if after + noise >= before:
            reason = (
                f"the description of fresh data goes from {before:.0f} to {after:.0f} bits, "
                f"+- {noise:.0f}: it must fall by more"
            )
            self.book.retract(frozen.id, reason)
            self._log(*log, "retracted", reason, judgement.interval, before, after)
            return
        for name in proposal.replaces:
            self.book.retract(name, f"merged into {frozen.id}")
        self._keep(frozen.id, proposal, model)
        self._log(*log, "accepted", "", judgement.interval, before, after)

    def _keep(self, name: str, proposal: Proposal, model: Presumption) -> None:
        self.bits += proposal.bits
        kept = [rule for rule in self.state.rules if rule.id not in proposal.replaces]
        rules = (*kept, Accepted(name, proposal))
        self.state = replace(self.state, model=model, rules=rules)

    @property
    def _horizon(self) -> int:
        return self.budget.horizon or len(self.state.mine.h)

    def _total(
        self, model: Presumption, bits: float, batch: Batch
    ) -> tuple[float, Float64[np.ndarray, " n"]]:
        """The length of the description, and the surprise of each observation."""
        surprise = model.surprise(codes_of(self.state.variables, batch.h, batch.classes))
        return self._horizon * float(surprise.mean()) + bits, surprise

    def _log(
        self,
        number: int,
        frozen: Frozen | None,
        proposal: Proposal,
        decision: str,
        reason: str,
        interval: Interval | None,
        before: float | None,
        after: float | None,
    ) -> None:
        watched = None
        if self.watch is not None:
            watched, _ = self._total(self.state.model, self.bits, self.watch)
        self.steps.append(
            Step(number, frozen, proposal, decision, reason, interval, before, after, watched)
        )


def _variables(proposal: Proposal) -> set[int]:
    """The variables of the presumption that it changes."""
    return {
        change.then[0] if isinstance(change, Coupling) else change.variable
        for change in proposal.changes
    }


def _subjects(proposal: Proposal) -> set[Any]:
    """What no two proposals may be about while undecided: a variable's base, or the events."""
    bases = {c.variable for c in proposal.changes if not isinstance(c, Coupling)}
    return {(proposal.kind, v) for v in bases} or {proposal.key}


def _rank(proposal: Proposal) -> tuple[bool, float, int]:
    """Certificates first, then the best score; the order of kinds breaks ties."""
    return (
        proposal.certify is None,
        -round(proposal.score, 6),
        PROVED_FIRST.index(proposal.kind) if proposal.kind in PROVED_FIRST else len(PROVED_FIRST),
    )


def _with_measured(proposal: Proposal, interval: Interval) -> Proposal:
    """The held-out number in place of the fitted one, in every coupling."""
    if not proposal.measured:
        return proposal
    ends: dict[str, float] = {
        "p": (interval.k + 0.5) / (interval.n + 1),
        "low": float(interval.low),
        "high": float(interval.high),
    }
    changes = tuple(replace(change, **ends) for change in proposal.changes)  # type: ignore[arg-type]
    return replace(proposal, changes=changes)
