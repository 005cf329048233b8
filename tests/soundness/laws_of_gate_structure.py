"""The laws of facts about the structure of a network on a cell, against exact points of it."""

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from .exact_margins import Region, draw_region, draw_witness, fractions_of, gate_of, points_of


def drawn(seed: int, count: int, **how: Any) -> Iterator[tuple[np.random.Generator, Region]]:
    """Regions of every kind of cut with a ReLU after it, small cells among them."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        kind = ("pre", "post", "input")[number % 3]
        options = {
            "hostile": ("plain", "plain", "ties", "plain", "tiny", "cancelling")[number // 3 % 6],
            "relu_layers": 1 + number % 2,
            "kind": kind,
            "width": (0.0, 0.1, 0.4, 1.0)[number // 2 % 4],
            "events": number % 3,
            "pattern": number % 4 < 2,
            "skip": kind != "post" and number % 5 == 1,
        }
        yield rng, draw_region(rng, **(options | how))


def exact_points(rng: np.random.Generator, region: Region, count: int = 9) -> np.ndarray:
    """Points of the cell, exactly, its corners first."""
    points = fractions_of(points_of(rng, region, count))
    return points[region.holds(points)]


def as_region(region: Region, network: Any, cell: Any) -> Region:
    """A changed network and its cell, for exact values and membership."""
    layers = tuple((layer.W, layer.b, layer.relu) for layer in network.layers)
    return region._replace(
        layers=layers, skip=network.skip, pattern=cell.pattern, label=cell.label,
        low=cell.low[1:], high=cell.high[1:], rows=cell.rows[:, 1:],
        row_low=cell.row_low, row_high=cell.row_high,
    )  # fmt: skip


def changed(region: Region, layer: int, W: np.ndarray, b: np.ndarray | None = None) -> Region:
    """The region with other weights in one layer."""
    layers = list(region.layers)
    layers[layer] = (W, layers[layer][1] if b is None else b, layers[layer][2])
    return region._replace(layers=tuple(layers))


def relabelled(region: Region) -> Region:
    """With the label and, where the pattern speaks, the signs of the point in the middle."""
    z, logits = region.values(region.centre[None])
    signs = (np.sign(z[0]) * (region.pattern != 0)).astype(np.int8)
    return region._replace(label=int(logits[0].argmax()), pattern=signs)


def units_and_folds(kernel: ModuleType) -> Iterator[str]:
    """Dead and stable units are; without them, and without unused ones, nothing changes."""
    gate = gate_of(kernel)
    for rng, region in drawn(91, 60, pattern=True, sizes=(3, 5)):
        last = len(region.layers) - 1
        W = region.layers[last][0] * (rng.random((len(region.layers[last][0]), 1)) < 0.7)
        region = relabelled(changed(region, last, W))
        if rng.random() < 0.3:
            layers = (*region.layers[:-1], (*region.layers[-1][:2], False))
            signs = region.pattern[: len(region.pattern) - len(W)]
            region = relabelled(region._replace(layers=layers, pattern=signs))
        network, sites, cell = region.build(kernel)
        points = exact_points(rng, region)
        if not len(points):
            continue
        facts = gate.unit_facts(network, sites, cell)
        units, logits = region.values(points)
        if (units[:, facts.dead] > 0).any() or (units[:, facts.stable] < 0).any():
            yield f"{region.name}: a unit called dead or stable is not"
        folded = gate.fold(network, sites, cell, facts)
        smaller = as_region(region, folded.network, folded.cell)
        if (smaller.values(points)[1] != logits).any():
            yield f"{region.name}: a folded network has other logits"
        if not smaller.holds(points).all():
            yield f"{region.name}: the cell of a folded network lost points"


def irrelevant_sites(kernel: ModuleType) -> Iterator[str]:
    """Whatever the free sites of a point of the cell are set to, the label wins."""
    gate = gate_of(kernel)
    yield from _tempting(kernel)
    for rng, region in drawn(94, 90, width=0.3):
        network, sites, cell = region.build(kernel)
        free = np.flatnonzero(rng.random(len(region.low)) < 0.6)
        if not len(free):
            continue
        reach = rng.choice([0.5, 2.0, 5.0], (2, len(free)))
        low, high = region.low[free] - reach[0], region.high[free] + reach[1]
        if region.kind == "post":
            low = np.where(rng.random() < 0.8, np.maximum(low, 0.0), low)
        witness = None
        try:
            if rng.random() < 0.5:
                wide = gate.widened(sites, cell, (free + 1).tolist(), low, high)
                drawing = as_region(region, network, wide)
                witness = draw_witness(rng, kernel, drawing, 0.1, splits=1)
            sites_of = (free + 1).tolist()
            found = gate.irrelevant(network, sites, cell, sites_of, low, high, witness)
        except (kernel.RejectedError, kernel.MalformedError):
            continue
        points = exact_points(rng, region)
        if not len(points):
            continue
        where = rng.random((len(points), len(free)))
        where = np.where(rng.random(where.shape) < 0.8, np.round(where), where)
        points[:, free] = fractions_of(np.clip(low + where * (high - low), low, high))
        if region.margins(points).min() <= 0:
            yield f"{region.name}: sites {free.tolist()} matter, which are called irrelevant"
        if not (found.certified.cell_id == found.wide.id and found.cell_id == cell.id):
            yield f"{region.name}: the certificate of irrelevance is about another cell"


def _tempting(kernel: ModuleType) -> Iterator[str]:
    """Certificates that would hold if edits kept the events, or kept out of negative numbers."""
    gate = gate_of(kernel)
    W, one = np.array([[1.0, 0.0], [1.0, 0.0]]), np.ones((1, 1, 1))
    none = np.zeros((1, 1, 0))
    for kind, relu in (("pre", False), ("post", True)):
        network = gate.ReluNetwork(
            (
                gate.ReluLayer(np.eye(2), np.zeros(2), False),
                gate.ReluLayer(W, np.array([0.5, 0.0]), relu),
            )
        )
        sites = gate.Sites((gate.SiteGroup("cut", kind, 2),), "cut", 1)
        rows, ends = np.ones((1, 2)), (np.array([0.5]), np.array([2.0]))
        box = (np.zeros(2), np.ones(2)) if relu else (-np.ones(2), np.ones(2))
        cell = gate.Cell(*box, rows, *ends, np.zeros(0, dtype=np.int8), 0)
        for wide in (gate.RegionWitness(none, none, one, np.zeros(0, np.int32)), None):
            try:
                gate.irrelevant(network, sites, cell, [0], np.array([-3.0]), np.array([3.0]), wide)
            except (kernel.RejectedError, kernel.MalformedError):
                continue
            yield f"a {kind} site is free to -3, where the margin is -2.5 or more"


def lines_and_features(kernel: ModuleType) -> Iterator[str]:
    """Margins are above their lines, and above what features add up to."""
    gate = gate_of(kernel)
    for rng, region in (*drawn(95, 40), *drawn(95, 20, kind="pre", skip=True, width=0.0)):
        network, sites, cell = region.build(kernel)
        points = exact_points(rng, region)
        if not len(points):
            continue
        size, rivals = len(region.low), len(region.rivals)
        A = rng.choice([0.0, 0.7, 3.0]) * rng.normal(size=(size, rivals))
        witness = draw_witness(rng, kernel, region, 0.1) if rng.random() < 0.5 else None
        line = gate.margin_line(network, sites, cell, A, witness)
        slopes = fractions_of(line.slope)
        least = points @ slopes + fractions_of(line.start)
        if (region.margins(points) < least - np.abs(points) @ fractions_of(line.radius)).any():
            yield f"{region.name}: a margin is below its line"
        decoder = rng.integers(-2, 3, (3, size)) / 4
        features = rng.integers(0, 4, (len(points), 3)) / 2
        residual = rng.integers(0, 3, size) / 8
        rest = rng.choice([-1, 1, 0.5], (len(points), size)) * residual
        for point, f, r in zip(points, features, rest, strict=True):
            away = point - fractions_of(f) @ fractions_of(decoder) - fractions_of(r)
            bias = np.array([float(x) for x in away])
            if (fractions_of(bias) != away).any():
                continue
            table = gate.feature_sum(line, decoder, bias, residual)
            if (region.margins(point[None])[0] < table.bounds(f[None])[0]).any():
                yield f"{region.name}: features add up to more than a margin"


def merged_cells(kernel: ModuleType) -> Iterator[str]:
    """A cell is held by another only if every point of it is in the other."""
    gate = gate_of(kernel)
    for rng, region in drawn(96, 150, events=2, pattern=True):
        network, _, cell = region.build(kernel)
        first = replace(
            cell, rows=cell.rows[:1], row_low=cell.row_low[:1], row_high=cell.row_high[:1]
        )
        free = replace(cell, pattern=0 * cell.pattern)
        inner = (cell, first, free)[int(rng.integers(0, 3))]
        outer = replace(
            cell,
            low=_stretched(rng, cell.low, np.concatenate([[-np.inf], region.centre]), -1),
            high=_stretched(rng, cell.high, np.concatenate([[np.inf], region.centre]), 1),
            row_low=_stretched(rng, cell.row_low, region.rows @ region.centre, -1),
            row_high=_stretched(rng, cell.row_high, region.rows @ region.centre, 1),
            pattern=cell.pattern * (rng.random(len(cell.pattern)) < rng.choice([0.5, 1.0])),
        )
        if not gate.holds(outer, inner):
            continue
        points = exact_points(rng, as_region(region, network, inner), 60)
        if not as_region(region, network, outer).holds(points).all():
            yield f"{region.name}: a cell is called held by one that lacks points of it"
        elsewhere = outer.rows.copy()
        elsewhere[0, 0] = 1.0
        if gate.holds(replace(outer, rows=elsewhere), inner):
            yield f"{region.name}: an event of a site without range is called a consequence"
        if gate.holds(replace(outer, label=outer.label + 1), inner):
            yield f"{region.name}: a cell of another label is held"


def _stretched(
    rng: np.random.Generator, ends: np.ndarray, centre: np.ndarray, way: int
) -> np.ndarray:
    """Ends moved out, or a little in but not past the centre; many are left alone."""
    by = rng.choice([0.0, 0.0, 0.0, 0.0, 0.3, 3.0, -0.05], ends.shape)
    further = ends + way * by * (np.isfinite(ends))
    return np.minimum(further, centre) if way < 0 else np.maximum(further, centre)


LAWS = (units_and_folds, irrelevant_sites, lines_and_features, merged_cells)
WEAK_SPOTS = {
    "gate/_structure_irrelevance.py": irrelevant_sites,
    "gate/_structure_lines.py": lines_and_features,
    "gate/_structure_merge.py": merged_cells,
}
"""Where a defect of a file shows soonest."""
