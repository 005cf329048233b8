"""What interval statements say of the probability of a conjunction, in the worst case.

A statement ``low P(A) <= P(A and B) <= high P(A)`` confines P; the *credal set* of some statements
holds every distribution that satisfies them all. ``lower_probability`` bounds the infimum of P(E)
over it from below and ``upper_probability`` the supremum from above, by closed forms that hold for
each member. No independence is presumed anywhere. If the set is empty, the lower probability is 0
and the upper one 1: contradictory statements admit nothing.

Monotone: narrowing an interval or adding a statement never lowers a lower probability nor raises
an upper one, while the statements remain consistent. For every closed form is monotone in the ends
and in the other bounds it uses, and more statements only offer more of them.
"""

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from math import lcm
from typing import Final, NamedTuple

import numpy as np
from flint import fmpq

from .._errors import OptionError
from ._conjunctions import Bounds, Rule
from ._feasibility import feasible

EXACT_EVENTS: Final = 12
"""Events of a connected component up to which its consistency is decided exactly."""


class Statement(NamedTuple):
    """``low P(A) <= P(A and B) <= high P(A)``: A the antecedent, B the consequent.

    Both are conjunctions of named events; an empty antecedent is the whole space.
    """

    antecedent: frozenset[str]
    consequent: frozenset[str]
    low: Fraction
    high: Fraction


def lower_probability(event: frozenset[str], statements: Iterable[Statement]) -> Fraction:
    """At most P(E) for every distribution that satisfies the statements; 0 if none does.

    The best of what follows from the statements by (see ``Bounds``): direct count, product along
    a chain, star (Bonferroni given a common antecedent), Frechet and monotony. An event that no
    statement names has lower probability 0; the empty conjunction has 1.

    Raises OptionError for a statement that is none. Cost: that of ``consistent`` and a search
    among the conjunctions that share an event with E; what the statements imply is remembered.
    """
    known = _known(tuple(statements))
    if not known.consistent or not event <= known.place.keys():
        return Fraction(0)
    return known.bounds.lower(known.mask(event))


def upper_probability(event: frozenset[str], statements: Iterable[Statement]) -> Fraction:
    """At least P(E) for every distribution that satisfies the statements; 1 if none does.

    Raises and costs as ``lower_probability``.
    """
    known = _known(tuple(statements))
    if not known.consistent:
        return Fraction(1)
    return known.bounds.upper(known.mask(frozenset(event & known.place.keys())))


def consistent(statements: Iterable[Statement]) -> bool:
    """Whether the statements may hold together.

    False if an interval is empty. Else the events fall into components, connected by statements;
    components do not contradict each other. One of at most 12 events is decided exactly: whether
    any distribution over its atoms satisfies its statements. A larger one is called inconsistent
    only if a closed form bounds some conjunction above what another allows it, or if what it says
    without the event named most often ("bad", as a rule) is inconsistent: so True means there that
    no contradiction was found, and the bounds hold as long as there is none.

    Raises OptionError for a statement that is none. Cost: exact linear programs over the atoms
    that statements tell apart, milliseconds for a handful of events, seconds at worst for 12.
    """
    return _known(tuple(statements)).consistent


class _Known(NamedTuple):
    place: dict[str, int]
    bounds: Bounds
    consistent: bool

    def mask(self, event: frozenset[str]) -> int:
        return sum(1 << self.place[name] for name in event)


@lru_cache(maxsize=64)
def _known(statements: tuple[Statement, ...]) -> _Known:
    for statement in statements:
        _check(statement)
    names = sorted({name for s in statements for name in s.antecedent | s.consequent})
    place = {name: i for i, name in enumerate(names)}

    def mask(event: frozenset[str]) -> int:
        return sum(1 << place[name] for name in event)

    rules = tuple(
        Rule(mask(s.antecedent), mask(s.antecedent | s.consequent), _exact(s.low), _exact(s.high))
        for s in statements
    )
    bounds = Bounds(rules)
    sound = (
        all(s.low <= s.high for s in statements)
        and not bounds.contradictory
        and all(_has_member(events, part) for events, part in _components(rules))
    )
    return _Known(place, bounds, sound)


def _check(statement: Statement) -> None:
    ends = {"low": statement.low, "high": statement.high}
    for name, end in ends.items():
        if type(end) is not Fraction or not 0 <= end <= 1:
            raise OptionError(f"{name}={end!r} of a statement: give a Fraction within [0, 1]")
    if statement.consequent <= statement.antecedent:
        raise OptionError(
            f"consequent {sorted(statement.consequent)} adds nothing to antecedent "
            f"{sorted(statement.antecedent)}: name an event that is not in it"
        )


def _components(rules: Iterable[Rule]) -> list[tuple[int, list[Rule]]]:
    """Events connected by rules, as masks, with their rules."""
    parts: list[tuple[int, list[Rule]]] = []
    for rule in rules:
        events, joined = rule.whole, [rule]
        apart = []
        for part in parts:
            if part[0] & events:
                events, joined = events | part[0], part[1] + joined
            else:
                apart.append(part)
        parts = [*apart, (events, joined)]
    return parts


def _has_member(events: int, rules: list[Rule]) -> bool:
    """Whether some distribution satisfies the rules; of many events, the rules of fewer of them."""
    places = [i for i in range(events.bit_length()) if events >> i & 1]
    if len(places) > EXACT_EVENTS:
        # "bad" is in every rule about risk, and connects what does not belong together.
        hub = max(places, key=lambda i: sum(rule.whole >> i & 1 for rule in rules))
        rest = [rule for rule in rules if not rule.whole >> hub & 1]
        return all(_has_member(*part) for part in _components(rest))
    atoms = np.arange(1 << len(places))

    def holds(conjunction: int) -> np.ndarray:
        local = sum(1 << j for j, i in enumerate(places) if conjunction >> i & 1)
        return (atoms & local) == local

    # Atoms that no rule tells apart are one.
    facts = np.stack([holds(part) for rule in rules for part in (rule.given, rule.whole)])
    told = np.unique(facts, axis=1).astype(int).tolist()
    rows = []
    for i, rule in enumerate(rules):
        given, whole = told[2 * i], told[2 * i + 1]
        unit = lcm(int(rule.low.q), int(rule.high.q))
        low, high = int(rule.low * unit), int(rule.high * unit)
        rows.append([low * a - unit * ab for a, ab in zip(given, whole, strict=True)])
        rows.append([unit * ab - high * a for a, ab in zip(given, whole, strict=True)])
    return feasible(rows, len(told[0]))


def _exact(value: Fraction) -> fmpq:
    return fmpq(value.numerator, value.denominator)
