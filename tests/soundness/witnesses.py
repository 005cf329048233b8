"""Hostile witnesses: integer tables that enclose the truth, but as badly as an enemy likes.

Also tables without a model: sealed by hand, with numbers at the limits that ``verify_tables``
accepts, so that the theorems' arithmetic can be compared with exact integers.
"""

from types import ModuleType
from typing import Any

import numpy as np

from .truth import all_sequences

LIMIT = 1 << 30


def widened(rng: np.random.Generator, tables: Any, amount: float = 1.0) -> Any:
    """Looser tables of the same model: wider intervals, lost lower ends, fewer bits.

    ``tables`` is an ``IntegerTables`` of any copy of the kernel, and so is the result.
    """

    def loosen(array: np.ndarray, sign: int, bits: float, floor: int = -LIMIT) -> np.ndarray:
        by = np.floor(2.0 ** (bits * rng.random(array.shape))).astype(np.int64) - 1
        return np.clip(array + sign * by, floor, LIMIT).astype(np.int32)

    bits = 26 * amount * rng.random()
    low, high = tables.weight_low, loosen(tables.weight_high, 1, bits)
    low = loosen(low, -1, bits, floor=0) * (rng.random(low.shape) > 0.1 * amount)
    # Halving mantissas outward and raising the exponent says the same, a little less sharply.
    halvings = rng.integers(0, int(20 * amount) + 1, low.shape)
    return tables._replace(
        weight_low=(low >> halvings).astype(np.int32),
        weight_high=(-(-high.astype(np.int64) >> halvings)).astype(np.int32),
        weight_exponent=(tables.weight_exponent + halvings).astype(np.int32),
        value_low=loosen(tables.value_low, -1, bits),
        value_high=loosen(tables.value_high, 1, bits),
        direct_low=loosen(tables.direct_low, -1, bits),
        direct_high=loosen(tables.direct_high, 1, bits),
    )


def drawn_order(
    rng: np.random.Generator, effort: np.ndarray, *, circular: bool = False
) -> np.ndarray:
    """Rows of the tensor ``order`` of ``additive`` for half of the classes that have bins.

    circular: pivots that stand later in the order, which must be refused.
    """
    rows: list[tuple[int, ...]] = []
    for query, label in np.argwhere(effort > 0).tolist():
        others = rng.permutation([x for x in range(effort.shape[1]) if x != label]).tolist()
        others = others[: int(rng.integers(len(others) + 1))]
        for place, x in enumerate(others):
            known = others[place + 1 :] + others[:1] if circular else others[:place]
            eighths = int(rng.choice([0, 1, 8, 20, 248])) if known and known != [x] else 0
            pivot = int(rng.choice([p for p in known if p != x])) if eighths else -1
            rows.append((query, label, x, int(rng.integers(3)), pivot, eighths))
    return np.array(rows, dtype=np.int32).reshape(-1, 6)


def extreme_tables(kernel: ModuleType, rng: np.random.Generator, k: int, v: int, x: int) -> Any:
    """Integer tables of no model, within the limits of form: sizes to 2^30, any exponents."""
    kind = rng.integers(4)

    def numbers(*shape: int) -> np.ndarray:
        bits = 30 if kind == 0 else rng.integers(1, 31)
        drawn = rng.integers(-(1 << bits), (1 << bits) + 1, shape)
        if kind == 1:  # few values: many exact ties
            drawn = rng.integers(-2, 3, shape)
        if kind == 2:  # the limits themselves
            drawn = rng.choice([-LIMIT, -LIMIT + 1, LIMIT - 1, LIMIT, 0], shape)
        return drawn

    def pair(*shape: int) -> tuple[np.ndarray, np.ndarray]:
        low = numbers(*shape)
        gap = np.abs(numbers(*shape)) >> rng.integers(0, 40)
        gap *= rng.random(shape) < rng.choice([0.0, 0.5, 1.0])
        return low.astype(np.int32), np.minimum(low + gap, LIMIT).astype(np.int32)

    spread = rng.choice([0, 3, 20, 70, 400])
    exponent = rng.integers(-spread, spread + 1, (k, v, v))
    if rng.random() < 0.1:
        exponent = np.where(rng.random((k, v, v)) < 0.5, exponent, -(1 << 22))
    weights = np.abs(np.stack(pair(k, v, v)))
    weight_low, weight_high = weights.min(axis=0), weights.max(axis=0)
    value_low, value_high = pair(k, v, x)
    direct_low, direct_high = pair(v, x)
    return kernel.IntegerTables(
        weight_low, weight_high, exponent.astype(np.int32), value_low, value_high,
        direct_low, direct_high, np.zeros(v), np.array([0]),
    )  # fmt: skip


def sealed(kernel: ModuleType, tables: Any) -> Any:
    """``VerifiedTables`` of the tables as they are: a model that they enclose is imagined."""
    integers = kernel._integers
    return kernel.VerifiedTables(tables, "0" * 64, kernel._ledger.Ledger(), seal=integers._SEAL)


def exact_range(
    tables: Any, query: int, label: int, x: int, position: int, token: int, unit: int
) -> tuple[int, int]:
    """The least and greatest ``f_i(t) = w (h_x - h_m + o_x - o_m)`` in the tables, over ``2^unit``.

    ``unit`` must not exceed the weight's exponent, so that both are integers.
    """
    at = position, query, token
    weights = int(tables.weight_low[at]), int(tables.weight_high[at])
    ends = [
        int(value[position, token, x]) - int(other[position, token, label])
        + int(direct[query, x]) - int(direct_other[query, label])
        for value, other, direct, direct_other in (
            (tables.value_low, tables.value_high, tables.direct_low, tables.direct_high),
            (tables.value_high, tables.value_low, tables.direct_high, tables.direct_low),
        )
    ]  # fmt: skip
    products = [w * end for w in weights for end in ends]
    by = int(tables.weight_exponent[at]) - unit
    if by < 0:
        raise ValueError(f"unit {unit} is above the exponent {unit + by}")
    return min(products) << by, max(products) << by


def decided_by_tables(tables: Any, tokens: np.ndarray, label: np.ndarray) -> np.ndarray:
    """1: right whatever the reals in the tables are, summed term by term; -1: wrong; 0: neither.

    No theorem that bounds each position by itself can show more, by Python's exact integers.
    """
    result = np.zeros(len(tokens), dtype=np.int64)
    outputs = tables.direct_low.shape[1]
    for n, (sequence, m) in enumerate(zip(tokens.tolist(), label.tolist(), strict=True)):
        q = sequence[-1]
        unit = min(int(tables.weight_exponent[i, q, t]) for i, t in enumerate(sequence))
        sums = [
            [sum(part) for part in zip(*terms, strict=True)]
            for terms in (
                [exact_range(tables, q, m, x, i, t, unit) for i, t in enumerate(sequence)]
                for x in range(outputs)
                if x != m
            )
        ]
        if all(high < 0 for _, high in sums):
            result[n] = 1
        elif any(low >= 0 for low, _ in sums):
            result[n] = -1
    return result


def decided_counts(
    tables: Any, k: int, v: int, labels: Any
) -> dict[tuple[int, int], tuple[int, int, int]]:
    """By class: sequences, those shown right, those shown wrong."""
    tokens = all_sequences(k, v)
    label = labels(tokens)
    counts: dict[tuple[int, int], tuple[int, int, int]] = {}
    decided = decided_by_tables(tables, tokens, label).tolist()
    for q, m, sign in zip(tokens[:, -1].tolist(), label.tolist(), decided, strict=True):
        size, right, wrong = counts.get((q, m), (0, 0, 0))
        counts[q, m] = size + 1, right + (sign == 1), wrong + (sign == -1)
    return counts
