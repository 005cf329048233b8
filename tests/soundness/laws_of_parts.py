"""Laws of the parts that the windowed, collapsed, cubic and sub-cubic theorems are made of."""

import sys
from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np

from compactproofs import kernel as our_kernel
from compactproofs.explain.circuits import circuits
from compactproofs.explain.subcubic import find_directions
from random_models import random_model
from subcubic_witnesses import random_subcubic_witness

from .truth import all_sequences
from .witnesses import decided_counts, drawn_order, extreme_tables, sealed, widened


def _module(kernel: ModuleType, name: str) -> Any:
    return sys.modules[f"{kernel.__name__}.{name}"]


def _ledger(kernel: ModuleType) -> Any:
    return kernel._ledger.Ledger()


def scaled_numbers(kernel: ModuleType) -> Iterator[str]:
    """``scaled_up`` is above and ``scaled_down`` below the exact product, however deep."""
    scaled = _module(kernel, "_scaled")
    rng = np.random.default_rng(1)
    products = rng.integers(-(1 << 62), 1 << 62, 300) >> rng.integers(0, 62, 300)
    depths = rng.choice([0, 1, 60, 899, 900, 901, 2000, 1 << 22], 300)
    up = scaled.scaled_up(products, -depths)
    down = scaled.scaled_down(products, -depths)
    for p, depth, high, low in zip(products, depths, up, down, strict=True):
        exact = Fraction(int(p), 1 << min(int(depth), 5000))  # deeper only shrinks it further
        if Fraction(float(high)) < (exact if p > 0 or depth < 5000 else Fraction(0)):
            yield f"scaled_up({p}, -{depth}) = {high} is too low"
        if Fraction(float(low)) > (exact if p < 0 or depth < 5000 else Fraction(0)):
            yield f"scaled_down({p}, -{depth}) = {low} is too high"


def split_parts(kernel: ModuleType) -> Iterator[str]:
    """F + G and H enclose the tables they come from; the position path bounds every position."""
    split_tables = _module(kernel, "_split")
    rng = np.random.default_rng(2)
    for n in range(24):
        k, v = 1 + n % 4, 1 + n % 5
        tables = sealed(kernel, extreme_tables(kernel, rng, k, v, v + n % 3))
        claimed, parts = tables.claimed, split_tables.SplitTables(tables, _ledger(kernel))
        F, G = np.asarray(parts.F_high), np.asarray(parts.G_high)
        high = 4 * (F[None] + G[:, None, :])
        low = 4 * (np.asarray(parts.F_low)[None] + np.asarray(parts.G_low)[:, None, :])
        if (high < claimed.value_high).any() or (low > claimed.value_low).any():
            yield "F + G does not enclose the values"
        if (4 * F < claimed.value_high[0]).any() or (
            4 * np.asarray(parts.F_low) > claimed.value_low[0]
        ).any():
            yield "F does not enclose the values of the first position"
        if (4 * np.asarray(parts.H_high) < claimed.direct_high).any() or (
            4 * np.asarray(parts.H_low) > claimed.direct_low
        ).any():
            yield "H does not enclose the direct logits"
        for m in range(v):
            path = np.asarray(parts.position_path(m))
            if (path[None] < G - np.asarray(parts.G_low)[:, m, None]).any():
                yield "a position is above the position path"
        rows = rng.integers(-9, 9, (3, v + n % 3))
        found = np.asarray(split_tables.largest_difference(rows, rows))
        for r, m in np.ndindex(found.shape):
            others = np.delete(rows[r], m)
            if others.size and found[r, m] < others.max() - rows[r, m]:
                yield "largest_difference is too small"


def far_bounds(kernel: ModuleType) -> Iterator[str]:
    """Far tokens' shared bound is above each of theirs; no bound leaves the headroom."""
    collapsed = _module(kernel, "theorems.collapsed")
    rng = np.random.default_rng(3)
    for n in range(60):
        k, v = 2 + n % 3, 2 + n % 4
        tables = sealed(kernel, extreme_tables(kernel, rng, k, v, v))
        claimed = tables.claimed
        weights = collapsed.Weights(tables, _ledger(kernel))
        spread = rng.integers(0, 1 << int(rng.integers(1, 30)), v)
        shared = int(rng.integers(-(1 << 29), 1 << 29)) >> int(rng.integers(0, 29))
        query, far = int(rng.integers(v)), int(rng.integers(v))
        counted = kernel._ledger.Counted.of(spread, _ledger(kernel))
        prefixes = weights.prefixes(query, counted)
        unit = max(weights.unit(query, np.arange(v)), weights.deepest_unit(prefixes.top))
        found = np.asarray(prefixes.far(far, shared, unit))
        near = np.asarray(
            weights.upper(query, slice(0, k - 1), np.arange(v), spread + shared, unit)
        )
        limit = 1 << (62 - k.bit_length())
        largest = np.full(v, 1 << 32)
        extreme = weights.upper(query, slice(0, k - 1), np.arange(v), largest, unit)
        if any((np.abs(np.asarray(y)) >= limit).any() for y in (found, near, extreme)):
            yield "a bound leaves the headroom"
        for i in range(k - 1):
            for t in range(v):
                at = i, query, t
                ends = [int(claimed.weight_low[at]), int(claimed.weight_high[at])]
                exact = max(w * (int(spread[t]) + shared) for w in ends)
                by = int(claimed.weight_exponent[at]) - unit
                number = Fraction(exact) * Fraction(2) ** max(by, -3000)
                if by < -3000 and exact < 0:
                    number = Fraction(0)
                if near[i, t] < number:
                    yield "a near token's bound is too low"
                if t <= far and found[i] < number:
                    yield "far tokens' bound is too low"


def columns_shared(kernel: ModuleType) -> Iterator[str]:
    """A column that stands for many tokens counts them all, in slots that hold the count."""
    for tokens, length in ((3, 2), (3000, 3), (50, 4)):
        words = kernel.ClassAutomaton(length, (tuple(range(tokens)),), ((0,),), (True,))
        ledger = _ledger(kernel)
        slack = kernel._ledger.Counted.of(np.zeros((1, length, 1)), ledger)
        counts = _module(kernel, "_counting").count_within_slack(
            words, slack, np.array([0]), [0], 8, ledger, np.array([tokens])
        )
        if next(counts) != tokens**length:
            yield f"{tokens}^{length} words in one column are not counted"


def cubic_on_factored_tables(kernel: ModuleType) -> Iterator[str]:
    """The cubic theorem on integer tables whose weights factor, as the mixture lemma needs."""
    rng = np.random.default_rng(4)
    for n in range(60):
        k, v = (2, 3, 3, 4)[n % 4], (3, 2, 3, 2)[n % 4]
        tables = extreme_tables(our_kernel, rng, k, v, v + n % 2)
        small = n % 3 == 0
        top = 3 if small else 1 << 15
        token, position = rng.integers(1, top, (v, v)), rng.integers(1, top, (k, v))
        weight = (position[:, :, None] * token[None]).astype(np.int32)
        if small:
            values = rng.integers(-2, 2, (k, v, v + n % 2)).astype(np.int32)
            values -= 3 * (np.arange(v + n % 2) != np.arange(v)[:, None]).astype(np.int32) * 4
            values *= 4
            direct = 4 * rng.integers(-2, 2, (v, v + n % 2)).astype(np.int32)
            tables = tables._replace(
                value_low=values, value_high=values, direct_low=direct, direct_high=direct
            )
        exponents = rng.integers(-4, 5, (v, v)).astype(np.int32)
        exponent = np.broadcast_to(exponents, (k, v, v)).astype(np.int32)
        tables = tables._replace(
            weight_low=weight,
            weight_high=weight,
            weight_exponent=exponent,
            value_low=tables.value_high,
            direct_low=tables.direct_high,
        )
        labels = our_kernel.MaxOfK(k, v).labels
        counts = decided_counts(tables, k, v, labels)
        for witness in (tables, widened(rng, tables, 0.2)):
            task = kernel.MaxOfK(k, v)
            proved = kernel.cubic(sealed(kernel, witness), task, kernel.CubicOptions())
            for q, m, size, correct in proved.by_class:
                if size != counts[q, m][0] or correct > counts[q, m][1]:
                    yield f"cubic, tables {n}: {correct} of class ({q}, {m}) {counts[q, m]}"


def cubic_at_the_edge(kernel: ModuleType) -> Iterator[str]:
    """Direct logits raised step by step: ties are not right, nor is what overflows."""
    rng = np.random.default_rng(14)
    for n in range(40):
        limit, v = n == 0, 2
        k, m = 8 if limit else 2 + n % 2, 1
        if limit:
            weight = np.full((k, v, v), 1 << 30, dtype=np.int32)
            far = np.where(np.arange(v) == m, -(1 << 30), 1 << 30)
            values, direct = np.broadcast_to(far, (k, v, v)), np.broadcast_to(far, (v, v))
        else:
            token, position = rng.integers(1, 4, (v, v)), rng.integers(1, 4, (k, v))
            weight = ((position[:, :, None] * token[None]) << 8).astype(np.int32)
            parts = rng.integers(-3, 4, (v, v))[None] + (n % 4 // 3) * rng.integers(
                -2, 3, (k, 1, v)
            )
            values, direct = 4 * parts, 4 * rng.integers(-3, 4, (v, v))
        around = weight // 4 if n % 4 >= 2 else 0 * weight
        labels = our_kernel.MaxOfK(k, v).labels
        for raised in range(0, 1 if limit else 120, 4):
            high = (direct + raised * (np.arange(v) == m)).astype(np.int32)
            exact = our_kernel.IntegerTables(
                weight,
                weight,
                np.zeros_like(weight),
                values.astype(np.int32),
                values.astype(np.int32),
                high,
                high,
                np.zeros(v),
                np.array([0]),
            )
            counts = decided_counts(exact, k, v, labels)
            wide = exact._replace(weight_low=weight - around, weight_high=weight + around)
            found = kernel.cubic(sealed(kernel, wide), kernel.MaxOfK(k, v), kernel.CubicOptions())
            for q, label, _, correct in found.by_class:
                if correct > counts[q, label][1]:
                    yield f"cubic at the edge, tables {n}: {correct} of {counts[q, label]}"


def subcubic_parts(kernel: ModuleType) -> Iterator[str]:
    """Each part of the family obeys its own law, for found and for random directions."""
    rng = np.random.default_rng(6)
    subcubic = _module(kernel, "theorems.subcubic")
    errors = _module(kernel, "theorems._attention_error")
    directs = _module(kernel, "theorems._direct_path")
    for n in range(6):
        model = random_model(
            rng, k=3, v=5, d=3, h=2, biases=True, outputs=5 + n % 2, scale=(1.0, 4.0)[n % 2]
        )
        c = circuits(model)
        copy = kernel.Model(**vars(model))
        drawn = random_subcubic_witness(rng, model)
        found, residual = find_directions(model)
        choices = (
            (tuple(found), residual),
            (tuple(drawn[2:6]), drawn.residual_direction),
        )
        for arrays, direction in choices:
            directions = errors.Directions(*arrays)
            for option in errors.ATTENTION_ERRORS.values():
                factors, B = subcubic.qk_factors(copy, _ledger(kernel))
                bound = option.bound(factors, directions)
                rest = c.A - bound.approximation.mid
                if (np.ptp(rest, axis=1) > bound.error + 1e-9).any():
                    yield f"{option.name}: the residual's spread exceeds its bound"
                if (np.abs(c.B - B.mid) > 1e-9).any():
                    yield "B is not the position-dependent part"
            for option in directs.DIRECT_PATHS.values():
                chosen = subcubic.SubcubicOptions(direct=option)
                parts = subcubic.strategy_parts(
                    copy, chosen, directions, direction, _ledger(kernel)
                )
                path = (c.G[:, None, :] - c.G[:, :5, None]).max(axis=0)
                mu = parts.shared.mid - path  # mu[x] - mu[m]
                differences = c.H[:, None, :] - c.H[:, :5, None]
                if (differences > mu[None] + parts.dH[:, None, None] + 1e-9).any():
                    yield f"{option.name}: the direct path exceeds its bound"
                R = c.F[:5] - c.F[np.arange(5), np.arange(5), None]
                if (np.abs(parts.R.mid - R) > 1e-9).any():
                    yield "R is not the label's own row"
                for t, m in np.ndindex(5, 5):
                    if parts.wrong[t, m] < np.delete(c.F[t], m).max() - c.F[t, m]:
                        yield "a wrong logit exceeds its bound"


def subcubic_classes(kernel: ModuleType) -> Iterator[str]:
    """Whole classes against all their sequences, the label's logit raised until they are certified.

    The circuits are made up: noise within its bound on the attention, values of any sign.
    """
    rng = np.random.default_rng(7)
    subcubic = _module(kernel, "theorems.subcubic")
    mass = _module(kernel, "theorems._position_mass")
    Ball = kernel._enclosure.Ball
    for trial in range(60):
        k, v = int(rng.integers(2, 4)), int(rng.integers(3, 5))
        ledger = _ledger(kernel)
        B, m = rng.normal(size=(v, k)) * rng.choice([0.3, 2]), v - 1
        A, noise = rng.normal(size=(v, v)) * rng.choice([0.3, 2]), rng.normal(size=(v, v))
        noise *= trial % 3 / 2
        F, G = rng.normal(size=(v, v)) * rng.choice([1, 3]), 0.1 * rng.normal(size=(k, v))
        H = 0.02 * rng.normal(size=(v, v)) + 2 * rng.normal(size=v)
        if trial % 2:  # the label's row between the others': either end may be the worst
            F[m] = F[: v - 1].mean(axis=0) + 0.5 * rng.normal(size=v)
        if trial % 4 == 0:  # the label's row above the others': most attention is the worst
            F[m] += 4 * (np.arange(v) != m)
        path = (G[:, None, :] - G[:, :, None]).max(axis=0)
        wrong = np.array([[np.delete(F[t], y).max() - F[t, y] for y in range(v)] for t in range(v)])
        gap = rng.integers(1, max(2, v - 1), (v, v, k)).astype(np.int32)
        average = rng.random((v, k)) ** rng.choice([0.1, 1, 4]) if trial % 5 else None
        R = F - F[np.arange(v), np.arange(v), None]

        def certified(raised: float) -> tuple[np.ndarray, np.ndarray]:
            direct = H.copy()  # noqa: B023
            direct[:, m] += raised  # noqa: B023
            mu = direct.mean(axis=0)
            parts = subcubic.Parts(
                approximation=Ball.exact(A, ledger),  # noqa: B023
                error=np.ptp(noise, axis=1),  # noqa: B023
                mass=mass.PositionMass.of(Ball.exact(B, ledger), ledger),  # noqa: B023
                shared=Ball.exact(mu - mu[:, None] + path, ledger),  # noqa: B023
                dH=np.ptp(direct - mu, axis=1) + 1e-9,
                R=Ball.exact(R, ledger),  # noqa: B023
                wrong=wrong,  # noqa: B023
            )
            return subcubic._certified(parts, gap, average, k, ledger)[:, m], direct  # noqa: B023

        tokens = all_sequences(k, v)
        tokens = tokens[tokens.max(axis=1) == m]
        query = tokens[:, -1]
        scores = A + noise
        weight = np.exp(scores[query[:, None], tokens] + B[query])
        weight /= weight.sum(axis=1, keepdims=True)
        attended = (weight[:, :, None] * (F[tokens] + G[None])).sum(axis=1)
        smaller = (tokens < m).sum(axis=1)
        largest = np.where(tokens < m, tokens, -1).max(axis=1)
        for q, n in [(m, 1), (0, 1), (0, k - 1)]:
            low, high = 0.0, 16.0
            if not certified(high)[0][q, n]:
                continue
            for _ in range(12):
                middle = (low + high) / 2
                low, high = (low, middle) if certified(middle)[0][q, n] else (middle, high)
            logits = certified(high)[1][query] + attended
            margin = logits[:, m] - np.delete(logits, m, axis=1).max(axis=1)
            inside = (query == q) & (smaller == n) & (largest <= m - gap[q, m, n])
            if (margin[inside] <= -1e-9).any():
                yield f"a class with query {q} and {n} smaller tokens is not right"


def first_rivals(kernel: ModuleType) -> Iterator[str]:
    """As many words as some output makes wrong, at least; terms with bits to spare stay small."""
    rng = np.random.default_rng(7)
    first_rival, slack = _module(kernel, "_first_rival"), _module(kernel, "_slack")
    for n in range(300):
        k, v, outputs = 2 + n % 3, 2 + n % 3, 1 + n % 4
        classes = list(kernel.MaxOfK(k, v).classes())
        _, _, words = classes[int(rng.integers(len(classes)))]
        columns = [t for letter in words.letters for t in letter]
        size = int(10 ** rng.integers(1, 5))
        f = rng.integers(-size, size, (k, len(columns), outputs))
        f[:, :, :] -= rng.integers(0, size, outputs) // 3
        gap = rng.choice([1, 2 * size], outputs)
        above = f + rng.integers(0, gap, f.shape)
        letter_of = np.array([a for a, letter in enumerate(words.letters) for _ in letter])
        effort = np.array([[0] * (outputs + 1), [300] * (outputs + 1)])
        rows = drawn_order(rng, effort[1:2])
        rows = rows[rows[:, 1] == outputs]  # the label's class; its columns are 0 .. outputs - 1
        order = [first_rival.Rival(*row) for row in rows[:, 2:].tolist()]
        terms = slack.Terms(_counted(kernel, above[-1, 0]), _counted(kernel, above[:-1]), letter_of)
        found = first_rival.wrong_by_first_rival(terms, words, order, 4000, _ledger(kernel))
        members = [
            word
            for word in all_sequences(k - 1, len(columns)).tolist()
            if _spells(words, [int(letter_of[c]) for c in word])
        ]
        sums = np.array([f[-1, 0] + sum(f[i, c] for i, c in enumerate(w)) for w in members])
        if found < int((sums >= 0).any(axis=1).sum()):
            yield f"only {found} words wrong by the order {order}"
    additive = _module(kernel, "theorems.additive")
    for n in range(8):
        k, v = 2 + n % 3, 2 + n % 4
        tables = sealed(kernel, extreme_tables(kernel, rng, k, v, v))
        for q, m, words in kernel.MaxOfK(k, v).classes():
            margins = _module(kernel, "_margins").Margins(tables, m, _ledger(kernel))
            terms = additive.class_terms(margins, q, words, first_rival.SPARE)
            for y in (terms.at_query, terms.before):
                if y.size and k * int(np.abs(y).max()) >= 1 << (61 - first_rival.SPARE):
                    yield f"256 times {k} terms of {int(np.abs(y).max())} may leave int64"


def _counted(kernel: ModuleType, values: np.ndarray) -> Any:
    return _module(kernel, "_ledger").Counted.of(values, _ledger(kernel))


def _spells(words: Any, letters: list[int]) -> bool:
    state = 0
    for letter in letters:
        state = words.step[state][letter]
        if state < 0:
            return False
    return words.accepting[state]


LAWS = (
    scaled_numbers,
    split_parts,
    far_bounds,
    columns_shared,
    cubic_on_factored_tables,
    cubic_at_the_edge,
)
LAWS_OF_SUBCUBIC = (subcubic_parts, subcubic_classes)
