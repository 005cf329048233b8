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

    def logits(self, sequence: tuple[int, ...]) -> list[Fraction]:
        """The answers."""
        x = self.R.shape[1]
        z = self.z(sequence)
        active = [max(Fraction(0), one) for one in z[x:]]
        return [
            z[y] + sum((a * r for a, r in zip(active, self.R[:, y], strict=True)), Fraction(0))
            for y in range(x)
        ]

    def is_right(self, sequence: tuple[int, ...], label: int) -> bool:
        """Whether the label's logit exceeds every other."""
        logits = self.logits(sequence)
        return all(logits[label] > other for y, other in enumerate(logits) if y != label)

    def in_kernel(self, kernel: ModuleType) -> Any:
        """The same tables as a ``Front`` of a copy of the kernel."""
        ledger = kernel._ledger.Ledger()
        low, high = (kernel._ledger.Counted.of(R, ledger) for R in (self.R_low, self.R_high))
        tables = sealed(kernel, kernel.IntegerTables(**self.tables))
        return kernel._front.Front(tables, kernel._front.Coefficients(low, high, self.bits), ledger)


def imagined_front(rng: np.random.Generator, k: int, v: int, x: int, m: int) -> ImaginedFront:
    """Numbers of all sizes up to the limits, exactly known or anything in between.

    Chosen inside them: one end of an output's table throughout, or any end of each entry.
    """
    size = int(rng.choice([3, 100, 1 << 20, LIMIT]))
    gap = int(rng.choice([0, 0, 1, 3, size // 8, size]))
    spread = int(rng.choice([0, 2, 12, 80]))
    throughout = rng.random() < 0.5

    def pair(*shape: int, most: int = LIMIT, of: int = size, by: int = gap) -> Any:
        low = rng.integers(-min(of, most), min(of, most) + 1, shape)
        wide = rng.integers(0, by + 1, shape) * (rng.random(shape) < rng.choice([0.1, 1.0]))
        return low, np.minimum(low + wide, most)

    def inside(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        drawn = rng.random(low.shape[-1:] if throughout else low.shape)
        return np.where(drawn < 0.5, low, high)

    full = rng.random() < 0.7  # as real tables have them: mantissas of 29 bits and more
    least, most = (LIMIT // 2, LIMIT) if full else (1, size)
    weight_low = rng.integers(least, most + 1, (k, v, v))
    unsure = min(gap, 4) if full else int(rng.choice([0, 1, size]))
    weight_high = np.minimum(weight_low + rng.integers(0, unsure + 1, (k, v, v)), LIMIT)
    exponent = rng.integers(-spread, spread + 1, (k, v, v))
    chosen = inside(weight_low, weight_high)
    weight_low = np.where(rng.random(weight_low.shape) < 0.1 * (not full), 0, weight_low)
    value, direct = pair(k, v, x + m), pair(v, x + m, by=gap * int(rng.integers(2)))
    if rng.random() < 0.5:  # neurons alone are uncertain
        for low, high in (value, direct):
            high[..., :x] = low[..., :x]
    limit = 1 << (27 - m.bit_length())
    of = int(rng.choice([2, 1000, limit]))
    R_low, R_high = pair(m, x, most=limit, of=of, by=int(rng.choice([0, 1, of // 4])))
    bits = int(rng.choice([0, 0, 1, 10, 28, -3, -40]))
    R = np.empty((m, x), dtype=object)
    for at, one in np.ndenumerate(inside(R_low, R_high)):
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
        room=2 * gap + 64,
        narrow=full and spread <= 2,
    )
