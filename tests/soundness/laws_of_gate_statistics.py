"""The laws of proportions, confidence sequences and the account of errors, in exact arithmetic.

Binomial tails and likelihood ratios are written here a second time, as sums and products of
fractions; large counts are compared with Arb's incomplete beta function.
"""

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from importlib import import_module
from itertools import pairwise
from math import comb, factorial
from types import ModuleType
from typing import Any

from flint import arb, fmpq

from compactproofs.kernel._tables_arb import arb_precision

ALPHAS = [Fraction(1, d) for d in (3, 20, 1000, 10**12)]
TIGHT = Fraction(1, 10**9)
"""How far an end may be from the best one, as a share of it."""


def gate_module(kernel: ModuleType, name: str) -> Any:
    return import_module(f"{kernel.__name__}.gate.{name}")


def refuses(kernel: ModuleType, call: Any, *names: str) -> str | None:
    """What is wrong unless ``call`` is refused in a line that holds ``names``."""
    try:
        call()
    except kernel.UserError as error:
        missing = [name for name in names if name not in str(error)]
        return f"{error} does not name {missing}" if missing else None
    return f"not refused: {names}"


@cache
def binomial(k: int, n: int, p: Fraction) -> Fraction:
    return comb(n, k) * p**k * (1 - p) ** (n - k)


def at_least(k: int, n: int, p: Fraction) -> Fraction:
    return sum((binomial(j, n, p) for j in range(k, n + 1)), Fraction(0))


def at_most(k: int, n: int, p: Fraction) -> Fraction:
    return 1 - at_least(k + 1, n, p)


def ends_of_proportions(kernel: ModuleType) -> Iterator[str]:
    """Each end of one side has its tail at the level, just; those of an interval at half."""
    module = gate_module(kernel, "_proportions")
    for n in (0, 1, 2, 3, 7, 20):
        for k in range(n + 1):
            for alpha in ALPHAS:
                interval = module.clopper_pearson(k, n, alpha)
                if interval[2:] != (alpha, k, n, "CP"):
                    yield f"the interval of {k} of {n} says {interval[2:]}"
                for low, high, level in (
                    (module.lower_mass(k, n, alpha), module.upper_risk(k, n, alpha), alpha),
                    (interval.low, interval.high, alpha / 2),
                ):
                    yield from _wrong_ends(k, n, low, high, level)


def _wrong_ends(k: int, n: int, low: Fraction, high: Fraction, level: Fraction) -> Iterator[str]:
    name = f"{k} of {n} at {float(level):.3g}"
    if (k == 0 and low != 0) or (k == n and high != 1) or not 0 <= low <= high <= 1:
        yield f"{name}: the ends are {float(low)}, {float(high)}"
    if k > 0 and not at_least(k, n, low) <= level < at_least(k, n, low * (1 + TIGHT)):
        yield f"{name}: the low end {float(low)} has tail {float(at_least(k, n, low))}"
    nearer = high * (1 - TIGHT)
    if k < n and not at_most(k, n, high) <= level < at_most(k, n, nearer):
        yield f"{name}: the high end {float(high)} has tail {float(at_most(k, n, high))}"


def errors_of_proportions(kernel: ModuleType) -> Iterator[str]:
    """Whatever the truth, all that errs is at most alpha."""
    module = gate_module(kernel, "_proportions")
    for n in (1, 5, 12):
        for alpha in (Fraction(1, 2), Fraction(1, 10), Fraction(1, 100)):
            intervals = [module.clopper_pearson(k, n, alpha) for k in range(n + 1)]
            lows = [module.lower_mass(k, n, alpha) for k in range(n + 1)]
            highs = [module.upper_risk(k, n, alpha) for k in range(n + 1)]
            # just beyond an end is where most errs
            truths = {end for i in intervals for end in (i.low * (1 - TIGHT), i.high * (1 + TIGHT))}
            truths |= {low * (1 - TIGHT) for low in lows} | {high * (1 + TIGHT) for high in highs}
            for p in {Fraction(round(t * 10**11), 10**11) for t in truths if 0 < t < 1}:
                wrong = [Fraction(0)] * 3
                for k in range(n + 1):
                    mass = binomial(k, n, p)
                    outside = not intervals[k].low <= p <= intervals[k].high
                    for i, errs in enumerate((outside, lows[k] > p, highs[k] < p)):
                        wrong[i] += mass * errs
                if max(wrong) > alpha:
                    yield f"n={n}, p={float(p)}: {list(map(float, wrong))} errs, not {float(alpha)}"


def large_counts(kernel: ModuleType) -> Iterator[str]:
    """The same for thousands to millions, where the tail is Arb's incomplete beta function."""
    module = gate_module(kernel, "_proportions")
    cases = [(1, 10**4), (70, 10**4), (5000, 10**4), (9999, 10**4), (3, 10**7), (999_000, 10**6)]
    for k, n in cases:
        for alpha in (Fraction(1, 20), Fraction(1, 10**12)):
            low, high = module.lower_mass(k, n, alpha), module.upper_risk(k, n, alpha)
            for name, inside, outside, tail in (
                ("low", low * (1 + TIGHT), low, lambda p, k=k, n=n: _beta(k, n - k + 1, p)),
                ("high", high * (1 - TIGHT), high, lambda p, k=k, n=n: _beta(n - k, k + 1, 1 - p)),
            ):
                with arb_precision(300):
                    level = arb(fmpq(alpha.numerator, alpha.denominator))
                    if not tail(outside) <= level:
                        yield f"{k} of {n}: the {name} end {float(outside)} is not outside"
                    if not tail(inside) > level:
                        yield f"{k} of {n}: the {name} end {float(outside)} is not tight"


def _beta(a: int, b: int, p: Fraction) -> arb:
    """P(X >= a) for X binomial(a + b - 1, p)."""
    return arb(fmpq(p.numerator, p.denominator)).beta_lower(a, b, regularized=True)


def order_of_proportions(kernel: ModuleType) -> Iterator[str]:
    """A smaller alpha never narrows an interval, and more hits never lower it."""
    module = gate_module(kernel, "_proportions")
    alphas = [Fraction(1, d) for d in (3, 10, 11, 10**3, 10**12, 10**40)]
    alphas += [a * (1 - Fraction(1, 10**s)) for a in alphas for s in (8, 12, 30)]
    alphas.sort(reverse=True)
    for k, n in [(0, 9), (4, 9), (9, 9), (70, 900), (899, 900)]:
        for interval in (
            lambda a, k=k, n=n: module.clopper_pearson(k, n, a)[:2],
            lambda a, k=k, n=n: (module.lower_mass(k, n, a), module.upper_risk(k, n, a)),
        ):
            for wide, narrow in pairwise([interval(a) for a in reversed(alphas)]):
                if not (wide[0] <= narrow[0] and narrow[1] <= wide[1]):
                    yield f"{k} of {n}: a smaller alpha gives {wide}, not around {narrow}"
    ends = [module.clopper_pearson(k, 50, Fraction(1, 100)) for k in range(51)]
    for less, more in pairwise(ends):
        if not (less.low <= more.low and less.high <= more.high):
            yield f"{more.k} hits give a lower interval than {less.k}"
    for k, n in ((0, 3), (2, 3), (5, 5)):
        p = Fraction(k, n)
        if tuple(module.exact_proportion(k, n)) != (p, p, 0, k, n, "exact"):
            yield f"the exact proportion of {k} of {n} is {module.exact_proportion(k, n)}"


def refusals_of_proportions(kernel: ModuleType) -> Iterator[str]:
    """What is no count and no alpha is refused by name."""
    module = gate_module(kernel, "_proportions")
    sequences = gate_module(kernel, "_confidence_sequences")
    fine = Fraction(1, 20)
    for call in (
        module.clopper_pearson,
        module.lower_mass,
        module.upper_risk,
        lambda k, n, alpha: sequences.confidence_sequence(k, n, alpha, None),
    ):
        for k, n, alpha, name in (
            (4, 3, fine, "k=4"),
            (-1, 3, fine, "k=-1"),
            (True, 3, fine, "k=True"),
            (1.0, 3, fine, "k=1.0"),
            (1, -3, fine, "n=-3"),
            (0, False, fine, "n=False"),
            (1, 10**10, fine, "n=10000000000"),
            (1, 3, Fraction(0), "alpha=0"),
            (1, 3, Fraction(1), "alpha=1"),
            (1, 3, Fraction(-1, 2), "alpha=-1/2"),
            (1, 3, Fraction(3, 2), "alpha=3/2"),
            (1, 3, Fraction(1, 10**70), "alpha=1e-70"),
            (1, 3, 0.05, "alpha=0.05"),
        ):
            wrong = refuses(kernel, lambda c=call, a=(k, n, alpha): c(*a), name)
            if wrong:
                yield wrong
    wrong = refuses(kernel, lambda: module.exact_proportion(0, 0), "n=0")
    if wrong:
        yield wrong


@cache
def evidence(k: int, n: int, p: Fraction) -> Fraction:
    """``E_n(p)``: B(k + 1/2, m + 1/2) / pi is a product of odd factorials over (k + m)!."""
    m = n - k
    halves = Fraction(factorial(2 * k) * factorial(2 * m), 4**n * factorial(k) * factorial(m))
    likelihood = p**k * (1 - p) ** m
    return halves / factorial(n) / likelihood if likelihood else Fraction(10**20)


def ends_of_sequences(kernel: ModuleType) -> Iterator[str]:
    """At each end the evidence reaches 1/alpha, just."""
    module = gate_module(kernel, "_confidence_sequences")
    for n in (0, 1, 2, 7, 30):
        for k in range(n + 1):
            for alpha in ALPHAS:
                low, high = module.confidence_sequence(k, n, alpha, None)[:2]
                name = f"looks at {k} of {n}, alpha {float(alpha):.3g}"
                if (k == 0 and low != 0) or (k == n and high != 1):
                    yield f"{name}: the ends are {low}, {high}"
                inner = low * (1 + TIGHT), high * (1 - TIGHT)
                if k and not evidence(k, n, inner[0]) < 1 / alpha <= evidence(k, n, low):
                    yield f"{name}: the low end is {float(low)}"
                if k < n and not evidence(k, n, inner[1]) < 1 / alpha <= evidence(k, n, high):
                    yield f"{name}: the high end is {float(high)}"


def errors_of_sequences(kernel: ModuleType) -> Iterator[str]:
    """The truth ever leaves the running intersection with probability at most alpha."""
    module = gate_module(kernel, "_confidence_sequences")
    for alpha in (Fraction(1, 2), Fraction(1, 5)):
        for p in (Fraction(1, 2), Fraction(1, 7), Fraction(19, 20)):
            alive, lost = {0: Fraction(1)}, Fraction(0)
            for n in range(1, 60):
                grown: dict[int, Fraction] = {}
                for k, mass in alive.items():
                    for hit, share in ((1, p), (0, 1 - p)):
                        grown[k + hit] = grown.get(k + hit, Fraction(0)) + mass * share
                alive = {}
                for k, mass in grown.items():
                    interval = module.confidence_sequence(k, n, alpha, None)
                    if interval.low <= p <= interval.high:
                        alive[k] = mass
                    else:
                        lost += mass
            if not 0 < lost <= alpha:
                yield f"p={p} leaves its sequence with probability {float(lost)}, not {alpha}"


def running_intersections(kernel: ModuleType) -> Iterator[str]:
    """Intervals are nested in time; contradicting looks leave an empty one; others are refused."""
    module = gate_module(kernel, "_confidence_sequences")
    alpha = Fraction(1, 20)
    looks = [(0, 0), (3, 10), (60, 100), (61, 110), (500, 1000), (9000, 10_000)]
    before = None
    for k, n in looks:
        now = module.confidence_sequence(k, n, alpha, before)
        fresh = module.confidence_sequence(k, n, alpha, None)
        old = before or fresh
        if (now.low, now.high) != (max(fresh.low, old.low), min(fresh.high, old.high)):
            yield f"{k} of {n} after {old} gives {now}"
        if now[2:] != (alpha, k, n, "CS"):
            yield f"the interval of {k} of {n} says {now[2:]}"
        before = now
    if before is None or not before.empty:
        yield f"looks that contradict each other leave {before}"
    if module.confidence_sequence_over(looks, alpha) != before:
        yield "the same looks at once give another interval"
    if module.confidence_sequence_over([], alpha)[:2] != (0, 1):
        yield "no look excludes something"
    first = module.confidence_sequence(3, 10, alpha, None)
    counted = gate_module(kernel, "_proportions").clopper_pearson(3, 10, alpha)
    for k, n, level, start, name in (
        (2, 20, alpha, first, "k=2"),
        (9, 12, alpha, first, "k=9"),
        (4, 20, alpha / 2, first, "alpha=1/20"),
        (4, 20, alpha, counted, "CP"),
    ):
        wrong = refuses(kernel, lambda a=(k, n, level, start): module.confidence_sequence(*a), name)
        if wrong:
            yield wrong


def accounts(kernel: ModuleType) -> Iterator[str]:
    """All shares of the schedule sum to at most the total; what is spent stays spent."""
    module = gate_module(kernel, "_alpha")
    total = Fraction(1, 100)
    account = module.AlphaAccount(total)
    pi_squared = arb.pi() ** 2
    share = account.amount(1) / total
    if not arb(fmpq(share.numerator, share.denominator)) * pi_squared <= 6 or share < 0.6079:
        yield f"the first share is {float(share)} of the total"
    if any(account.amount(j) * j * j != share * total for j in (1, 2, 3, 10, 10**6)):
        yield "the shares do not fall as 1 / j^2"
    spent = [account.spend(f"rule {j}") for j in range(1, 30)]
    if spent != [account.amount(j) for j in range(1, 30)] or account.spent != sum(spent):
        yield f"29 rules spent {account.spent}"
    if account.spent_on("rule 7") != account.amount(7) or account.overdrawn:
        yield "a stored share is not what was granted"
    account.store("the rest", total - account.spent)
    if account.overdrawn or account.spent != total:
        yield f"spending the total leaves {account.spent} of {total} spent"
    account.store("one more", Fraction(1, 10**9))
    if not account.overdrawn:
        yield "spending more than the total does not overdraw"
    for call, name in (
        (lambda: account.store("rule 7", total), "rule 7"),
        (lambda: account.spend("rule 7"), "rule 7"),
        (lambda: account.store("new", Fraction(1)), "alpha="),
        (lambda: account.store("new", Fraction(-1, 9)), "alpha="),
        (lambda: account.amount(0), "j=0"),
        (lambda: account.amount(True), "j=True"),
        (lambda: account.spent_on("nobody"), "nobody"),
        (lambda: module.AlphaAccount(Fraction(1)), "total=1"),
    ):
        wrong = refuses(kernel, call, name)
        if wrong:
            yield wrong


OF_PROPORTIONS = (
    ends_of_proportions,
    errors_of_proportions,
    order_of_proportions,
    refusals_of_proportions,
    large_counts,
)
OF_SEQUENCES = (ends_of_sequences, errors_of_sequences, running_intersections)
LAWS = (*OF_PROPORTIONS, *OF_SEQUENCES, accounts)


def of_proportions(kernel: ModuleType) -> Iterator[str]:
    """The laws of proportions."""
    for law in OF_PROPORTIONS:
        yield from law(kernel)


def of_tails(kernel: ModuleType) -> Iterator[str]:
    """The laws of both kinds of intervals."""
    for law in (*OF_PROPORTIONS, *OF_SEQUENCES):
        yield from law(kernel)


def of_sequences(kernel: ModuleType) -> Iterator[str]:
    """The laws of confidence sequences."""
    for law in (*OF_SEQUENCES, refusals_of_proportions):
        yield from law(kernel)


WEAK_SPOTS = {
    "gate/_tails.py": of_tails,
    "gate/_proportions.py": of_proportions,
    "gate/_confidence_sequences.py": of_sequences,
    "gate/_alpha.py": accounts,
}
"""Where a defect of a file shows soonest."""
