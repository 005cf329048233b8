"""A checker with one small defect is found out by the corpus: so the corpus can see defects.

Left out, because sound, and counting the same or nearly so: ``q == m`` of cubic without its own
case, ``mu`` rounded up, an enumeration that does not stop before it begins.
"""
# ruff: noqa: E501  (a mutant a line)

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from flint import arb

import compactproofs_check as checker
from compactproofs.kernel._tables_arb import arb_precision

from .corpus import Case, counted, for_checker, tables

SOURCE = Path(checker.__file__).read_text()

OF_TABLES = [
    # exact arithmetic
    ("over = root if root * root * below == above else root + 1", "over = root"),
    ("return (root, over) if n >= 0 else (-over, -root)", "return (root, over)"),
    ("rest = x - (min if up else max)(n * low, n * high)", "rest = x - (max if up else min)(n * low, n * high)"),
    ("LN2[p] = low, low + p + 1", "LN2[p] = low, low"),
    ("for j in range(1, p + 1)", "for j in range(1, 9)"),
    ("        j += 1\n    return total", "        j += 2\n    return total"),
    ("return total + (term if up else 0), n - p", "return total - (term << 80 if up else 0), n - p"),
    # tables
    ("own, v = W[\"W_E\"] + Exact(W[\"W_pos\"].rows[-1:]", "own, v = W[\"W_E\"] + Exact(W[\"W_pos\"].rows[:1]"),
    ("query = own @ W[\"W_Q\"] + W[\"b_Q\"]\n    by_token", "query = own @ W[\"W_Q\"]\n    by_token"),
    ("F = (W[\"W_E\"] @ W[\"W_V\"] + W[\"b_V\"]) @ unembed", "F = W[\"W_E\"] @ W[\"W_V\"] @ unembed"),
    ("H = (own + W[\"b_O\"]) @ W[\"W_U\"] + W[\"b_U\"]", "H = own @ W[\"W_U\"] + W[\"b_U\"]"),
    ("a <= n >> (e - grid) for a, n in", "a <= -(-n >> (e - grid)) for a, n in"),
    ("-(-n >> (e - grid)) <= a for a, n in", "n >> (e - grid) <= a for a, n in"),
    ("return low <= a >> max(0, exponent - r)", "return low <= -(-a >> max(0, exponent - r))"),
    ("-(-b >> (exponent - s)) <= high", "b >> (exponent - s) <= high"),
    ("least, most = least + (-above << p) // below", "least, most = least"),
    # float32
    ("1025 * n, 34)", "1023 * n, 34)"),
    ("Exact([[1] * len(a.rows[0])], 50)", "Exact([[1] * len(a.rows[0])], 70)"),
    ("sized(y) + g(sums, d + 2)", "sized(y)"),
    ("key_size.transposed(), h + 4, 1)", "key_size.transposed(), h + 3, 1)"),
    ("max(row[t::v])", "min(row[t::v])"),
    ("(1 << (p - 15))", "(1 << (p - 16))"),
    ("2 * k + h + 6, 1)", "2 * k + h + 5, 1)"),
    ("most = in_range(g(head_size @ sized(W[\"W_U\"]), d + 1, 1))", "most = in_range(g(head_size @ sized(W[\"W_U\"]), d, 1))"),
    ("sized(W[\"b_O\"])), h + 3)", "sized(W[\"b_O\"])), h + 2)"),
    ("+ g(bias, d + 1) + underflow", "+ g(bias, d + 1)"),
    ("+ g(bias, d + 1) + underflow", "+ underflow"),
]  # fmt: skip
OF_COUNTS = [
    # counting
    ("return [-((high if b >= 0 else low) * b >> by) for b in brackets]", "return [(high if b >= 0 else low) * -b >> by for b in brackets]"),
    ("return [-((high if b >= 0 else low) * b >> by) for b in brackets]", "return [-((low if b >= 0 else high) * b >> by) for b in brackets]"),
    ("return len(T.weight_low).bit_length() + 2", "return len(T.weight_low).bit_length() + 3"),
    ("worst = [total - min(loss) for", "worst = [total - max(loss) for"),
    ("for x, w in enumerate(worst) if w >= 0)", "for x, w in enumerate(worst) if w > 0)"),
    ("width = max(1, -(-budget // bins))", "width = max(1, budget // bins)"),
    ("limit = (budget + sum(offsets)) // width", "limit = budget // width"),
    ("if b <= limit])", "if b < limit])"),
    ("    return -ascending[losses.index(min(losses))][0] % width", "    return -ascending[0][0] % width"),
    ("counted = [n if s <= budget else 0 for", "counted = [n for"),
    ("return words % ones - unmarked % ones", "return words % ones"),
    ("if one_by_one >= jointly:\n            return jointly", "if one_by_one >= jointly:\n            return one_by_one"),
    ("wrong = min(size, by_first_rival(", "wrong = min(size, 1 + by_first_rival("),
    ("[max(8 * y[x] - e * y[p] for x, p, e in some)]", "[max(8 * y[x] - e * y[x] for x, p, e in some)]"),
    ("wrong = count(lambda y: [y[x] for x in rest]) if rest else 0", "wrong = 0"),
    ("must.append(list(map(max, last, most)))", "must.append(last)"),
    ("((range(last), needs), (range(last, last + 1), False))", "((range(last), needs), (range(last, last + 1), needs))"),
    ("if all(y < 0 for y in above):", "if all(y <= 0 for y in above):"),
    ("return 1 if any(y <= 0 for y in below) else 0", "return 1 if any(y < 0 for y in below) else 0"),
    ("without([known - b for b in least], m)", "without([b - known for b in least], m)"),
    # windowed, collapsed, cubic
    ("above = math.nextafter(float(product), math.inf)", "above = float(product)"),
    ("far, unit = m - window[q][m], unit_of(T, q, m) - top", "far, unit = m - window[q][m] - 1, unit_of(T, q, m) - top"),
    ("return [list(map(max, *rows)) for rows in zip(a, b)]", "return b"),
    ("G_low, G_high = hull(min, low, high[0])", "G_low, G_high = hull(max, low, high[0])"),
    ("c[m] = others(split.brackets(m, m, q), m)", "pass"),
    ("weight = largest[far] if r0[m] > 0 else -smallest[far]", "weight = largest[far]"),
    ("if q == m or n < last else 0", "if n < last else 0"),
    ("counts[n] += worst < 0", "counts[n] += worst <= 0"),
    ("sorted(more, reverse=True)", "sorted(more)"),
    # the claim
    ("for name, value in (numbers | texts", "for name, value in (texts"),
    ("need(digest.hexdigest() == claim[\"digest\"]", "need(True"),
    ("tiles = (also.k, also.v, also.low) == (task.k, task.v, following) and not also.whole", "tiles = True"),
    ("result.update(f\"\\n{KEYS[name][0]} {shape}\\n\".encode())", "pass"),
]  # fmt: skip


def broken_law(module: ModuleType) -> str | None:
    """The first bound that is on the wrong side, at a precision at which that shows."""
    rng = np.random.default_rng(2)
    for p in (8, 12, 20):
        low, high = module.ln2(p)
        for _ in range(30):
            x, square = (
                int(rng.integers(-(1 << p + 9), 1 << p + 9)),
                Fraction(int(rng.integers(1, 50)), 7),
            )
            n, e = int(rng.integers(-(10**6), 10**6)), int(rng.integers(0, 30))
            under, over = module.quotient(n, e, square, p)
            exact = Fraction(n, 1 << e) * (1 << p)
            with arb_precision(200):
                number = (arb(x) / (1 << p)).exp()
                (a, r), (b, s) = module.exp(x, p, up=False), module.exp(x, p, up=True)
                if not (
                    arb((a, r)) <= number <= arb((b, s)) and low <= arb.const_log2() * 2**p <= high
                ):
                    return f"exp({x} 2^-{p})"
            for end, sign in ((under, 1), (over, -1)):  # end <= exact / root(square), or >=
                if sign * end * abs(end) * square > sign * exact * abs(exact):
                    return f"quotient{(n, e, square, p)}"
    for _ in range(50):  # the terms of T4, in the unit of a class
        weights = sorted(rng.integers(0, 1 << 8, 2).tolist())
        exponents, bracket = rng.integers(-9, 9, (2, 1, 1)).tolist(), int(rng.integers(-300, 300))
        low, high = ([[[end]]] * 2 for end in weights)
        T = SimpleNamespace(weight_low=low, weight_high=high, weight_exponent=exponents)
        unit = module.unit_of(T, 0, 0)
        if unit != max(exponents)[0][0] + 4:
            return f"the unit {unit}"
        largest = max(w * bracket for w in weights) * Fraction(2) ** (exponents[0][0][0] - unit)
        if module.term(T, 0, 0, 0, [bracket], unit) != [math.ceil(largest)]:
            return f"the term of {weights}, {bracket}"
    for _ in range(100):
        product, by = int(rng.integers(-(1 << 62), 1 << 62)), -int(rng.integers(0, 950))
        if Fraction(module.scaled_up(product, by)) < Fraction(product, 1 << -by):
            return f"scaled_up({product}, {by})"
    return None


def first_error(module: ModuleType, *parts: Callable[[], tuple[Case, ...]]) -> str | None:
    """The first law broken, or certificate that a checker judges otherwise than it should."""
    if (law := broken_law(module)) is not None:
        return law
    for case in (case for part in parts for case in part()):
        try:
            outcome = module.decide(case.data, for_checker(case.model, module)).outcome
        except (ArithmeticError, ValueError, IndexError, TypeError, StopIteration) as error:
            outcome = repr(error)
        if outcome != case.outcome:
            return f"{case.name}: {outcome}, not {case.outcome}"
    return None


def test_the_checker_itself_judges_the_corpus_rightly() -> None:
    assert first_error(checker, counted, tables) is None


ALL = [(*row, tables) for row in OF_TABLES] + [(*row, counted) for row in OF_COUNTS]


@pytest.mark.parametrize(("old", "new", "part"), ALL, ids=[row[1].strip()[:60] for row in ALL])
def test_every_mutant_is_found_out(
    old: str, new: str, part: Callable[[], tuple[Case, ...]]
) -> None:
    assert SOURCE.count(old) == 1, "the snippet is not in the checker's source once"
    mutant = ModuleType("mutant")
    exec(compile(SOURCE.replace(old, new), "mutant", "exec"), mutant.__dict__)
    assert first_error(mutant, part) is not None
