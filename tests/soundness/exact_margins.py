"""ReLU networks after a cut in exact rationals, and the regions and witnesses to try them with.

Nothing here is shared with the kernel: weights are arrays, points are Fractions.
"""

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

HOSTILE = ("plain", "ties", "huge", "tiny", "subnormal", "cancelling")


class Region(NamedTuple):
    """A network, where it is cut, and a cell over the cut's sites and one more."""

    name: str
    layers: tuple[tuple[np.ndarray, np.ndarray, bool], ...]
    skip: np.ndarray | None
    kind: str
    layer: int
    low: np.ndarray
    high: np.ndarray
    rows: np.ndarray
    row_low: np.ndarray
    row_high: np.ndarray
    pattern: np.ndarray
    label: int
    centre: np.ndarray
    """A point of the cell, unless the cell was made to be empty"""

    @property
    def units(self) -> int:
        """Units of a witness."""
        return sum(
            len(W) for i, (W, _, relu) in enumerate(self.layers) if relu and i >= self.first_unit
        )

    @property
    def first_unit(self) -> int:
        """The first layer whose ReLU acts after the cut."""
        return self.layer + (self.kind == "post")

    @property
    def rivals(self) -> list[int]:
        """The outputs other than the label."""
        return [k for k in range(len(self.layers[-1][1])) if k != self.label]

    def build(self, kernel: ModuleType) -> tuple[Any, Any, Any]:
        """Network, sites and cell of a copy of the kernel; the cut is the second group of sites."""
        gate = gate_of(kernel)
        network = gate.ReluNetwork(
            tuple(gate.ReluLayer(*layer) for layer in self.layers), skip=self.skip
        )
        groups = (
            gate.SiteGroup("other", "readout", 1),
            gate.SiteGroup("cut", self.kind, len(self.low)),
        )
        sites = gate.Sites(groups, "cut", self.layer)
        cell = gate.Cell(
            np.concatenate([[-np.inf], self.low]),
            np.concatenate([[np.inf], self.high]),
            np.concatenate([np.zeros((len(self.rows), 1)), self.rows], axis=1),
            self.row_low,
            self.row_high,
            self.pattern,
            self.label,
        )
        return network, sites, cell

    def values(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``[n, u]`` units after the cut and ``[n, x]`` logits; Fractions where ``a`` is exact."""
        exact = a.dtype == object
        z, seen = a, [np.zeros((len(a), 0), dtype=a.dtype)]
        for number in range(self.layer, len(self.layers)):
            W, b, relu = self.layers[number]
            if exact:
                W, b = fractions_of(W), fractions_of(b)
            if relu and number >= self.first_unit:
                z = np.where(z > 0, z, z - z)
            z = z @ W + b
            if number + 1 < len(self.layers) and self.layers[number + 1][2]:
                seen.append(z)
        if self.skip is not None:
            z = z + a @ (fractions_of(self.skip) if exact else self.skip)
        return np.concatenate(seen, axis=1), z

    def margins(self, a: np.ndarray) -> np.ndarray:
        """``[n, r]``: the label's logit less the others, in order."""
        logits = self.values(a)[1]
        return logits[:, [self.label]] - logits[:, self.rivals]

    def holds(self, a: np.ndarray) -> np.ndarray:
        """Which exact points ``[n, a]`` are in the cell."""
        within = (a >= fractions_of(self.low)) & (a <= fractions_of(self.high))
        inside = np.asarray(within.all(axis=1))
        if self.kind == "post":
            inside &= (a >= 0).all(axis=1)
        if len(self.rows):
            events = a @ fractions_of(self.rows).T
            inside &= ((events >= self.row_low) & (events <= self.row_high)).all(axis=1)
        if self.pattern.any():
            inside &= (self.values(a)[0] * self.pattern >= 0).all(axis=1)
        return inside


def gate_of(kernel: ModuleType) -> Any:
    """The package ``gate`` of a copy of the kernel."""
    return import_module(f"{kernel.__name__}.gate")


def fractions_of(values: np.ndarray) -> np.ndarray:
    """The same numbers as Fractions."""
    exact = np.empty(values.size, dtype=object)
    exact[:] = [Fraction(float(value)) for value in values.flat]
    return exact.reshape(values.shape)


def _weights(rng: np.random.Generator, kind: str, a: int, b: int) -> np.ndarray:
    W = rng.normal(size=(a, b))
    if kind == "ties":
        W = rng.integers(-1, 2, (a, b)).astype(np.float64)
    elif kind == "huge":
        W *= 10.0 ** rng.integers(0, 13, (a, b))
    elif kind == "tiny":
        W *= 10.0 ** rng.integers(-30, 1, (a, b))
    elif kind == "subnormal":
        W = np.where(rng.random((a, b)) < 0.4, rng.normal(size=(a, b)) * 1e-310, W)
    elif kind == "cancelling" and a > 1:
        W[1] = -W[0] * (1 + rng.normal(size=b) * 1e-9)
    return W


def draw_region(
    rng: np.random.Generator,
    *,
    hostile: str = "plain",
    relu_layers: int = 1,
    kind: str = "pre",
    width: float = 0.5,
    events: int = 0,
    pattern: bool = False,
    skip: bool = False,
    sizes: tuple[int, int] = (2, 4),
) -> Region:
    """A random network and a cell about a random point; the label is what wins there."""

    def size() -> int:
        return int(rng.integers(sizes[0], sizes[1] + 1))

    layer = 0 if kind == "input" or skip else 1
    own = kind == "post" or (kind == "pre" and bool(rng.integers(0, 2)))
    relus = [False] * layer + [own] + [True] * relu_layers
    widths = [size() for _ in relus] + [int(rng.integers(2, 4))]
    layers = tuple(
        (_weights(rng, hostile, a, b), rng.normal(size=b) * 0.3, relu)
        for a, b, relu in zip(widths[:-1], widths[1:], relus, strict=True)
    )
    a = widths[layer]
    through = _weights(rng, hostile, a, widths[-1]) if skip else None
    centre = rng.normal(size=a)
    if kind == "post":
        centre = np.maximum(centre, 0.0)
    low, high = (centre - width * rng.random((2, a)) * [[1], [-1]]).astype(np.float64)
    rows = rng.normal(size=(events, a))
    at = rows @ centre
    region = Region(
        f"{hostile}, {kind}, {relu_layers} ReLU layers, skip {skip}",
        layers, through, kind, layer, low, high, rows,
        at - width * rng.random(events), at + width * rng.random(events),
        np.zeros(0, dtype=np.int8), 0, centre,
    )  # fmt: skip
    z, logits = region.values(centre[None])
    signs = np.sign(z[0]) * (rng.random(z.shape[1]) < 0.6) * pattern
    return region._replace(pattern=signs.astype(np.int8), label=int(logits[0].argmax()))


def split_signs(region: Region, split: np.ndarray) -> np.ndarray:
    """``[2^j, u]``: what sign a leaf gives a unit."""
    signs = np.zeros((2 ** len(split), region.units), dtype=np.int64)
    if len(region.pattern):
        signs[:, -len(region.pattern) :] = region.pattern
    for leaf in range(len(signs)):
        for bit, unit in enumerate(split):
            signs[leaf, unit] = 1 if leaf & (1 << bit) else -1
    return signs


def draw_witness(
    rng: np.random.Generator, kernel: ModuleType, region: Region, size: float, splits: int = 2
) -> Any:
    """Slopes at the ends or inside, multipliers of either sign, splits of free units."""
    free = np.flatnonzero(np.ones(region.units))
    if len(region.pattern):
        given = np.zeros(region.units)
        given[-len(region.pattern) :] = region.pattern
        free = np.flatnonzero(given == 0)
    split = rng.permutation(free)[: int(rng.integers(0, splits + 1))].astype(np.int32)
    signs = split_signs(region, split)
    shape = (len(signs), len(region.rivals))
    slopes = rng.choice([0.0, 0.5, 1.0, 0.123], (*shape, region.units))
    betas = size * rng.random((*shape, region.units)) * (signs != 0)[:, None]
    betas *= rng.random(betas.shape) < 0.5
    multipliers = size * rng.normal(size=(*shape, len(region.rows)))
    multipliers *= rng.random(multipliers.shape) < 0.7
    return gate_of(kernel).RegionWitness(slopes, betas, multipliers, split)


def points_of(rng: np.random.Generator, region: Region, count: int = 400) -> np.ndarray:
    """Float points of the cell, many at the corners, edges and events of it; most in the cell."""
    a = len(region.low)
    low = np.maximum(region.low, 0.0) if region.kind == "post" else region.low
    low = np.minimum(low, region.high)
    within = rng.random((count, a))
    within = np.where(rng.random((count, a)) < 0.5, rng.integers(0, 2, (count, a)), within)
    points = np.where(within == 1, region.high, low + within * (region.high - low))
    # Towards the centre, where patterns and events hold.
    shrink = rng.choice([1.0, 1.0, 0.5, 0.1], (count, 1))
    near = region.centre + shrink * (points - region.centre)
    return np.concatenate(
        [np.clip(near, low, region.high), np.clip(region.centre, low, region.high)[None]]
    )


def least_margins(
    rng: np.random.Generator, region: Region, worst: int = 4
) -> Iterator[tuple[np.ndarray, list[Fraction]]]:
    """Exact points of the cell whose margins look least, with the exact margins."""
    points = points_of(rng, region)
    with np.errstate(over="ignore", invalid="ignore"):
        units, _ = region.values(points)
        margins = region.margins(points)
        events = points @ region.rows.T
    likely = np.ones(len(points), dtype=bool)
    if region.pattern.any():
        likely &= (units * region.pattern >= 0).all(axis=1)
    if len(region.rows):
        likely &= ((events >= region.row_low) & (events <= region.row_high)).all(axis=1)
    margins[~likely] = np.inf
    chosen = np.unique(np.argsort(margins, axis=0)[:worst])
    exact = fractions_of(points[chosen])
    exact = exact[region.holds(exact)]
    if len(exact):
        for point, values in zip(exact, region.margins(exact), strict=True):
            yield point, list(values)


@cache
def regions() -> tuple[Region, ...]:
    """Small regions of every kind; the same in every run."""
    rng = np.random.default_rng(2024)
    found = []
    for number in range(120):
        kind = ("pre", "post", "input")[number % 3]
        found.append(
            draw_region(
                rng,
                hostile=HOSTILE[number % 6 if number % 2 else 0],
                relu_layers=number // 3 % 3,
                kind=kind,
                width=(0.0, 0.3, 1.0, 3.0)[number // 2 % 4],
                events=number % 4,
                pattern=number % 5 < 3,
                skip=kind != "post" and number % 4 == 1,
            )
        )
    # So that every third or fourth of them is of every kind too.
    return tuple(found[i] for i in rng.permutation(len(found)))
