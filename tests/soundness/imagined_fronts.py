"""Fronts of no model, and what one layer with exactly these numbers answers, by exact fractions.

An ``ImaginedFront`` holds integer tables and coefficients for theorem D together with one choice of
rational numbers inside them.
"""

from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np

from .witnesses import sealed

LIMIT = 1 << 30


@dataclass(frozen=True)
class ImaginedFront:
    """Tables with ``x`` logits and ``m`` neurons, and the numbers chosen inside them."""

    tables: dict[str, np.ndarray]
    R_low: np.ndarray
    R_high: np.ndarray
    bits: int
    weight: dict[tuple[int, int, int], Fraction]  # (i, q, t)
    value: np.ndarray  # [i, t, n] of integers
    direct: np.ndarray  # [q, n]
    R: np.ndarray  # [m, x] of Fractions
    room: int
    """So far around what these numbers give the tables' ends are, at most."""
    narrow: bool
    """Whether no weight is so small beside another that it is lost in the unit of a class."""

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """k, v, x, m."""
        k, v, _ = self.tables["value_low"].shape
        m, x = self.R_low.shape
        return k, v, x, m

    def z(self, sequence: tuple[int, ...]) -> list[Fraction]:
        """Base logits, then the neurons' inputs."""
        query = sequence[-1]
        weights = [self.weight[i, query, t] for i, t in enumerate(sequence)]
        total = sum(weights, Fraction(0))
        return [
            int(self.direct[query, n])
            + sum(
                (
                    w * int(self.value[i, t, n])
                    for (i, t), w in zip(enumerate(sequence), weights, strict=True)
                ),
                Fraction(0),
            )
            / total
            for n in range(self.direct.shape[1])
        ]

    def is_right(self, sequence: tuple[int, ...], label: int) -> bool:
        """Whether the label's logit exceeds every other."""
        x = self.R.shape[1]
        z = self.z(sequence)
        active = [max(Fraction(0), one) for one in z[x:]]
        logits = [
            z[y] + sum((a * r for a, r in zip(active, self.R[:, y], strict=True)), Fraction(0))
            for y in range(x)
        ]
        return all(logits[label] > other for y, other in enumerate(logits) if y != label)

    def in_kernel(self, kernel: ModuleType) -> Any:
        """The same tables as a ``Front`` of a copy of the kernel."""
        ledger = kernel._ledger.Ledger()
        low, high = (kernel._ledger.Counted.of(R, ledger) for R in (self.R_low, self.R_high))
        tables = sealed(kernel, kernel.IntegerTables(**self.tables))
        return kernel._front.Front(tables, kernel._front.Coefficients(low, high, self.bits), ledger)


def imagined_front(rng: np.random.Generator, k: int, v: int, x: int, m: int) -> ImaginedFront:
    """Numbers of all sizes up to the limits, exactly known or anything in between."""
    size = int(rng.choice([3, 100, 1 << 20, LIMIT]))
    gap = int(rng.choice([0, 0, 0, 1, 3, size]))
    spread = int(rng.choice([0, 2, 12, 80]))

    def pair(*shape: int, least: int = -LIMIT, most: int = LIMIT, of: int = size) -> Any:
        low = rng.integers(max(least, -of), min(of, most) + 1, shape)
        return low, np.minimum(low + rng.integers(0, gap + 1, shape), most)

    def inside(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.where(rng.random(low.shape) < 0.5, low, high)

    weight_low, weight_high = pair(k, v, v, least=1)
    full = rng.random() < 0.7  # as real tables have them: mantissas of 29 bits and more
    if full:
        weight_low = rng.integers(LIMIT // 2, LIMIT + 1 - gap, (k, v, v)) if gap < 9 else weight_low
        weight_high = np.minimum(weight_low + rng.integers(0, gap + 1, (k, v, v)), LIMIT)
    exponent = rng.integers(-spread, spread + 1, (k, v, v))
    value, direct = pair(k, v, x + m), pair(v, x + m)
    chosen = inside(weight_low, weight_high)
    weight_low = np.where(rng.random(weight_low.shape) < 0.1 * bool(gap), 0, weight_low)
    most = 1 << (27 - m.bit_length() if m else 27)
    R_low, R_high = pair(m, x, least=-most, most=most, of=int(rng.choice([2, 1000, most])))
    bits = int(rng.choice([0, 0, 1, 10, 28, -3, -40]))
    numbers = inside(R_low, R_high)
    R = np.empty((m, x), dtype=object)
    for at, one in np.ndenumerate(numbers):
        R[at] = int(one) * Fraction(2) ** -bits
    tables = {
        "weight_low": weight_low, "weight_high": weight_high, "weight_exponent": exponent,
        "value_low": value[0], "value_high": value[1],
        "direct_low": direct[0], "direct_high": direct[1],
    }  # fmt: skip
    return ImaginedFront(
        {name: array.astype(np.int32) for name, array in tables.items()}
        | {"shift": np.zeros(v), "grid": np.array([0])},
        R_low,
        R_high,
        bits,
        {at: int(w) * Fraction(2) ** int(exponent[at]) for at, w in np.ndenumerate(chosen)},
        inside(*value),
        inside(*direct),
        R,
        room=16 if gap <= 3 else 1 << 31,
        narrow=full and not gap and spread <= 2,
    )
