"""The laws of the parts of theorem D: coefficients, lines above neurons, sums over positions."""

from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from .drawn_trees import UNKNOWN, hull
from .imagined_fronts import ImaginedFront
from .laws_of_crosscoder_d import Case, Sequence, imagined, imagined_cases, real
from .laws_of_networks import transformer_for
from .one_layer_networks import one_layer_networks


def coefficients(kernel: ModuleType) -> Iterator[str]:
    """``R = W_out W_U`` lies between its ends, which leave room for sums over neurons."""
    for name, net in one_layer_networks().items():
        ledger = kernel._ledger.Ledger()
        found = kernel._front.output_coefficients(transformer_for(kernel, net), ledger)
        unit = Fraction(2) ** -found.bits
        for (n, x), low in np.ndenumerate(np.asarray(found.low)):
            exact = sum(
                (
                    Fraction(a) * Fraction(b)
                    for a, b in zip(
                        net.blocks[0].W_out[n].tolist(), net.W_U[:, x].tolist(), strict=True
                    )
                ),
                Fraction(0),
            )
            high = int(found.high[n, x])
            if not int(low) * unit <= exact <= high * unit:
                yield f"{name}: R[{n},{x}] = {float(exact)} is not enclosed"
            if max(abs(int(low)), abs(high)) * len(found.low) >= 1 << 27:
                yield f"{name}: R[{n},{x}] is too large for sums"


def lines(kernel: ModuleType) -> Iterator[str]:
    """``c relu(z) <= slope z + tau`` for all ``z`` of a range and all ``c`` that the ends allow."""
    rng = np.random.default_rng(61)
    ledger = kernel._ledger.Ledger()
    cell = kernel._cell
    for _ in range(60):
        m, x = (int(size) for size in rng.integers(1, 4, 2))
        x += 1
        size = 1 << int(rng.choice([1, 8, 25]))
        low = rng.integers(-size, size, (m, x))
        high = low + rng.integers(0, 1 + size // int(rng.choice([1, 100])), (m, x))
        counted = (kernel._ledger.Counted.of(R, ledger) for R in (low, high))
        front = SimpleNamespace(coefficients=kernel._front.Coefficients(*counted, 0))
        reach = 1 << int(rng.choice([2, 12, 31]))
        ends = np.sort(rng.integers(-reach, reach, (2, m)), axis=0)
        ends = np.where(rng.random((2, m)) < 0.2, np.array(UNKNOWN)[:, None], ends)
        label = int(rng.integers(x))
        outputs = [one for one in range(x) if one != label]
        share = rng.integers(0, 129, (m, len(outputs))).astype(np.uint8)
        ranges = cell.Ranges.of(*ends.astype(np.int32), ledger)
        slope, tau = cell._lines(front, label, outputs, ranges, share)
        for n, (least, most) in enumerate(ends.T.tolist()):
            most += most == UNKNOWN[1]
            inside = [
                z for z in (0, *rng.integers(least, most + 1, 3).tolist()) if least < z < most
            ]
            for column, output in enumerate(outputs):
                for c in (
                    int(R) - int(other)
                    for R in (low[n, output], high[n, output])
                    for other in (low[n, label], high[n, label])
                ):
                    for z in (least, most, *inside):
                        line = int(slope[n, column]) * z + int(tau[n, column])
                        if c * max(z, 0) > line:
                            yield f"{c} relu({z}) in [{least}, {most}] is above its line"


def spreads(kernel: ModuleType) -> Iterator[str]:
    """The two ends of a neuron's input are nowhere further apart than said, at any slot."""
    rng = np.random.default_rng(64)
    for case in imagined_cases(65, 60, ((2, 3), (3, 2))):
        k, v, x, _ = case.sizes
        queries, tokens = (np.flatnonzero(rng.random(v) < 0.6) for _ in range(2))
        if not queries.size:
            continue
        front = case.front_for(kernel)
        said = kernel._cell._spread(front, kernel._cell.Members(queries, tokens))
        low, high = (
            {
                name: case.tables[f"{name}_{end}"][..., x:].astype(int)
                for name in ("value", "direct")
            }
            for end in ("low", "high")
        )
        for query in queries.tolist():
            own = high["direct"][query] - low["direct"][query]
            slots = [(k - 1, query), *((i, t) for i in range(k - 1) for t in tokens.tolist())]
            for i, t in slots:
                if (own + high["value"][i, t] - low["value"][i, t] > said).any():
                    yield f"{case.name}: a neuron's ends at ({i}, {t}) are further apart than said"


def brackets(kernel: ModuleType) -> Iterator[str]:
    """Before weights come in: no less than the lines at the worse end of every number."""
    rng = np.random.default_rng(66)
    cell = kernel._cell
    for case in imagined_cases(67, 150, ((2, 3), (3, 2))):
        k, v, x, m = case.sizes
        exact = case.subject
        tables = {name: case.tables[name].astype(int) for name in case.tables}
        if not isinstance(exact, ImaginedFront) or not m or not 0 <= exact.bits <= 10:
            continue
        if max(np.abs(tables["value_high"]).max(), np.abs(exact.R_high).max()) > 2000:
            continue  # then brackets may have a unit of their own
        front = case.front_for(kernel)
        ends = np.sort(rng.integers(-200, 200, (2, m)), axis=0).astype(np.int32)
        share = rng.integers(0, 129, (x, m)).astype(np.uint8)
        label, query = int(rng.integers(x)), int(rng.integers(v))
        outputs = [y for y in range(x) if y != label]
        ranges = cell.Ranges.of(*ends, front.ledger)
        slope, tau = (
            np.asarray(one) for one in cell._lines(front, label, outputs, ranges, share[outputs].T)
        )
        members = cell.Members(np.array([query]), np.arange(v))
        found = cell.margin_functionals(front, members, label, ranges, share)
        low, high = (
            tables[f"value_{end}"] + tables[f"direct_{end}"][query] for end in ("low", "high")
        )
        base = (high[..., outputs] - low[..., [label]]) << exact.bits
        z = np.maximum(low[..., x:, None] * slope, high[..., x:, None] * slope).sum(axis=2)
        least = base + z + tau.sum(axis=0)  # [i, t, y]
        before, last = (np.asarray(one + found.direct) for one in (found.before, found.last))
        if (before < least[:-1]).any() or (last[0] < least[-1, query]).any():
            yield f"{case.name}: a bracket is below its lines"


def sums(kernel: ModuleType) -> Iterator[str]:
    """Sums of terms are negative only for sequences that are right, or within their ranges."""
    rng = np.random.default_rng(62)
    for case in (*imagined_cases(), *imagined_cases(63, 400, ((2, 2), (3, 2)))):
        if isinstance(case.subject, ImaginedFront):
            yield from _sums_of(kernel, rng, case, case.subject)


def _sums_of(
    kernel: ModuleType, rng: np.random.Generator, case: Case, exact: ImaginedFront
) -> Iterator[str]:
    cell = kernel._cell
    _, _, x, m = case.sizes
    front = case.front_for(kernel)
    label = int(rng.choice(sorted(set(case.labels.values()))))
    words = {q: one for q, y, one in case.task_for(kernel).classes() if y == label}
    held = [sequence for sequence, y in case.labels.items() if y == label]
    members = cell.Members.of(words)
    ends = np.array(hull([case.z[sequence] for sequence in held], 0)).astype(np.int64)
    ends = np.where(rng.random(ends.shape) < 0.1, np.array(UNKNOWN)[:, None], ends)
    share = rng.integers(0, 129, (x, m)).astype(np.uint8)
    ranges = cell.Ranges.of(*ends.astype(np.int32), front.ledger)
    margins = cell.margin_functionals(front, members, label, ranges, share)
    others = [y for y in range(x) if y != label]
    for sequence in held:
        logits = exact.logits(sequence)
        found = _sum(kernel, front, margins, words, sequence)
        for y, total in zip(others, found, strict=True):
            if total < 0 and logits[y] >= logits[label]:
                yield f"{case.name}: {sequence} is wrong against {y}, and its sum is negative"
    # Ranges that some sequences are in, and some are not.
    moved = ends + rng.integers(-3, 4, ends.shape) * rng.choice([0, 1, 1 << 10], ends.shape)
    chosen = case.z[held[int(rng.integers(len(held)))]]
    near = np.array(hull([chosen], 0))
    moved = np.where(rng.random(ends.shape) < 0.5, near, moved)
    moved = np.clip(moved, *UNKNOWN).astype(np.int32)
    checks = cell.range_functionals(front, members, cell.Ranges.of(*moved, front.ledger))
    low, high = moved.tolist()
    claims = [(n, 1) for n in range(m) if high[n] != UNKNOWN[1]]
    claims += [(n, 0) for n in range(m) if low[n] != UNKNOWN[0]]
    if checks.direct.shape[1] != len(claims):
        yield f"{case.name}: {checks.direct.shape[1]} ends are verified of {len(claims)}"
        return
    for sequence in held:
        z = case.z[sequence]
        found = _sum(kernel, front, checks, words, sequence)
        for (n, end), total in zip(claims, found, strict=True):
            outside = z[n] > high[n] if end else z[n] < low[n]
            if outside and total <= 0:
                yield f"{case.name}: neuron {n} of {sequence} is out of its range, unseen"


def _sum(
    kernel: ModuleType, front: Any, functionals: Any, words: Any, sequence: Sequence
) -> list[int]:
    """The terms of one sequence, added up; refuses terms so large that sums could overflow."""
    *word, query = sequence
    terms = functionals.terms(front, query, words[query])
    tokens = [t for letter in words[query].letters for t in letter]
    columns = [tokens.index(t) for t in word]
    letters = [next(a for a, ts in enumerate(words[query].letters) if t in ts) for t in word]
    if [int(terms.letter_of[c]) for c in columns] != letters:
        raise kernel.KernelDefectError("a column has the letter of another token")
    parts = [terms.at_query, *(terms.before[i, c] for i, c in enumerate(columns))]
    exact = [[int(one) for one in part] for part in parts]
    for part in exact:
        if any(len(sequence) * abs(one) >= 1 << 61 for one in part):
            raise kernel.KernelDefectError(f"sums of {max(part)} may leave int64")
    return [sum(column) for column in zip(*exact, strict=True)]


LAWS = (coefficients, lines, spreads, brackets, sums)


def crosscoder_d(kernel: ModuleType) -> Iterator[str]:
    """All laws of theorem D, the quick ones first."""
    yield from coefficients(kernel)
    yield from lines(kernel)
    yield from spreads(kernel)
    yield from brackets(kernel)
    yield from real(kernel, 0, 6)
    yield from sums(kernel)
    yield from imagined(kernel)
    yield from real(kernel, 6)
