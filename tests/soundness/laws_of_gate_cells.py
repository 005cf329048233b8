"""The laws of the gate's networks, cells and table of cells.

Membership is compared with exact rationals, of points at boundaries and a rounding from them.
"""

from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from .exact_margins import Region, fractions_of, gate_of, regions
from .laws_of_gate_extremes import layouts, subnormal_eps

_HAIR = Fraction(1, 10**9)


def forward_passes(kernel: ModuleType) -> Iterator[str]:
    """Every layer's ball holds the exact numbers of a run, from the cut on."""
    enclosure = import_module(f"{kernel.__name__}._enclosure")
    ledger = import_module(f"{kernel.__name__}._ledger").Ledger()
    for region in regions():
        network, sites, _ = region.build(kernel)
        point = np.maximum(region.centre, 0.0) if region.kind == "post" else region.centre
        ball = enclosure.Ball.exact(point[None], ledger)
        balls = network.forward(ball, sites.layer, sites.after_relu)
        units, logits = region.values(fractions_of(point)[None])
        numbers = range(sites.layer + 1, len(region.layers))
        later = [
            z for number, z in zip(numbers, balls[1:-1], strict=True) if network.layers[number].relu
        ]
        wanted = [*np.split(units, np.cumsum([z.shape[1] for z in later]), axis=1)[:-1], logits]
        for z, exact in zip([*later, balls[-1]], wanted, strict=True):
            off = np.abs(fractions_of(z.mid) - exact)
            if (off > fractions_of(z.rad)).any() or (
                z.rad > 1e-9 * (1 + np.abs(z.mid).max())
            ).any():
                yield f"{region.name}: a forward pass is enclosed wrongly, or loosely"
                break


def digests(kernel: ModuleType) -> Iterator[str]:
    """Any other number, size, ReLU or skip connection gives a cell or a network another digest."""
    gate: Any = gate_of(kernel)
    W, b, u = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([5.0, 6.0]), np.array([7.0, 8.0])
    networks = [
        gate.ReluNetwork((gate.ReluLayer(V, c, relu), gate.ReluLayer(W, b, True)), skip)
        for V, c in ((W, b), (W.T, b), (W, u), (-W, b))
        for relu in (False, True)
        for skip in (None, W, W + 1)
    ]
    if len({network.sha256 for network in networks}) != len(networks):
        yield "two networks have one digest"
    zeros = [gate.ReluNetwork((gate.ReluLayer(W, z * b, False),)).sha256 for z in (0.0, -0.0)]
    if zeros[0] != zeros[1]:
        yield "-0.0 has another digest than 0.0"
    first = (
        -b,
        b,
        np.array([[1.0, 2.0]]),
        np.array([3.0]),
        np.array([4.0]),
        np.array([0], np.int8),
        0,
    )
    others = (
        -u,
        u,
        np.array([[2.0, 1.0]]),
        np.array([2.0]),
        np.array([5.0]),
        np.array([1], np.int8),
        1,
    )
    cells = [gate.Cell(*first)]
    cells += [gate.Cell(*first[:i], others[i], *first[i + 1 :]) for i in range(7)]
    if len({cell.id for cell in cells}) != len(cells):
        yield "two cells have one digest"
    if any(gate.Cell.from_arrays(cell.to_arrays()).id != cell.id for cell in cells):
        yield "a cell that is stored and read is another cell"


def memberships(kernel: ModuleType) -> Iterator[str]:
    """A point is in a cell only if all points about it are; and if they are by a hair, it is.

    Also when few points are taken at a time.
    """
    rng = np.random.default_rng(78)
    module: Any = import_module(f"{kernel.__name__}.gate._cell_table")
    before = module._BLOCK
    try:
        for number, region in enumerate(regions()[::3]):
            module._BLOCK = (before, 1, 64)[number % 3]
            kept = region if number % 4 else region._replace(pattern=0 * region.pattern)
            yield from _memberships_of(kernel, rng, kept)
    finally:
        module._BLOCK = before


def _memberships_of(kernel: ModuleType, rng: np.random.Generator, region: Region) -> Iterator[str]:
    network, sites, cell = region.build(kernel)
    for eps in (0.0, 0.01):
        table = gate_of(kernel).CellTable(network, sites, [cell, cell], eps)
        points = _near_boundaries(rng, region, eps)
        found = table.inside(np.concatenate([np.zeros((len(points), 1)), points], axis=1))
        if (found[:, 0] != found[:, 1]).any():
            yield f"{region.name}: one cell, two answers"
        exact = fractions_of(points)
        certain = _ball_inside(region, exact, Fraction(eps) + _hair(region))
        for point, inside, surely in zip(exact, found[:, 0], certain, strict=True):
            if surely and not inside:
                yield f"{region.name}: refused with eps = {eps}, far from any boundary"
                break
            if inside and not _some_of_ball_inside(rng, region, point, Fraction(eps)):
                yield f"{region.name}: admitted with eps = {eps}, not all about it is inside"
                break


def _hair(region: Region) -> Fraction:
    return _HAIR if "plain" in region.name or "ties" in region.name else Fraction(10**40)


def _near_boundaries(rng: np.random.Generator, region: Region, eps: float) -> np.ndarray:
    """Points inside, at the ends, ``eps`` from them, one step of the last place either way."""
    low, high = region.low, region.high
    ends = [low, high, low + eps, high - eps, region.centre]
    ends += [np.nextafter(e, way) for e in ends[:4] for way in (-np.inf, np.inf)]
    points = np.array([rng.choice(column, 16) for column in np.array(ends).T]).T
    points = np.where(rng.random(points.shape) < 0.7, region.centre, points)
    points = np.concatenate([points, *_at_exits(rng, region)])
    return np.maximum(points, 0.0) if region.kind == "post" else points


def _at_exits(rng: np.random.Generator, region: Region) -> tuple[np.ndarray, ...]:
    """The last points of rays that look inside, the first that do not, and points before them."""
    way = rng.normal(size=(12, len(region.low)))
    near, far = np.zeros((12, 1)), np.full((12, 1), 10.0)
    for _ in range(60):
        middle = 0.5 * (near + far)
        points = region.centre + middle * way
        events = points @ region.rows.T
        inside = np.asarray(((points >= region.low) & (points <= region.high)).all(axis=1))
        inside &= ((events >= region.row_low) & (events <= region.row_high)).all(axis=1)
        inside &= (region.values(points)[0] * region.pattern >= 0).all(axis=1)
        near = np.where(inside[:, None], middle, near)
        far = np.where(inside[:, None], far, middle)
    return tuple(region.centre + t * way for t in (near, far, 0.999 * near))


def _ball_inside(region: Region, points: np.ndarray, eps: Fraction) -> np.ndarray:
    """Whether intervals of exact numbers show all points within ``eps`` to be in the cell."""
    low, high = fractions_of(region.low), fractions_of(region.high)
    below = points - eps
    inside = ((below >= low) & (points + eps <= high)).all(axis=1)
    if len(region.rows):
        rows = fractions_of(region.rows)
        events, reach = points @ rows.T, eps * np.abs(rows).sum(axis=1)
        inside &= ((events - reach >= region.row_low) & (events + reach <= region.row_high)).all(
            axis=1
        )
    if region.pattern.any():
        z, radius, seen = points, np.full(points.shape, eps), []
        for number in range(region.layer, len(region.layers) - 1):
            W, b, relu = region.layers[number]
            if relu and number >= region.first_unit:
                z = np.where(z > 0, z, 0 * z)
            z, radius = z @ fractions_of(W) + fractions_of(b), radius @ np.abs(fractions_of(W))
            if region.layers[number + 1][2]:
                signs = region.pattern[len(seen) :][: z.shape[1]]
                seen += list(signs)
                inside &= (z * signs >= radius * np.abs(signs)).all(axis=1)
    return inside


def _some_of_ball_inside(
    rng: np.random.Generator, region: Region, point: np.ndarray, eps: Fraction
) -> bool:
    """Whether corners of the ball, and the ones that an event or a unit points to, are inside."""
    signs = rng.choice([-1, 1], (6, len(point)))
    signs = np.concatenate([signs, *(s * np.sign(region.rows) for s in (1, -1))])
    first = region.layers[region.layer][0].T
    signs = np.concatenate([signs, np.sign(first), -np.sign(first)]).astype(int)
    about = point + eps * signs
    if region.kind == "post":
        about = np.where(about > 0, about, 0 * about)
    return bool(region.holds(np.concatenate([point[None], about])).all())


def monotone_memberships(kernel: ModuleType) -> Iterator[str]:
    """A larger ``eps`` admits nothing more, and a point's answer does not depend on the others."""
    rng = np.random.default_rng(79)
    gate: Any = gate_of(kernel)
    for region in regions()[::5]:
        network, sites, cell = region.build(kernel)
        points = np.concatenate([_near_boundaries(rng, region, eps) for eps in (0.0, 1e-3)])
        h = np.concatenate([np.zeros((len(points), 1)), points], axis=1)
        before = np.ones((len(h), 1), dtype=bool)
        for eps in (0.0, 1e-320, 1e-300, 1e-17, 1e-16, 1e-9, 1e-3, 0.1, 1e3):
            table = gate.CellTable(network, sites, [cell], eps)
            found = table.inside(h)
            if (found & ~before).any():
                yield f"{region.name}: eps = {eps} admits what a smaller one refuses"
            alone = np.concatenate([table.inside(one[None]) for one in h[:10]])
            if (alone != found[:10]).any():
                yield f"{region.name}: a point alone has another answer"
            if any(
                bool(table.failing(p, 0)) == f for p, f in zip(h[:10], found[:10, 0], strict=True)
            ):
                yield f"{region.name}: reasons to refuse what is inside, or none for what is not"
            before = found
        table = gate.CellTable(network, sites, [cell], 0.0)
        wild = np.array([[0.0, *region.centre]] * 5)
        wild[np.arange(5), [0, 0, 0, 1, -1]] = (np.nan, np.inf, -np.inf, np.inf, np.nan)
        if table.inside(wild).any():
            yield f"{region.name}: a point that is no number is inside"


LAWS = (forward_passes, digests, monotone_memberships, memberships)


def of_networks(kernel: ModuleType) -> Iterator[str]:
    """The laws of networks, and digests of cells."""
    yield from forward_passes(kernel)
    yield from digests(kernel)


def of_memberships(kernel: ModuleType) -> Iterator[str]:
    """The laws of the table of cells."""
    yield from layouts(kernel)
    yield from subnormal_eps(kernel)
    yield from memberships(kernel)
    yield from monotone_memberships(kernel)


WEAK_SPOTS = {
    "gate/_relu_network.py": of_networks,
    "gate/_cell.py": of_networks,
    "gate/_cell_table.py": of_memberships,
}
