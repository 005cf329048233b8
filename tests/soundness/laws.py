"""The laws that the kernel's parts promise, checked exactly on any copy of the kernel.

Each function yields one line for each violation it finds; none at all on a sound kernel.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import ceil, floor
from types import ModuleType
from typing import Any

import numpy as np
from flint import arb, ctx

from .cases import imagined_cases, real_cases
from .tasks import automaton_task, make_task, task_names
from .truth import all_sequences, arb_streams
from .witnesses import exact_range, sealed

BITS = 62


def shifts(kernel: ModuleType) -> Iterator[str]:
    """``_shift_up`` is at least the quotient and within 1 of it; ``_shift_down`` at most."""
    rng = np.random.default_rng(1)
    size = (1 << rng.integers(0, BITS, 300)).astype(np.int64)
    product = np.concatenate(
        [rng.integers(-size, size + 1), [0, 1, -1, *[1 << 62, -(1 << 62)] * 9]]
    )
    by = rng.integers(0, 130, len(product))
    by[:2] = 0, 1 << 23
    up, down = kernel._margins._shift_up(product, by), kernel._margins._shift_down(product, by)
    for p, b, u, d in zip(*(a.tolist() for a in (product, by, up, down)), strict=True):
        exact = Fraction(p, 1 << min(b, 4000))
        if not exact <= u <= exact + 1:
            yield f"_shift_up({p}, {b}) = {u}"
        if not exact - 1 <= d <= exact:
            yield f"_shift_down({p}, {b}) = {d}"


def margin_bounds(kernel: ModuleType) -> Iterator[str]:
    """``Margins.upper`` bounds every ``f_i(t)``, ``of_sequences`` the sign of their sum."""
    rng = np.random.default_rng(2)
    for case in imagined_cases():
        tables, k, v = case.tables, case.k, case.v
        if int(np.abs(tables.weight_exponent).max()) > 1000:
            continue
        label = int(rng.integers(tables.direct_low.shape[1]))
        query = int(rng.integers(v))
        tokens = np.flatnonzero(rng.random(v) < 0.7)
        margins = kernel._margins.Margins(sealed(kernel, tables), label, kernel._ledger.Ledger())
        scale = margins.scale(query, tokens)
        last = margins.upper(query, slice(k - 1, k), np.array([query]), scale)
        before = margins.upper(query, slice(0, k - 1), tokens, scale)
        unit = int(tables.weight_exponent.min())
        slots = [(k - 1, query, last[0, 0])]
        slots += [(i, t, before[i, j]) for i in range(k - 1) for j, t in enumerate(tokens.tolist())]
        for i, t, found in slots:
            for x, y in zip(margins.outputs, found.tolist(), strict=True):
                high = exact_range(tables, query, label, x, i, t, unit)[1]
                if (y << (scale - unit)) < high:
                    yield f"upper of (q={query}, m={label}, x={x}, i={i}, t={t}) is below f"
                if k * abs(y) >= 1 << 61:
                    yield f"{k} terms of {y} may leave int64"
        yield from _signs(margins, tables, all_sequences(k, v), label)


def _signs(margins: Any, tables: Any, tokens: np.ndarray, label: int) -> Iterator[str]:
    lower, upper = margins.of_sequences(tokens)
    unit = int(tables.weight_exponent.min())
    for n, sequence in enumerate(tokens.tolist()):
        for column, x in enumerate(margins.outputs):
            terms = [
                exact_range(tables, sequence[-1], label, x, i, t, unit)
                for i, t in enumerate(sequence)
            ]
            if upper[n, column] < 0 <= sum(high for _, high in terms):
                yield f"of_sequences calls {sequence} right against {x}"
            if sum(low for low, _ in terms) < 0 <= lower[n, column]:
                yield f"of_sequences calls {sequence} wrong against {x}"


def counting(kernel: ModuleType) -> Iterator[str]:
    """Classes have their exact sizes; slack counts are never low, and exact at width 1."""
    rng = np.random.default_rng(3)
    ledger = kernel._ledger.Ledger()
    for k, v in ((1, 2), (1, 3), (2, 2), (3, 3), (4, 3), (3, 5), (5, 2)):
        tokens = all_sequences(k, v)
        for name in task_names(v):
            task, labels = make_task(kernel, name, k, v, seed=k + v)
            label = labels(tokens)
            seen = 0
            for query, m, words in task.classes():
                ours = tokens[(tokens[:, -1] == query) & (label == m)][:, :-1]
                seen += len(ours)
                if words.size != len(ours):
                    yield f"{task.name}: ({query}, {m}) has {len(ours)} words, not {words.size}"
                    continue
                yield from _slack_counts(kernel, rng, words, ours, v, ledger)
            if seen != len(tokens):
                yield f"{task.name}: the classes hold {seen} of {len(tokens)} sequences"


def packing(kernel: ModuleType) -> Iterator[str]:
    """Counts far beyond a machine word, and one that just fills its slot, are exact."""
    ledger = kernel._ledger.Ledger()

    def count(words: Any, slack: np.ndarray) -> int:
        counted = kernel._ledger.Counted.of(slack[None], ledger)
        order = np.array([t for letter in words.letters for t in letter])
        letter = np.array([a for a, ts in enumerate(words.letters) for _ in ts])
        within = kernel._counting.count_within_slack
        return next(within(words, counted[:, :, order], letter, [0], 1, ledger))

    words = kernel.MaxOfK(40, 8).class_automaton(3, 7)
    if count(words, np.zeros((39, 8), dtype=np.int64)) != 8**39 - 7**39:
        yield "the words of a class of max-of-40 are miscounted"
    # 2^48 - 1 words: each position lets its first so many tokens through.
    through = np.array([3, 3, 5, 7, 13, 17, 97, 241, 257, 673])
    constant = automaton_task(kernel, "constant", 11, 673, 0, lambda s, t: 0, lambda s: 0)
    slack = (np.arange(673)[None] >= through[:, None]).astype(np.int64)
    if (found := count(constant.class_automaton(0, 0), slack)) != 2**48 - 1:
        yield f"2^48 - 1 words are counted as {found}"


def _slack_counts(
    kernel: ModuleType, rng: np.random.Generator, words: Any, ours: np.ndarray, v: int, ledger: Any
) -> Iterator[str]:
    order = np.array([t for letter in words.letters for t in letter], dtype=np.int64)
    letter = np.array([a for a, ts in enumerate(words.letters) for _ in ts], dtype=np.int64)
    size = 1 << int(rng.choice([2, 5, 12, 50]))
    slack = rng.integers(0, size, (2, words.length, v))
    slack[rng.random(slack.shape) < 0.2] = 0
    budgets = [int(rng.integers(0, size * max(1, words.length))) for _ in range(2)]
    bins = int(rng.choice([1, 2, 7, 64]))
    counted = kernel._ledger.Counted.of(slack[:, :, order], ledger)
    within = kernel._counting.count_within_slack
    found = list(within(words, counted, letter, budgets, bins, ledger))
    for row, budget in enumerate(budgets):
        total = slack[row, np.arange(words.length), ours].sum(axis=1)
        exact = int((total <= budget).sum())
        if not exact <= found[row] <= len(ours) or (budget <= bins and found[row] != exact):
            yield f"{found[row]} words within {budget} in {bins} bins; exactly {exact}"


def enclosed_tables(kernel: ModuleType) -> Iterator[str]:
    """Tables that ``verify_tables`` accepts enclose the model's numbers; others are rejected."""
    rng = np.random.default_rng(4)
    for case in real_cases()[:6]:
        model = case.model_for(kernel)
        good = kernel.integer_tables(model)
        streams = arb_streams(model, 256)
        yield from _outside(kernel.verify_tables(model, good).claimed, streams, case.name)
        for name, low in good._asdict().items():
            if not name.endswith("_low"):
                continue
            other = name.replace("_low", "_high")
            at = tuple(int(rng.integers(size)) for size in low.shape)
            high = getattr(good, other)
            under, over = low.copy(), high.copy()
            under[at] = max(0, int(low[at]) - 50) if name == "weight_low" else low[at] - 50
            over[at] = low[at] - 1
            above, beyond = low.copy(), high.copy()
            above[at], beyond[at] = high[at] + 1, high[at] + 50
            for claimed in ({name: under, other: over}, {name: above, other: beyond}):
                if int(claimed[other][at]) > 1 << 30:
                    continue
                try:
                    kernel.verify_tables(model, good._replace(**claimed))
                except kernel.RejectedError:
                    continue
                yield f"{case.name}: {name} {at} may miss the model's number"


def arb_agrees(kernel: ModuleType) -> Iterator[str]:
    """The kernel's Arb tables and the ones written down here describe the same numbers."""
    for case in real_cases()[:6]:
        theirs = kernel._tables_arb.arb_tables(case.model_for(kernel), 200)
        ours = arb_streams(case.model, 200)
        for name, a, b in zip(theirs._fields, theirs, ours, strict=True):
            if any(not x.overlaps(y) for x, y in zip(_flat(a), _flat(b), strict=True)):
                yield f"{case.name}: {name} by Arb differ"


def _flat(nested: Any) -> list[arb]:
    return [x for part in nested for x in _flat(part)] if isinstance(nested, list) else [nested]


def _outside(claimed: Any, streams: Any, name: str) -> Iterator[str]:
    before, ctx.prec = ctx.prec, 256
    try:
        down = -int(claimed.grid[0])
        for at in np.ndindex(claimed.weight_low.shape):
            i, q, t = at
            number = (streams.scores[i][q][t] - arb(float(claimed.shift[q]))).exp()
            exponent = int(claimed.weight_exponent[at])
            if _misses(claimed.weight_low, claimed.weight_high, at, exponent, number):
                yield f"{name}: weight {at} is not enclosed"
        for at in np.ndindex(claimed.value_low.shape):
            i, t, x = at
            if _misses(claimed.value_low, claimed.value_high, at, down, streams.values[i][t][x]):
                yield f"{name}: value {at} is not enclosed"
        for at in np.ndindex(claimed.direct_low.shape):
            q, x = at
            if _misses(claimed.direct_low, claimed.direct_high, at, down, streams.rest[q][x]):
                yield f"{name}: direct {at} is not enclosed"
    finally:
        ctx.prec = before


def _misses(
    low: np.ndarray, high: np.ndarray, at: tuple[int, ...], exponent: int, number: arb
) -> bool:
    below, above = arb((int(low[at]), exponent)), arb((int(high[at]), exponent))
    return bool(number < below) or bool(number > above)


def exponentials(kernel: ModuleType) -> Iterator[str]:
    """``exp_bounds`` encloses exp; ``_exp_point`` errs by at most 2^-46; the root is enclosed."""
    rng = np.random.default_rng(5)
    x = np.concatenate(
        [
            rng.uniform(-1, 1, 150),
            rng.uniform(-1e6, 1e6, 150),
            rng.uniform(-800, 800, 100),
            [0.0, -1e6],
        ]
    )
    far = np.array([-1e6 - 1, -1.2e6, -3e6, -1e9])
    enclosure = kernel._enclosure
    p, n = enclosure._exp_point(x)
    both = np.concatenate([x, far])
    bounds = enclosure.exp_bounds(enclosure.Ball.exact(both, kernel._ledger.Ledger()))
    before, ctx.prec = ctx.prec, 200
    try:
        for j, value in enumerate(both.tolist()):
            exact = arb(value).exp()
            low, high = (
                arb(float(mantissa[j])) * arb((1, int(exponent[j])))
                for mantissa, exponent in (bounds[:2], bounds[2:])
            )
            if not (low <= exact <= high):
                yield f"exp({value}) is not enclosed"
            if j >= len(x):
                continue
            ratio = arb(float(p[j])) * arb((1, int(n[j]))) / exact
            if not abs(ratio - 1) <= arb((1, -46)):
                yield f"exp({value}) errs by more than it says"
    finally:
        ctx.prec = before
    for square in (Fraction(2), Fraction(3), Fraction(32), Fraction(1, 7), Fraction(10**12 + 1)):
        ball = enclosure.reciprocal_sqrt(square, kernel._ledger.Ledger())
        mid, rad = Fraction(float(ball.mid)), Fraction(float(ball.rad))
        if not (mid - rad) ** 2 * square <= 1 <= (mid + rad) ** 2 * square:
            yield f"1/sqrt({square}) is not enclosed"


def balls(kernel: ModuleType) -> Iterator[str]:
    """Every operation on balls encloses the exact result at any corner of its operands."""
    rng = np.random.default_rng(6)
    ball, ledger = kernel._enclosure.Ball, kernel._ledger.Ledger()
    lost = ball(np.array([5e-324]), np.array([1.0]), ledger)
    if Fraction(float(lost.mid[0])) + Fraction(float(lost.rad[0])) < 1 + Fraction(5e-324):
        yield "a subnormal midpoint is lost beside a large radius"
    for size in (1.0, 2.0**-600, 2.0**-530, 2.0**-1040, 2.0**300):
        for wide in (0.0, 2.0**-50, 0.5):
            a, b = (size * rng.normal(size=(6, 6)) for _ in range(2))
            ra, rb = (wide * size * rng.random((6, 6)) for _ in range(2))
            left, right = ball(a, ra, ledger), ball(b, rb, ledger)
            for corner in (1, -1):
                exact_a, exact_b = _corner(a, ra, corner), _corner(b, rb, corner)
                exact_b_flipped = _corner(b, rb, -corner)
                up_or_down = _corner(a, ra, corner, away=False)
                for name, found, exact in (
                    ("@", left @ right, exact_a @ exact_b),
                    ("*", left * right, exact_a * exact_b),
                    ("+", left + right, exact_a + exact_b),
                    ("-", left - right, exact_a - exact_b_flipped),
                    ("absolute", left.absolute(), np.abs(exact_a)),
                    ("widened", left.widened(rb), up_or_down + corner * _corner(rb, 0 * rb, 1)),
                ):
                    low = _corner(found.mid, found.rad, -1, away=False).ravel()
                    high = _corner(found.mid, found.rad, 1, away=False).ravel()
                    if not ((low <= exact.ravel()) & (exact.ravel() <= high)).all():
                        yield f"{name} at size {size}, radius {wide} is not enclosed"
            ends = zip(
                left.lower().ravel().tolist(),
                left.upper().ravel().tolist(),
                _corner(a, ra, -1, away=False).ravel().tolist(),
                _corner(a, ra, 1, away=False).ravel().tolist(),
                strict=True,
            )
            if any(Fraction(f) > low or Fraction(c) < high for f, c, low, high in ends):
                yield f"ends at size {size}, radius {wide} are not outward"


def _corner(mid: np.ndarray, rad: np.ndarray, sign: int, away: bool = True) -> np.ndarray:
    """Exact corners as Fractions: all entries moved away from 0 (or up), or all towards (down)."""
    exact = np.empty(mid.shape, dtype=object)
    for at in np.ndindex(mid.shape):
        direction = (1 if mid[at] >= 0 else -1) if away else 1
        exact[at] = Fraction(float(mid[at])) + sign * direction * Fraction(float(rad[at]))
    return exact


def rounding_of_integers(kernel: ModuleType) -> Iterator[str]:
    """The prover's own rounding is outward."""
    x = np.random.default_rng(7).uniform(-(2.0**20), 2.0**20, 50)
    low, high = kernel._integers._floor(x).tolist(), kernel._integers._ceil(x).tolist()
    if any(f > floor(y) or c < ceil(y) for f, c, y in zip(low, high, x.tolist(), strict=True)):
        yield "integer tables are rounded inward"
