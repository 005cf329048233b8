"""The laws of lower and upper probabilities, against linear programs over the atoms.

The oracle optimises in float64; its error is far below the room of each comparison.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
from scipy.optimize import linprog

from .laws_of_gate_statistics import gate_module, refuses

_ROOM = 1e-6
_DECIDED = 1e-9
Event = frozenset


def event(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names)


class Atoms:
    """All atoms over the events a, b, c, ... and linear programs over their probabilities."""

    def __init__(self, count: int) -> None:
        self.names = "abcdefgh"[:count]
        self.atoms = np.arange(1 << count)

    def holds(self, names: frozenset[str]) -> np.ndarray:
        mask = sum(1 << self.names.index(name) for name in names)
        return ((self.atoms & mask) == mask).astype(float)

    def rows(self, statements: list[Any]) -> np.ndarray:
        rows = [np.zeros(len(self.atoms))]
        for s in statements:
            given = self.holds(s.antecedent)
            both = self.holds(s.antecedent | s.consequent)
            rows += [float(s.low) * given - both, both - float(s.high) * given]
        return np.array(rows)

    def excess(self, statements: list[Any]) -> float:
        """The least amount by which the statements are violated; 0 if they may hold together."""
        rows = self.rows(statements)
        rows = np.hstack([rows, -np.ones((len(rows), 1))])
        cost = np.zeros(rows.shape[1])
        cost[-1] = 1
        return float(self._solve(cost, rows).fun)

    def optimum(self, names: frozenset[str], statements: list[Any], sign: int) -> float:
        return sign * float(self._solve(sign * self.holds(names), self.rows(statements)).fun)

    def _solve(self, cost: np.ndarray, rows: np.ndarray) -> Any:
        total = (np.arange(rows.shape[1]) < len(self.atoms)).astype(float)[None]
        found = linprog(cost, A_ub=rows, b_ub=np.zeros(len(rows)), A_eq=total, b_eq=[1])
        if found.status != 0:
            raise RuntimeError(f"the oracle failed: {found.message}")
        return found


def drawn_conjunction(rng: np.random.Generator, names: str, share: float) -> frozenset[str]:
    return frozenset(name for name in names if rng.random() < share)


def hostile_statements(kernel: ModuleType, rng: np.random.Generator, names: str) -> list[Any]:
    """Statements with ends of 0 and 1, points, and contradictions: in sixteenths."""
    statement = gate_module(kernel, "_credal").Statement
    found = []
    for _ in range(rng.integers(0, 14)):
        given = drawn_conjunction(rng, names, 0.4) if rng.random() < 0.6 else frozenset()
        then = drawn_conjunction(rng, names, 0.4)
        if then <= given:
            continue
        ends = [[0, 1, 4, 8, 12, 15, 16], [12, 14, 15, 16], [0, 8, 16]][rng.integers(3)]
        low, high = sorted(int(end) for end in rng.choice(ends, 2))
        found.append(statement(given, then, Fraction(low, 16), Fraction(high, 16)))
    return found


def true_statements(
    kernel: ModuleType, rng: np.random.Generator, count: int, most: int
) -> tuple[list[Any], list[Fraction]]:
    """Statements that one distribution satisfies, and the true share behind each."""
    statement = gate_module(kernel, "_credal").Statement
    atoms = Atoms(count)
    mass = rng.dirichlet(np.full(1 << count, 0.3))
    mass[rng.random(len(mass)) < 0.3] = 0
    exact = [Fraction(round(m * 10**6)) for m in mass]
    exact[-1] += 1
    found, truths = [], []
    for _ in range(most):
        given = drawn_conjunction(rng, atoms.names, 0.3) if rng.random() < 0.6 else frozenset()
        then = drawn_conjunction(rng, atoms.names, 0.4)
        if then <= given:
            continue
        both = sum(m for m, h in zip(exact, atoms.holds(given | then), strict=True) if h)
        truth = both / sum(m for m, h in zip(exact, atoms.holds(given), strict=True) if h)
        low, high = truth - _width(rng), truth + _width(rng)
        found.append(statement(given, then, max(low, Fraction(0)), min(high, Fraction(1))))
        truths.append(truth)
    return found, truths


def _width(rng: np.random.Generator) -> Fraction:
    return Fraction(int(rng.integers(0, 30)), 100)


def within_the_oracle(kernel: ModuleType) -> Iterator[str]:
    """Closed forms never exceed the optimum over the credal set; an empty one admits nothing."""
    module = gate_module(kernel, "_credal")
    rng = np.random.default_rng(61)
    decided = {True: 0, False: 0}
    for trial in range(110):
        atoms = Atoms(int(rng.integers(1, 6)))
        if trial % 3:
            statements = hostile_statements(kernel, rng, atoms.names)
        else:
            statements = true_statements(kernel, rng, len(atoms.names), int(rng.integers(1, 7)))[0]
        excess = atoms.excess(statements)
        if _DECIDED < excess < _ROOM:
            continue
        decided[excess < _ROOM] += 1
        if module.consistent(statements) != (excess < _ROOM):
            yield f"{statements} are violated by {excess}, and called {excess >= _ROOM} consistent"
            continue
        names = drawn_conjunction(rng, atoms.names, 0.5)
        low = module.lower_probability(names, statements)
        high = module.upper_probability(names, statements)
        if excess >= _ROOM:
            if (low, high) != (0, 1):
                yield f"contradictory statements give {names} within [{low}, {high}]"
            continue
        if low > atoms.optimum(names, statements, 1) + _ROOM:
            yield f"{statements}: P({set(names)}) is said to be at least {float(low)}"
        if high < atoms.optimum(names, statements, -1) - _ROOM:
            yield f"{statements}: P({set(names)}) is said to be at most {float(high)}"
    if min(decided.values()) < 15:
        yield f"the oracle decided {decided}: too few to tell"


def closed_forms(kernel: ModuleType) -> Iterator[str]:
    """Direct, product, star, Frechet, monotony: their very values, and nothing for nothing."""
    module = gate_module(kernel, "_credal")
    tenth, most, one = Fraction(1, 10), Fraction(9, 10), Fraction(1)

    def statement(given: str, then: str, low: Fraction, high: Fraction = one) -> Any:
        return module.Statement(event(given), event(then), low, high)

    a, b = statement("", "a", most), statement("", "b", most, Fraction(19, 20))
    chain = [statement("", "a", most), statement("a", "b", most, most)]
    chain.append(statement("ab", "c", most))
    star = [statement("", "a", tenth)] + [statement("a", x, 1 - tenth**2) for x in "bcdefghijklm"]
    abroad = [statement("", "a", most), statement("b", "c", most), statement("", "b", most)]
    several = [statement("", "a", most), statement("a", "bc", most), statement("a", "cd", most)]
    for statements, names, low, high in (
        ([], "", 1, 1),
        ([], "a", 0, 1),
        ([a], "", 1, 1),
        ([a], "a", most, 1),
        ([a], "z", 0, 1),
        ([a], "az", 0, 1),
        ([b], "bz", 0, Fraction(19, 20)),
        ([statement("", "ab", tenth, most)], "a", tenth, 1),
        ([statement("", "ab", tenth, most)], "abc", 0, most),
        ([a, b], "ab", Fraction(8, 10), Fraction(19, 20)),
        (chain, "ab", most**2, most),
        (chain, "abc", most**3, most),
        (chain, "c", most**3, 1),
        (star, "abcdefghijklm", tenth * (1 - 12 * tenth**2), 1),
        ([*star, statement("", "z", Fraction(0))], "abcdefghijklmz", 0, 1),
        (star, "abm", tenth * (1 - 2 * tenth**2), 1),
        (star, "bm", tenth * (1 - 2 * tenth**2), 1),
        (abroad, "abc", most - (1 - most**2), 1),
        (several, "abcd", most * (1 - 2 * tenth), 1),
        ([statement("a", "b", most), statement("", "ac", most)], "abc", most - tenth, 1),
        ([statement("", "a", tenth, tenth), statement("a", "b", Fraction(0), tenth)],)
        + ("ab", 0, tenth**2),
    ):
        found = (
            module.lower_probability(event(names), statements),
            module.upper_probability(event(names), statements),
        )
        if found != (low, high):
            yield f"{statements} give P({names}) within {found}, not {(low, high)}"


def contradictions(kernel: ModuleType) -> Iterator[str]:
    """What contradicts itself is inconsistent, wherever that hides; nothing else is."""
    module = gate_module(kernel, "_credal")

    def statement(given: str, then: str, low: int, high: int) -> Any:
        return module.Statement(event(given), event(then), Fraction(low, 20), Fraction(high, 20))

    pairs = [statement("", pair, 8, 20) for pair in ("ab", "bc", "ac")]
    links = [statement("", x + y, 1, 20) for x, y in pairwise("abcdefghijklmn")]
    apart = [statement("", x, 5, 15) for x in "abcdefghijklmnopq"]
    for statements, sound in (
        ([], True),
        (apart, True),
        ([statement("", "a", 12, 11)], False),
        ([statement("b", "a", 12, 11)], False),
        ([*apart, statement("b", "a", 12, 11)], False),
        ([statement("", "a", 12, 20), statement("", "a", 0, 11)], False),
        ([statement("", "a", 12, 20), statement("", "a", 0, 12)], True),
        ([statement("", "a", 20, 20), statement("a", "b", 20, 20)], True),
        ([statement("b", "a", 12, 20), statement("b", "a", 0, 11)], True),
        ([*pairs, statement("", "abc", 0, 2)], True),
        ([*pairs, statement("", "abc", 0, 1)], False),
        ([*apart, *pairs, statement("", "abc", 0, 1)], False),
        ([statement("", "x", 1, 20), *pairs, statement("", "abc", 0, 1)], False),
        (links, True),
        ([*links, statement("", "a", 12, 20), statement("a", "b", 20, 20)], True),
        ([*links, statement("", "a", 12, 20), statement("a", "b", 20, 20)]
         + [statement("", "b", 0, 11)], False),
    ):  # fmt: skip
        if module.consistent(statements) != sound:
            yield f"{statements} are said to be {'in' if sound else ''}consistent"
        if not sound:
            for names in ("", "a", "q"):
                low = module.lower_probability(event(names), statements)
                high = module.upper_probability(event(names), statements)
                if (low, high) != (0, 1):
                    yield f"contradictory {statements} give P({names}) within {low}, {high}"
    for wrong in (
        refuses(kernel, lambda: module.consistent([statement("a", "a", 1, 2)]), "['a']"),
        refuses(kernel, lambda: module.consistent([statement("a", "", 1, 2)]), "[]"),
        refuses(kernel, lambda: module.consistent([statement("", "a", -1, 2)]), "low="),
        refuses(kernel, lambda: module.consistent([statement("", "a", 1, 21)]), "high="),
        refuses(
            kernel,
            lambda: module.consistent([module.Statement(event(""), event("a"), 0.5, Fraction(1))]),
            "low=0.5",
        ),
    ):
        if wrong:
            yield wrong


def monotony(kernel: ModuleType, trials: int = 100) -> Iterator[str]:
    """Narrower intervals and more statements never lower a lower probability (G1)."""
    module = gate_module(kernel, "_credal")
    rng = np.random.default_rng(62)
    rose = 0
    for _ in range(trials):
        count = int(rng.integers(2, 5))
        statements, truths = true_statements(kernel, rng, count, int(rng.integers(2, 8)))
        kept = [s for s in statements if rng.random() < 0.7]
        narrowed = []
        for s, truth in zip(statements, truths, strict=True):
            share = Fraction(int(rng.integers(0, 3)), 2)
            low, high = s.low + share * (truth - s.low), s.high + share * (truth - s.high)
            narrowed.append(s._replace(low=low, high=high))
        order = [int(i) for i in rng.permutation(len(narrowed))]
        steps = [kept, statements, [narrowed[i] for i in order]]
        for names in [drawn_conjunction(rng, "abcd"[:count], 0.6) for _ in range(4)]:
            lows = [module.lower_probability(names, step) for step in steps]
            highs = [module.upper_probability(names, step) for step in steps]
            if lows != sorted(lows) or highs != sorted(highs, reverse=True):
                yield f"P({set(names)}) within {lows}, {highs} as {steps} say more"
            rose += lows[0] < lows[2]
    if rose < trials // 4:
        yield f"only {rose} lower probabilities of {4 * trials} rose"


def hidden_contradictions(kernel: ModuleType) -> Iterator[str]:
    """Three events of 2/5 that exclude each other, among more events than are decided at once."""
    credal = gate_module(kernel, "_credal")
    none, likely, half = Fraction(0), Fraction(2, 5), Fraction(1, 2)
    cells = [f"cell{i}" for i in range(credal.EXACT_EVENTS)]
    risks = [credal.Statement(event([c]), event(["bad"]), none, half) for c in [*cells, "a"]]
    alone = [credal.Statement(event(""), event(c), likely, half) for c in "abc"]
    pairs = [credal.Statement(event(""), event(c), none, none) for c in ("ab", "bc", "ac")]
    if not credal.consistent(risks + alone):
        yield "risks and masses are said to contradict each other"
    if credal.consistent(risks + alone + pairs):
        yield "a contradiction is not found because all cells may be bad"


LAWS = (closed_forms, contradictions, hidden_contradictions, within_the_oracle, monotony)


def of_credal(kernel: ModuleType) -> Iterator[str]:
    """The laws of credal sets."""
    for law in LAWS:
        yield from law(kernel)


WEAK_SPOTS = {f"gate/{name}.py": of_credal for name in ("_credal", "_conjunctions", "_feasibility")}
"""Where a defect of a file shows soonest."""
