"""The gate's statistics: every law, G1 on many ledgers, and the figures that docs quote."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from types import ModuleType

import pytest

from compactproofs.kernel.gate._calibration import fixed_sequence, shifted
from compactproofs.kernel.gate._confidence_sequences import confidence_sequence
from compactproofs.kernel.gate._credal import (
    Statement,
    consistent,
    lower_probability,
    upper_probability,
)
from compactproofs.kernel.gate._exchangeability import ConformalMartingale
from compactproofs.kernel.gate._proportions import clopper_pearson, lower_mass, upper_risk

from . import laws_of_gate_calibration, laws_of_gate_credal, laws_of_gate_statistics
from .mutants.gate_statistics import GATE_STATISTICS

MODULES = (laws_of_gate_statistics, laws_of_gate_credal, laws_of_gate_calibration)
Law = Callable[[ModuleType], Iterator[str]]


@pytest.mark.parametrize(
    "law",
    [law for module in MODULES for law in module.LAWS if law is not laws_of_gate_credal.monotony],
    ids=lambda law: law.__name__,
)
def test_the_law_holds(law: Law, plain: ModuleType) -> None:
    assert list(law(plain)) == []


def test_no_certainty_that_is_taken_away_ever_raises_a_bound(plain: ModuleType) -> None:
    assert list(laws_of_gate_credal.monotony(plain, trials=500)) == []


def test_every_file_of_the_statistics_has_mutants() -> None:
    attacked = {mutant.edits[0].file for mutant in GATE_STATISTICS}
    assert attacked == {file for module in MODULES for file in module.WEAK_SPOTS}


@pytest.mark.parametrize(
    ("n", "hits"), [(1000, (1, 2, 3)), (10**5, (5, 7, 10)), (10**6, (19, 25, 29))]
)
def test_hits_for_a_mass_of_one_in_a_hundred_thousand(n: int, hits: tuple[int, ...]) -> None:
    tau = Fraction(1, 10**5)
    for needed, exponent in zip(hits, (2, 4, 6), strict=True):
        alpha = Fraction(1, 10**exponent)
        assert lower_mass(needed, n, alpha) >= tau > lower_mass(needed - 1, n, alpha)


@pytest.mark.parametrize(
    ("exponent", "enough"), [(2, 299), (3, 2995), (4, 29956), (5, 299_572)]
)  # fmt: skip
def test_clean_samples_for_a_small_risk(exponent: int, enough: int) -> None:
    alpha, delta = Fraction(1, 20), Fraction(1, 10**exponent)
    assert upper_risk(0, enough, alpha) <= delta < upper_risk(0, enough - 1, alpha)


def test_the_price_of_looking_at_every_moment() -> None:
    sequence = confidence_sequence(100, 1000, Fraction(1, 100), None)
    counted = clopper_pearson(100, 1000, Fraction(1, 100))
    assert [round(float(end), 3) for end in sequence[:2]] == [0.066, 0.143]
    assert [round(float(end), 3) for end in counted[:2]] == [0.077, 0.127]


def test_a_rule_admits_what_marginals_do_not() -> None:
    alpha, nothing = Fraction(1, 1000), frozenset[str]()
    a, b = frozenset("A"), frozenset("B")
    for n, by_rule, direct in ((1000, 0.057, 0.064), (10**5, 0.086, 0.087)):
        tenth = lower_mass(n // 10, n, alpha)
        marginals = [Statement(nothing, event, tenth, Fraction(1)) for event in (a, b)]
        rule = Statement(a, b, lower_mass(9 * n // 100, n // 10, alpha), Fraction(1))
        both = Statement(nothing, a | b, lower_mass(9 * n // 100, n, alpha), Fraction(1))
        assert lower_probability(a | b, marginals) == 0
        assert round(float(lower_probability(a | b, [*marginals, rule])), 3) == by_rule
        assert round(float(lower_probability(a | b, [*marginals, both])), 3) == direct
        assert upper_probability(a | b, [*marginals, rule]) == 1
        assert consistent([*marginals, rule, both])


def test_a_star_needs_many_more_hits_than_branches() -> None:
    alpha, nothing = Fraction(1, 10**5), frozenset[str]()
    a, leaves = frozenset("A"), [f"e{i}" for i in range(32)]
    for n, admits in ((300, False), (450, True)):
        always = lower_mass(n, n, alpha)
        statements = [Statement(nothing, a, Fraction(1, 10), Fraction(1))]
        statements += [Statement(a, frozenset([e]), always, Fraction(1)) for e in leaves]
        assert (lower_probability(a | set(leaves), statements) > 0) == admits


def test_calibration_and_shift() -> None:
    delta = Fraction(1, 50)
    assert fixed_sequence([0, 1, 2, 3, 4, 9], 400, delta, Fraction(1, 20)) == 3
    assert shifted(delta, ratio=Fraction(3)) == Fraction(3, 50)


def test_a_stored_test_goes_on_where_it_was() -> None:
    first = ConformalMartingale(Fraction(1, 20), [0.5, 1.5])
    assert first.update(1.5) == Fraction(2, 3)
    second = ConformalMartingale.from_json(first.to_json())
    assert (second.seen, second.fired, second.wealth) == (1, False, first.wealth)
