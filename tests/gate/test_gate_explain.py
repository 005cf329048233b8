import json
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest

from compactproofs.gate._checker import (
    CheckerError,
    FixedSample,
    Judgement,
    Sequential,
    conditions,
)
from compactproofs.gate._events import Pattern, class_variable, site_signs
from compactproofs.gate._explain import Budget, ExplainError, explain, start_from, take_mine
from compactproofs.gate._explanation import explained_cells
from compactproofs.gate._rule_book import Frozen, MemoryBook, RuleBookError
from compactproofs.gate._source import Batch, Source, SourceError
from compactproofs.gate.propose import Constant, Joint, Proposal, State
from compactproofs.kernel import RejectedError
from compactproofs.kernel.gate._credal import Statement, lower_probability
from compactproofs.kernel.gate._proportions import Interval, clopper_pearson, lower_mass

ALPHA = Fraction(1, 100)
SIGNS = [class_variable(2, 2, None), *site_signs("f", 0, 2, range(2))]
A, B = SIGNS[1].events[1], SIGNS[2].events[1]


def _pair(n: int, rng: np.random.Generator, given: float = 0.9) -> np.ndarray:
    """A and B of 10 % each, B in ``given`` of A."""
    a = rng.random(n) < 0.1
    b = np.where(a, rng.random(n) < given, rng.random(n) < (0.1 - 0.1 * given) / 0.9)
    return np.where(np.stack([a, b], axis=1), 1.0, -1.0)


def _batch(h: np.ndarray, rng: np.random.Generator | None = None) -> Batch:
    answers = np.zeros(len(h), dtype=int) if rng is None else rng.integers(0, 2, len(h))
    return Batch(h, np.eye(2)[answers], np.full(len(h), -1))


def _source(seed: int = 0, given: float = 0.9) -> Source:
    rng = np.random.default_rng(seed)
    return Source(lambda n: _batch(_pair(n, rng, given), rng))


def _proposal(given: Pattern = (A,), then: Pattern = (B,), **changes) -> Proposal:
    proposal = Proposal("joint", given, then, (0.8, 0.95), 0.1, 10.0, 50.0)
    return replace(proposal, **changes)


# The user's example


def test_a_rule_is_what_lets_a_frequent_pattern_in():
    """Table of the specification: marginals alone admit nothing, however much was seen."""
    alpha, nothing = Fraction(1, 1000), frozenset[str]()
    a, b = frozenset("A"), frozenset("B")
    for n, with_rule, direct in (
        (100, 0.0115, 0.025),
        (1_000, 0.057, 0.064),
        (10_000, 0.079, 0.081),
        (100_000, 0.0865, 0.087),
    ):
        hits, both = n // 10, 9 * n // 100
        alone = [
            Statement(nothing, event, lower_mass(hits, n, alpha), Fraction(1)) for event in (a, b)
        ]
        rule = Statement(a, b, lower_mass(both, hits, alpha), Fraction(1))
        assert lower_probability(a | b, alone) == 0
        assert float(lower_probability(a | b, [*alone, rule])) == pytest.approx(with_rule, abs=6e-4)
        assert float(lower_mass(both, n, alpha)) == pytest.approx(direct, abs=6e-4)


def test_the_loop_finds_the_rule_and_the_pattern_becomes_probable():
    source, budget = _source(), Budget(mine=2000, shard=1000, rounds=12)
    book = MemoryBook(ALPHA)
    found = explain(book, source, SIGNS, take_mine(source, budget), budget)
    both = frozenset({A.id, B.id})
    without = [s for s in book.statements() if not s.antecedent]
    assert lower_probability(both, without) == 0
    assert 0.05 < float(lower_probability(both, book.statements())) < 0.09
    joint = next(step for step in found.accepted if step.proposal.kind == "joint")
    assert joint.reason == "" and found.always_shorter
    assert found.largest_unexplained < 8
    pattern = next(cell for cell in explained_cells(found, book) if set(cell.pattern) == {A, B})
    assert pattern.lower > 0.05
    assert all(json.dumps(step.row()) for step in found.steps)


def test_without_dependence_there_is_no_joint_rule():
    source, budget = _source(1, given=0.1), Budget(mine=2000, shard=1000, rounds=6)
    mined, counted = take_mine(source, budget), [Constant(), Joint()]
    found = explain(MemoryBook(ALPHA), source, SIGNS, mined, budget, proposers=counted)
    kinds = [step.proposal.kind for step in found.accepted]
    assert kinds == ["constant", "constant"]


# Only later data counts


def test_nothing_that_was_observed_before_is_counted():
    rng = np.random.default_rng(2)
    book = MemoryBook(ALPHA)
    book.observe(_batch(_pair(500, rng)))
    frozen = book.freeze(_proposal(), take=100)
    assert frozen.born == 500
    assert book.count(frozen) is None
    book.observe(_batch(-np.ones((99, 2))))  # neither A nor B
    assert book.count(frozen) is None
    book.observe(_batch(np.ones((400, 2))))  # both, of which only one is within the count
    interval = book.count(frozen)
    assert interval is not None
    assert (interval.k, interval.n) == (1, 1)
    assert interval == clopper_pearson(1, 1, frozen.alpha)


def test_a_sequence_counts_everything_since_the_birth():
    book = MemoryBook(ALPHA)
    book.observe(_batch(np.ones((50, 2))))
    frozen = book.freeze(_proposal(), take=None)
    for total in (20, 40):
        book.observe(_batch(np.ones((20, 2))))
        interval = book.count(frozen)
        assert interval is not None
        assert (interval.k, interval.n, interval.kind) == (total, total, "CS")


def test_a_source_gives_nothing_twice():
    h = np.arange(10.0).reshape(5, 2)
    source = Source.of(h, np.eye(2)[[0, 1, 0, 1, 0]])
    seen = [source.take(2).h, source.take(2).h, source.take(2).h, source.take(2).h]
    assert np.array_equal(np.concatenate(seen), h)
    with pytest.raises(SourceError, match="take at least 1"):
        source.take(0)
    with pytest.raises(SourceError, match="5, 4"):
        Source.of(h, np.zeros((4, 2)))


def test_a_book_counts_only_what_it_froze_itself():
    book, other = MemoryBook(ALPHA), MemoryBook(ALPHA)
    frozen = book.freeze(_proposal(), take=1)
    for wrong in (other, MemoryBook(ALPHA)):
        with pytest.raises(RuleBookError, match="not frozen by this book"):
            wrong.count(frozen)
    with pytest.raises(RuleBookError, match="not frozen by this book"):
        book.count(replace(frozen, born=-5))
    with pytest.raises(RuleBookError, match="at least 1"):
        book.freeze(_proposal(), take=0)


def test_the_best_of_many_accidents_is_believed_on_the_same_data_only():
    """100 independent events, 60 mined inputs: the most striking pair, in ten repetitions."""
    rng = np.random.default_rng(3)
    events = [v.events[1] for v in site_signs("f", 0, 100, range(100))]
    same = later = 0
    for _ in range(10):
        h = np.where(rng.random((60, 100)) < 0.5, 1.0, -1.0)
        on = (h > 0).astype(np.float64)
        shares = on.T @ on / on.sum(axis=0)[:, None] - 9 * np.eye(100)
        i, j = np.unravel_index(shares.argmax(), shares.shape)
        k, n = int(on[:, i] @ on[:, j]), int(on[:, i].sum())
        proposal = _proposal(
            (events[i],), (events[j],), predicted=(k / n - 0.1, k / n + 0.1), without=0.5
        )
        same += conditions(proposal, clopper_pearson(k, n, ALPHA)) == []
        book = MemoryBook(ALPHA)
        book.observe(_batch(h))
        frozen = book.freeze(proposal, take=500)
        book.observe(_batch(np.where(rng.random((500, 100)) < 0.5, 1.0, -1.0)))
        interval = book.count(frozen)
        assert interval is not None
        later += conditions(proposal, interval) == []
    assert same >= 8
    assert later == 0


def test_accidents_are_not_worth_their_bits():
    """Of 20,000 patterns the best is surprising by chance; its index costs more than it gains."""
    rng = np.random.default_rng(3)
    variables = [class_variable(2, 100, None), *site_signs("f", 0, 100, range(100))]

    def draw(n: int) -> Batch:
        return _batch(np.where(rng.random((n, 100)) < 0.5, 1.0, -1.0), rng)

    source, budget = Source(draw), Budget(mine=40, shard=300, rounds=2, order=2, draws=2000)
    book = MemoryBook(ALPHA)
    found = explain(book, source, variables, take_mine(source, budget), budget)
    assert found.steps == () and book.spent == 0


# The conditions of acceptance


@pytest.mark.parametrize(
    ("k", "n", "against"),
    [
        (450, 500, []),
        (300, 500, ["contradicted"]),
        (0, 500, ["contradicted", "too few"]),
        (50, 500, ["contradicted", "not needed", "too few"]),
        (499, 500, ["contradicted"]),
        (2, 2, ["not needed", "too few"]),
    ],
)
def test_a_rule_must_be_right_needed_and_precise(k: int, n: int, against: list[str]):
    interval = clopper_pearson(k, n, Fraction(1, 1000))
    found = conditions(_proposal(), interval)
    assert len(found) == len(against)
    assert all(text.startswith(start) for text, start in zip(found, against, strict=True))


def test_an_interval_whose_ends_are_a_factor_of_two_apart_is_not_precise():
    low = Interval(Fraction(1, 5), Fraction(2, 5), ALPHA, 3, 10, "CP")
    wide = low._replace(high=Fraction(401, 1000))
    proposal = _proposal(predicted=(0.1, 0.5), without=None)
    assert conditions(proposal, low) == []
    assert conditions(proposal, wide)[0].startswith("too few")


def test_a_fixed_sample_is_planned_before_and_looked_at_once():
    checker = FixedSample(shard=50)
    sure = checker.plan(_proposal(), 0.1, 1e-4)
    close = checker.plan(_proposal(without=0.85), 0.1, 1e-4)
    assert sure % 50 == 0 and close > 4 * sure
    frozen = Frozen("rule1", _proposal(), ALPHA, 0, sure)
    few = clopper_pearson(2, 2, ALPHA)
    assert checker.judge(frozen, few).decision == "refused"
    assert Sequential().judge(frozen, few).decision == "pending"
    wrong = clopper_pearson(1, 100, ALPHA)
    assert Sequential().judge(frozen, wrong).decision == "refused"


def test_a_stored_rule_has_the_interval_of_later_data_and_all_proposals_are_charged():
    source, budget = _source(4), Budget(mine=500, shard=1000, rounds=5)
    book = MemoryBook(ALPHA)
    found = explain(book, source, SIGNS, take_mine(source, budget), budget)
    charged = {step.frozen.alpha for step in found.steps if step.frozen}
    charged |= {frozen.alpha for frozen in found.pending}
    assert sum(charged) == book.spent <= ALPHA
    assert {"accepted"} < {step.decision for step in found.steps}
    for step in found.accepted:
        assert step.frozen is not None and step.interval is not None
        assert step.interval == clopper_pearson(step.interval.k, step.interval.n, step.frozen.alpha)
        (change,) = step.proposal.changes if step.proposal.measured else (None,)
        kept = {r.id: r.proposal for r in found.state.rules}[step.frozen.id]
        if change is not None:
            assert kept.changes[0].p == (step.interval.k + 0.5) / (step.interval.n + 1)  # type: ignore[union-attr]


def test_a_rule_that_shortens_nothing_is_rolled_back():
    """A implies B and its contrapositive say the same: the second is true, and not kept."""
    source, budget = _source(1), Budget(mine=2000, shard=1000, rounds=12)
    book = MemoryBook(ALPHA)
    found = explain(
        book, source, SIGNS, take_mine(source, budget), budget, proposers=[Constant(), Joint()]
    )
    back = [step for step in found.steps if step.decision == "retracted"]
    assert back and all("description" in step.reason for step in back)
    kept = {rule.id for rule in found.state.rules}
    assert all(step.frozen is not None and step.frozen.id not in kept for step in back)
    assert len(book.statements()) == len(found.steps) - len(back) - sum(
        step.decision == "refused" for step in found.steps
    )


# The extension point


@dataclass(frozen=True)
class Patient:
    """An example of a checker: accepts what two looks in a row confirm; a confidence sequence."""

    seen: dict[str, int]

    def plan(self, proposal: Proposal, share: float, alpha: float) -> None:
        """Look whenever data arrive."""

    def judge(self, frozen: Frozen, interval: Interval) -> Judgement:
        """Count the looks at which nothing speaks against the rule."""
        against = conditions(frozen.proposal, interval)
        self.seen[frozen.id] = 0 if against else self.seen.get(frozen.id, 0) + 1
        done = self.seen[frozen.id] == 2
        return Judgement("accepted" if done else "pending", interval, "; ".join(against))


def test_another_checker_may_decide():
    source, budget = _source(), Budget(mine=2000, shard=1000, rounds=6)
    book = MemoryBook(ALPHA)
    checker = Patient({})
    found = explain(book, source, SIGNS, take_mine(source, budget), budget, checker=checker)
    assert found.accepted and min(step.number for step in found.accepted) == 1
    for step in found.accepted:
        assert step.frozen is not None and step.interval is not None
        assert step.interval.kind == "CS" and step.interval.alpha == step.frozen.alpha


def test_the_sequential_checker_finds_the_rule_too():
    source, budget = _source(5), Budget(mine=2000, shard=1000, rounds=12)
    book, mined, counted = MemoryBook(ALPHA), take_mine(source, budget), [Constant(), Joint()]
    checker = Sequential()
    found = explain(book, source, SIGNS, mined, budget, proposers=counted, checker=checker)
    joint = [step for step in found.accepted if step.proposal.kind == "joint"]
    assert joint and all(step.interval and step.interval.kind == "CS" for step in joint)


class Liar(FixedSample):
    """Claims more than was counted."""

    def judge(self, frozen: Frozen, interval: Interval) -> Judgement:
        """Narrower than the truth."""
        return Judgement("accepted", interval._replace(low=interval.high), "")


def test_no_checker_states_an_interval_that_was_not_counted():
    source, budget = _source(), Budget(mine=500, shard=200, rounds=2)
    with pytest.raises(CheckerError, match="states no other interval"):
        explain(
            MemoryBook(ALPHA), source, SIGNS, take_mine(source, budget), budget, checker=Liar(200)
        )


class Prover:
    """A PROVED kind: its certificate is the ledger's business, and needs no data."""

    kind = "evidence"

    def __init__(self, holds: bool) -> None:
        self.holds = holds

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        def certify(gate: object) -> str:
            if not self.holds:
                raise RejectedError("the margin is not above 0: choose a smaller cell")
            return "certificate"

        return [Proposal(self.kind, (), pattern, (1.0, 1.0), None, 0.0, 1e-3, certify=certify)]


@pytest.mark.parametrize("holds", [True, False])
def test_certificates_come_first_and_charge_nothing(holds: bool):
    source, budget = _source(), Budget(mine=500, shard=200, rounds=1)
    book = MemoryBook(ALPHA)
    found = explain(
        book,
        source,
        SIGNS,
        take_mine(source, budget),
        budget,
        proposers=[Prover(holds), Joint(), Constant()],
    )
    assert found.steps[0].proposal.kind == "evidence"
    assert found.steps[0].decision == ("accepted" if holds else "refused")
    assert all(step.frozen is None for step in found.steps if step.proposal.kind == "evidence")
    frozen = [step.frozen for step in found.steps if step.frozen] + list(found.pending)
    assert book.spent == sum(one.alpha for one in frozen) > 0


def test_a_discovery_needs_inputs_and_the_class_variable():
    with pytest.raises(ExplainError, match="the class variable first"):
        start_from(SIGNS[1:], _batch(np.ones((3, 2))))
    with pytest.raises(ExplainError, match="0 mined inputs"):
        start_from(SIGNS, _batch(np.ones((0, 2))))
