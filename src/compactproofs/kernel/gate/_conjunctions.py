"""Closed-form bounds on the probabilities of conjunctions, from rules between conjunctions."""

from fractions import Fraction
from functools import cache
from typing import Final, NamedTuple

from flint import fmpq

_NONE: Final = fmpq(0)
_ALL: Final = fmpq(1)

_COVERED: Final = 8
"""Events up to which the cheapest cover is searched among all; beyond, one piece an event."""


class Rule(NamedTuple):
    """``low P(given) <= P(whole) <= high P(given)``: sets of events as bit masks."""

    given: int
    whole: int
    low: fmpq
    high: fmpq


class Bounds:
    """Lower and upper bounds on the probability of every conjunction, from rules.

    Known conjunctions are the empty one, of probability 1, and the sides of the rules. With L and
    U the bounds so far, E any conjunction, and A, Y known ones:

    * ``P(E) <= U(Y)`` for Y within E; ``P(whole) <= high U(given)``.
    * ``P(E) >= L(A) - cost``, where pieces C cover the events of E that A lacks, and
      ``P(A and not C)`` is at most the cost of C: ``(1 - low) P(A)`` for a rule given A;
      ``(1 - low) U(given)`` for a rule given less than A; ``U(Y and A) - L(Y)`` for a conjunction
      Y that contains C, where ``Y and A`` stands for the events common to both.

    Proof of the second: ``P(E) >= P(A and all C) >= P(A) - sum P(A and not C)``. As a function of
    P(A) this is ``P(A) (1 - r) - q`` with q, r >= 0; it rises if r <= 1, so P(A) may be replaced by
    L(A), and otherwise it is negative there. No piece: L(E) >= L(A) for A that contains E. One rule
    given A: the product along a chain. Several: the star. A empty and conjunctions as pieces:
    Frechet. While L <= U no bound exceeds one it came from, so they settle after as many rounds as
    there are conjunctions; where L > U the rules contradict each other.
    """

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        """Bound the known conjunctions. Cost: rounds of a search each, few in practice."""
        self._rules = rules
        sides = {0} | {side for rule in rules for side in (rule.given, rule.whole)}
        self._known = sorted(sides, key=lambda side: (side.bit_count(), side))
        self._upper: dict[int, fmpq] = {}
        self._uppers: dict[int, fmpq] = {}
        for side in self._known:
            ends = [rule.high * self._upper[rule.given] for rule in rules if rule.whole == side]
            self._upper[side] = min([self._at_most(side), *ends])
            self._uppers = {}
        self._rules_on: dict[int, set[int]] = {}
        self._sides_on: dict[int, set[int]] = {}
        for i, rule in enumerate(rules):
            for bit in _bits(rule.whole):
                self._rules_on.setdefault(bit, set()).add(i)
                self._sides_on.setdefault(bit, set()).update((rule.given, rule.whole))
        self._lower = dict.fromkeys(self._known, _NONE) | {0: _ALL}
        for _ in self._known:
            better = {side: self._at_least(side) for side in self._known}
            settled = better == self._lower
            self._lower = better
            if settled or self.contradictory:
                break

    @property
    def contradictory(self) -> bool:
        """Whether some conjunction's lower bound exceeds its upper one."""
        return any(self._lower[side] > self._upper[side] for side in self._known)

    def upper(self, event: int) -> Fraction:
        """The least upper bound on P(event)."""
        return _fraction(self._at_most(event))

    def lower(self, event: int) -> Fraction:
        """The greatest lower bound on P(event)."""
        return _fraction(self._at_least(event))

    def _at_most(self, event: int) -> fmpq:
        if event not in self._uppers:
            ends = (end for side, end in self._upper.items() if side & ~event == 0)
            self._uppers[event] = min(ends, default=_ALL)
        return self._uppers[event]

    def _at_least(self, event: int) -> fmpq:
        best = _NONE
        for base in sorted(self._bases(event), key=lambda side: self._lower[side], reverse=True):
            start = self._lower[base]
            if start <= best:
                break
            cost = self._cover(base, event & ~base, start - best)
            if cost is not None:
                best = max(best, start - cost)
        return best

    def _bases(self, event: int) -> set[int]:
        return {0}.union(*(self._sides_on.get(bit, ()) for bit in _bits(event)))

    def _cover(self, base: int, missing: int, room: fmpq) -> fmpq | None:
        """The least cost of pieces that cover ``missing`` given ``base``; None if none do.

        A piece that costs ``room`` or more is of no use.
        """
        pieces: dict[int, fmpq] = {}
        bits = _bits(missing)

        def offer(piece: int, cost: fmpq) -> None:
            if cost < pieces.get(piece, room):
                pieces[piece] = cost

        for i in set[int]().union(*(self._rules_on.get(bit, ()) for bit in bits)):
            rule = self._rules[i]
            if rule.given & ~base == 0:
                share = self._lower[base] if rule.given == base else self._upper[rule.given]
                offer(rule.whole & missing, (1 - rule.low) * share)
        for side in set[int]().union(*(self._sides_on.get(bit, ()) for bit in bits)):
            gap = self._at_most(side & base) - self._lower[side]
            offer(side & missing, max(gap, _NONE))
        return _cheapest(missing, pieces)


def _cheapest(missing: int, pieces: dict[int, fmpq]) -> fmpq | None:
    """The least total cost of pieces whose union is ``missing``; None if there are none.

    Exact for few events. For many, that of a single piece or of one piece an event, each paid
    anew: more than the least, and still no more when further pieces are offered.
    """
    bits = _bits(missing)
    if len(bits) > _COVERED:
        each = [min((c for p, c in pieces.items() if p & bit), default=None) for bit in bits]
        paid = [cost for cost in each if cost is not None]
        ways = [pieces[missing]] if missing in pieces else []
        return min([*ways, *([sum(paid, _NONE)] if len(paid) == len(bits) else [])], default=None)

    @cache
    def least(rest: int) -> fmpq | None:
        if not rest:
            return _NONE
        first, best = rest & -rest, None
        for piece, cost in pieces.items():
            if piece & first and (best is None or cost < best):
                more = least(rest & ~piece)
                if more is not None and (best is None or cost + more < best):
                    best = cost + more
        return best

    return least(missing)


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        found.append(mask & -mask)
        mask &= mask - 1
    return found


def _fraction(value: fmpq) -> Fraction:
    return Fraction(int(value.p), int(value.q))
