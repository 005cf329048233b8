"""The laws of calibration, of shift, and of the exchangeability test, by exact enumeration."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import permutations
from math import comb
from types import ModuleType

import numpy as np

from .laws_of_gate_statistics import gate_module, refuses


def violations_of_calibration(kernel: ModuleType) -> Iterator[str]:
    """Over all samples, the chosen set's true risk exceeds delta with probability at most alpha."""
    module = gate_module(kernel, "_calibration")
    delta, alpha = Fraction(1, 5), Fraction(1, 10)
    just = delta + Fraction(1, 10**6)
    for n in (14, 25):
        # what is bad and admitted by A_0, by A_1 but not A_0, by A_2 alone
        for risks in ((just, 0, 0), (Fraction(1, 50), just - Fraction(1, 50), Fraction(1, 10))):
            shares = [Fraction(risk) for risk in risks]
            true = [sum(shares[: i + 1], Fraction(0)) for i in range(3)]
            failed = Fraction(0)
            for bad in _counts(n, 3):
                chosen = module.fixed_sequence(bad, n, delta, alpha)
                if chosen >= 0 and true[chosen] > delta:
                    failed += _probability(n, bad, shares)
            if not failed <= alpha or failed < alpha / 5:
                yield f"n={n}, risks {true}: the risk exceeds {delta} in {float(failed)} of samples"


def violations_given_admission(kernel: ModuleType) -> Iterator[str]:
    """The same for the risk given admission: one set that admits half, of risk above delta."""
    module = gate_module(kernel, "_calibration")
    delta, alpha = Fraction(1, 4), Fraction(1, 10)
    n, rate = 30, delta + Fraction(1, 10**6)
    failed = Fraction(0)
    for admitted in range(n + 1):
        for bad in range(admitted + 1):
            if module.fixed_sequence_given([bad], [admitted], delta, alpha) == 0:
                failed += (
                    comb(n, admitted)
                    * Fraction(1, 2**n)
                    * comb(admitted, bad)
                    * rate**bad
                    * (1 - rate) ** (admitted - bad)
                )
    if not failed <= alpha or failed < alpha / 5:
        yield f"the risk given admission exceeds {delta} in {float(failed)} of samples"


def _counts(n: int, sets: int) -> Iterator[list[int]]:
    """Nested counts of what is bad: at most n, not falling."""
    if sets == 0:
        yield []
        return
    for most in range(n + 1):
        for rest in _counts(most, sets - 1):
            yield [*rest, most]


def _probability(n: int, bad: list[int], shares: list[Fraction]) -> Fraction:
    found, left, rest = Fraction(1), n, Fraction(1)
    for count, share in zip(np.diff([0, *bad]).tolist(), shares, strict=True):
        found *= comb(left, count) * share**count
        left, rest = left - count, rest - share
    return found * rest**left


def chosen_sets(kernel: ModuleType) -> Iterator[str]:
    """The last set before the first failure, not the last that passes; misuse is refused."""
    module = gate_module(kernel, "_calibration")
    delta, alpha = Fraction(1, 50), Fraction(1, 20)
    last = next(k for k in range(400) if module.upper_risk(k, 400, alpha) > delta) - 1
    for found, expected in (
        (module.fixed_sequence([], 400, delta, alpha), -1),
        (module.fixed_sequence([0, last, last, last + 1, 90], 400, delta, alpha), 2),
        (module.fixed_sequence([0, last], 400, delta, alpha), 1),
        (module.fixed_sequence([last + 1], 400, delta, alpha), -1),
        (module.fixed_sequence([0], 0, delta, alpha), -1),
        (module.fixed_sequence_given([0, 0, 0], [200, 300, 400], delta, alpha), 2),
        (module.fixed_sequence_given([1, 1, 1], [20, 3000, 4000], delta, alpha), -1),
        (module.fixed_sequence_given([0, 5, 5], [200, 210, 4000], delta, alpha), 0),
    ):
        if found != expected:
            yield f"set {found} is chosen, not {expected}"
    for call, name in (
        (lambda: module.fixed_sequence([3, 2], 9, delta, alpha), "bad[1]=2"),
        (lambda: module.fixed_sequence([10], 9, delta, alpha), "k=10"),
        (lambda: module.fixed_sequence_given([1, 1], [9, 8], delta, alpha), "admitted[1]=8"),
        (lambda: module.fixed_sequence_given([1, 1], [9], delta, alpha), "2 counts"),
        (lambda: module.fixed_sequence([1], 9, Fraction(0), alpha), "delta="),
        (lambda: module.fixed_sequence([1], 9, 0.5, alpha), "delta=0.5"),
        (lambda: module.fixed_sequence([1], 9, delta, Fraction(1)), "alpha=1"),
        (lambda: module.shifted(delta), "exactly one"),
        (lambda: module.shifted(delta, ratio=alpha, tv=Fraction(0)), "['ratio', 'tv']"),
        (lambda: module.shifted(delta, ratio=-alpha), "ratio="),
        (lambda: module.shifted(delta, tv=Fraction(3, 2)), "tv="),
        (lambda: module.shifted(delta, mixture=(Fraction(2), alpha)), "weight="),
        (lambda: module.shifted(delta, mixture=(alpha, Fraction(2))), "risk="),
    ):
        wrong = refuses(kernel, call, name)
        if wrong:
            yield wrong


def shifts(kernel: ModuleType) -> Iterator[str]:
    """Risks under reweighted, distant and mixed distributions: never above, and attained."""
    module = gate_module(kernel, "_calibration")
    rng = np.random.default_rng(63)
    for _ in range(200):
        weights = [[Fraction(int(w)) for w in rng.integers(1, 30, 6)] for _ in range(2)]
        D, Q = ([w / sum(row) for w in row] for row in weights)
        admitted = [int(i) for i in np.flatnonzero(rng.random(6) < 0.7)]
        bad = admitted[: int(rng.integers(1, 3))]
        under = {id(P): sum((P[i] for i in bad), Fraction(0)) for P in (D, Q)}
        delta, risk = under[id(D)], under[id(Q)]
        if not 0 < delta < 1:
            continue
        share = Fraction(int(rng.integers(0, 11)), 10)
        ratio = max(Q[i] / D[i] for i in admitted)
        distance = sum((max(q - d, Fraction(0)) for d, q in zip(D, Q, strict=True)), Fraction(0))
        among = sum((Q[i] for i in admitted), Fraction(0))
        mixed = (1 - share) * delta + share * risk
        for name, true, bound in (
            ("ratio", risk, module.shifted(delta, ratio=ratio)),
            ("tv", risk, module.shifted(delta, tv=distance)),
            ("mixture", mixed, module.shifted(delta, mixture=(share, risk))),
            ("mixture", mixed, module.shifted(delta, mixture=(share, among))),
        ):
            if not true <= bound <= 1:
                yield f"{name}: the risk {float(true)} exceeds {float(bound)}"
    low, half = Fraction(1, 100), Fraction(1, 2)
    for found, expected in (
        (module.shifted(low, ratio=Fraction(3)), 3 * low),
        (module.shifted(low, ratio=Fraction(300)), 1),
        (module.shifted(low, ratio=Fraction(0)), 0),
        (module.shifted(low, tv=half), low + half),
        (module.shifted(low, tv=Fraction(1)), 1),
        (module.shifted(low, tv=Fraction(0)), low),
        (module.shifted(low, mixture=(half, half)), low + Fraction(1, 4)),
        (module.shifted(low, mixture=(Fraction(1), Fraction(1))), 1),
        (module.shifted(low, mixture=(Fraction(0), half)), low),
    ):
        if found != expected:
            yield f"a shift bounds the risk by {found}, not {expected}"


def wealth_of_exchangeable_scores(kernel: ModuleType) -> Iterator[str]:
    """Over all orders of the same scores, the wealth is at most 1 in the mean at every moment."""
    module = gate_module(kernel, "_exchangeability")
    for scores, reference in (
        ((0.0, 1.0, 2.0, 3.0, 4.0, 5.0), 1),
        ((0.0, 1.0, 1.0, 2.0, 2.0, 2.0), 2),
        ((1.0, 1.0, -0.0, 0.0, 7.0, float("inf")), 0),
    ):
        orders = list(permutations(scores))
        wealth = [Fraction(0)] * len(scores)
        small = [[0] * (len(scores) + 1) for _ in scores]
        for order in orders:
            test = module.ConformalMartingale(Fraction(1, 50), order[:reference])
            for at, score in enumerate(order[reference:], reference):
                p = test.update(score)
                wealth[at] += test.wealth / len(orders)
                small[at][int(p * (at + 1))] += 1
        for at in range(reference, len(scores)):
            if not Fraction(1, 3) < wealth[at] <= 1:
                yield f"scores {scores}: the mean wealth is {float(wealth[at])} after {at + 1}"
            for rank in range(at + 2):
                share = Fraction(sum(small[at][: rank + 1]), len(orders))
                if share > Fraction(rank, at + 1):
                    yield f"scores {scores}: p <= {rank}/{at + 1} in {share} of all orders"


def wealth_by_formula(kernel: ModuleType) -> Iterator[str]:
    """The wealth is that of the strategy: stakes that leave 1 / (t + 1), each bet's product."""
    module = gate_module(kernel, "_exchangeability")
    rng = np.random.default_rng(65)
    test = module.ConformalMartingale(Fraction(1, 10**9), rng.normal(size=20).tolist())
    held = [0.0] * 7
    for t in range(1, 60):
        p = float(test.update(rng.normal() + 0.5))
        for i in range(7):
            rate = (i + 1) / 8
            held[i] = (held[i] + 1 / (7 * t * (t + 1))) * rate * p ** (rate - 1)
        wealth = sum(held) + 1 / (t + 1)
        if abs(float(test.wealth) / wealth - 1) > 1e-9 or test.seen != t:
            yield f"the wealth is {float(test.wealth)} after {t} scores, not {wealth}"


def bets(kernel: ModuleType) -> Iterator[str]:
    """Every bet falls in p, is at most fair on every number of ranks, and nearly its formula."""
    bet, bits = (getattr(gate_module(kernel, "_exchangeability"), n) for n in ("_bet", "_BITS"))
    for e in range(1, 8):
        for total in (1, 2, 3, 10, 100, 1000):
            step = max(total // 100, 1)
            paid = [bet(e, Fraction(rank, total)) for rank in range(1, total + 1)]
            if sum(paid) > total << bits or paid != sorted(paid, reverse=True):
                yield f"bet {e} on {total} ranks pays {sum(paid) / (total << bits)}"
            for rank in range(1, total + 1, step):
                # value^8 = (e/8)^8 p^(e - 8), exactly
                power = Fraction(e, 8) ** 8 * Fraction(total, rank) ** (8 - e)
                value = Fraction(paid[rank - 1], 1 << bits)
                if not value**8 <= power < (value * (1 + Fraction(1, 10**12))) ** 8:
                    yield f"bet {e} on p={rank}/{total} pays {float(value)}"


def alarms(kernel: ModuleType) -> Iterator[str]:
    """It fires on scores that grow, even after a long quiet; stays fired; may be stored."""
    module = gate_module(kernel, "_exchangeability")
    rng = np.random.default_rng(64)
    alpha = Fraction(1, 100)
    quiet = rng.normal(size=1500).tolist()
    for reference, before, most in ((200, 0, 25), (50, 1400, 60)):
        test = module.ConformalMartingale(alpha, quiet[:reference])
        for score in quiet[reference : reference + before]:
            test.update(score)
        if test.fired:
            yield "it fires on exchangeable scores"
        waited = 0
        while not test.fired and waited <= most:
            before_json = test.to_json()
            twin = module.ConformalMartingale.from_json(before_json)
            score = 3.0 + waited / 100
            test.update(score)
            twin.update(score)
            if twin.to_json() != test.to_json() or twin.seen != test.seen:
                yield "stored and read again, it goes on otherwise"
            if test.fired != (test.wealth >= 1 / alpha):
                yield f"fired is {test.fired} at a wealth of {float(test.wealth)}"
            waited += 1
        if not test.fired:
            yield f"it does not notice {waited} scores larger than all {reference + before} before"
        for score in [-9.0] * 300:
            test.update(score)
        again = module.ConformalMartingale.from_json(test.to_json())
        if not test.fired or not again.fired:
            yield "it forgets that it fired"
    same = module.ConformalMartingale(alpha, [1.0] * 5)
    if {same.update(1.0) for _ in range(300)} != {Fraction(1)} or same.fired:
        yield "ties do not count in full"
    yield from _refused_states(kernel)


def _refused_states(kernel: ModuleType) -> Iterator[str]:
    test = gate_module(kernel, "_exchangeability").ConformalMartingale
    text = test(Fraction(1, 100), [1.0, 2.0]).to_json()
    for old, new in (
        ("{", ""),
        ('"alpha": "1/100"', '"alpha": "2"'),
        ('"alpha": "1/100"', '"alpha": "1/0"'),
        ('"reference": 2', '"reference": 3'),
        ('"reference": 2', '"reference": true'),
        ('"fired": false', '"fired": 0'),
        ("[0, 0, 0, 0, 0, 0, 0]", "[0, 0, 0, 0, 0, 0, -1]"),
        ("[0, 0, 0, 0, 0, 0, 0]", "[0, 0, 0, 0, 0, 0]"),
        ("[0, 0, 0, 0, 0, 0, 0]", "[0, 0, 0, 0, 0, 0, 0.5]"),
        ('"0x1.0000000000000p+0"', '"nan"'),
        ('"0x1.0000000000000p+0"', "1.0"),
        ('"scores"', '"others"'),
    ):
        if old not in text:
            yield f"stale: no {old} in {text}"
        wrong = refuses(kernel, lambda a=old, b=new: test.from_json(text.replace(a, b)), "state")
        if wrong:
            yield f"{new} for {old}: {wrong}"
    for call in (
        lambda: test(Fraction(1, 100)).update(float("nan")),
        lambda: test(Fraction(1, 100), [float("nan")]),
    ):
        wrong = refuses(kernel, call, "score=nan")
        if wrong:
            yield wrong


OF_CALIBRATION = (chosen_sets, shifts, violations_given_admission, violations_of_calibration)
OF_EXCHANGEABILITY = (alarms, bets, wealth_by_formula, wealth_of_exchangeable_scores)
LAWS = (*OF_CALIBRATION, *OF_EXCHANGEABILITY)


def of_calibration(kernel: ModuleType) -> Iterator[str]:
    """The laws of calibration and shift."""
    for law in OF_CALIBRATION:
        yield from law(kernel)


def of_exchangeability(kernel: ModuleType) -> Iterator[str]:
    """The laws of the exchangeability test."""
    for law in OF_EXCHANGEABILITY:
        yield from law(kernel)


WEAK_SPOTS = {
    "gate/_calibration.py": of_calibration,
    "gate/_exchangeability.py": of_exchangeability,
}
"""Where a defect of a file shows soonest."""
