"""The laws of paths that a cell does without: duplicates, what is negligible, facts gone stale."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np

from .exact_margins import Region, fractions_of, gate_of
from .laws_of_gate_extremes import forged_facts
from .laws_of_gate_structure import (
    as_region,
    changed,
    drawn,
    exact_points,
    relabelled,
    units_and_folds,
)


def with_double(rng: np.random.Generator, region: Region) -> tuple[Region, int, list[int], Any]:
    """A unit of the last ReLU layer made like others: region, unit, others, coefficients."""
    layer = len(region.layers) - 1
    W, b, relu = region.layers[layer - 1]
    W, b = W.copy(), b.copy()
    count = min(int(rng.integers(0, 3)), W.shape[1] - 1)
    unit, *others = rng.permutation(W.shape[1])[: count + 1].tolist()
    c = rng.choice([0.5, 1.0, 2.0, 3.0, -1.0, -0.3], count)
    noise = (0.0, 1e-3, 0.3)[int(rng.integers(0, 3))]
    W[:, unit] = W[:, others] @ c + noise * rng.normal(size=len(W)) * (rng.random(len(W)) < 0.5)
    b[unit] = b[others] @ c + noise * rng.normal() + (0 if count else rng.normal())
    if count > 1 and rng.random() < 0.7:
        b[[unit, *others]] += 20.0  # stable, all of them
    region = relabelled(changed(region, layer - 1, W, b))
    return region, unit, others, c


def duplicates(kernel: ModuleType) -> Iterator[str]:
    """A unit is as near to a combination of others as stated."""
    gate = gate_of(kernel)
    for rng, region in drawn(92, 100):
        region, unit, others, c = with_double(rng, region)
        network, sites, cell = region.build(kernel)
        layer = len(region.layers) - 1
        points = exact_points(rng, region)
        if not len(points):
            continue
        try:
            found = gate.duplicate(network, sites, cell, layer, unit, others, c.tolist())
        except kernel.RejectedError:
            continue
        units = region.values(points)[0][:, -network.widths[layer] :]
        active = units * (units > 0)
        rest = active[:, unit] - active[:, others] @ fractions_of(c)
        if (rest < found.low).any() or (rest > found.high).any():
            yield f"{region.name}: {others} leave more of a unit than {found.low} .. {found.high}"


def negligible_paths(kernel: ModuleType) -> Iterator[str]:
    """A changed network's margins fall by no more than stated, and keep the label."""
    for rng, region in drawn(93, 100):
        if rng.random() < 0.4:
            yield from _without_double(kernel, rng, region)
        else:
            yield from _compared(kernel, rng, region, perturbed(rng, region), [])


def _without_double(kernel: ModuleType, rng: np.random.Generator, region: Region) -> Iterator[str]:
    """What a unit sends is sent by those that it is like."""
    region, unit, others, c = with_double(rng, region)
    last = len(region.layers) - 1
    try:
        arguments = (*region.build(kernel), last, unit, others, c.tolist())
        relation = gate_of(kernel).duplicate(*arguments)
    except kernel.RejectedError:
        return
    W = region.layers[last][0].copy()
    W[others] += c[:, None] * W[unit]
    W[unit] = 0.0
    yield from _compared(kernel, rng, region, changed(region, last, W), [relation])


def perturbed(rng: np.random.Generator, region: Region) -> Region:
    """Some weights after the cut left out or changed, in one layer or several."""
    factors = [1.0, 1.0, 1.0, 1.0, 0.99, 0.0, -1.0]
    for layer in range(region.layer, len(region.layers)):
        if rng.random() < 0.6:
            W, b, _ = region.layers[layer]
            by = rng.choice(factors[: int(rng.integers(5, 8))], W.shape)
            region = changed(region, layer, W * by, b * rng.choice(factors, b.shape))
    return region


def _compared(
    kernel: ModuleType,
    rng: np.random.Generator,
    region: Region,
    other: Region,
    relations: list[Any],
) -> Iterator[str]:
    network, sites, cell = region.build(kernel)
    gate = gate_of(kernel)
    points = exact_points(rng, region)
    if not len(points):
        return
    try:
        found = gate.negligible(network, other.build(kernel)[0], sites, cell, relations)
    except kernel.RejectedError:
        return
    falls = region.margins(points) - other.margins(points)
    if (falls > found.difference).any():
        yield f"{region.name}: a margin falls by {float(falls.max())}, not {found.difference}"
    if (other.margins(points) < found.remaining).any() or not (found.remaining > 0).all():
        yield f"{region.name}: less than {found.remaining} remains"
    if not as_region(region, found.network, found.cell).holds(points).all():
        yield f"{region.name}: the cell of a changed network lost points"


def small_paths(kernel: ModuleType) -> Iterator[str]:
    """One unit, whole numbers: every sign before and after a change, on a point and on a range."""
    signs = (-1.0, 1.0)
    gate = gate_of(kernel)
    sites = gate.Sites((gate.SiteGroup("x", "input", 1),), "x", 0)
    none, no_rows, free = np.zeros(0), np.zeros((0, 1)), np.zeros(1, dtype=np.int8)

    def network(w: float, b: float, v: float, c: float) -> Any:
        first = gate.ReluLayer(np.array([[w]]), np.array([b]), False)
        return gate.ReluNetwork(
            (first, gate.ReluLayer(np.array([[v, 0.0]]), np.array([9.0 + c, 0.0]), True))
        )

    def margin(x: float, w: float, b: float, v: float, c: float) -> float:
        return 9.0 + c + v * max(w * x + b, 0.0)

    before = product(signs, (-1.0, 0.5), (-1.0, 2.0), (0.0,))
    after = product(signs, (-1.0, 0.5), (-1.0, 2.0), (0.0, 1.0))
    for old, new, (low, high) in product(before, after, ((1.0, 1.0), (-1.0, 2.0))):
        cell = gate.Cell(np.array([low]), np.array([high]), no_rows, none, none, free, 0)
        try:
            found = gate.negligible(network(*old), network(*new), sites, cell)
        except kernel.RejectedError:
            continue
        for x in (low, high, 0.5 * (low + high)):
            fall = margin(x, *old) - margin(x, *new)
            if fall > found.difference[0] or margin(x, *new) < found.remaining[0]:
                yield f"from {old} to {new} a margin falls by {fall}, not {found.difference}"
                return


def small_doubles(kernel: ModuleType) -> Iterator[str]:
    """A unit that is twice another: what it sends, sent by the other, is the same."""
    gate = gate_of(kernel)
    sites = gate.Sites((gate.SiteGroup("x", "input", 1),), "x", 0)
    none, no_rows = np.zeros(0), np.zeros((0, 1))
    for w, first, second in product((-1.0, 1.0), repeat=3):
        layers = (
            gate.ReluLayer(np.array([[w, 2 * w]]), np.array([1.0, 2.0]), False),
            gate.ReluLayer(np.array([[first, 0.0], [second, 0.0]]), np.array([99.0, 0.0]), True),
        )
        W = np.array([[first + 2 * second, 0.0], [0.0, 0.0]])
        other = gate.ReluNetwork((layers[0], replace(layers[1], W=W)))
        both = gate.ReluNetwork(layers)
        for box in ((np.array([-2.0]), np.array([2.0])), (np.zeros(1), np.full(1, 0.5))):
            cell = gate.Cell(*box, no_rows, none, none, np.zeros(2, dtype=np.int8), 0)
            relation = gate.duplicate(both, sites, cell, 1, 1, [0], [2.0])
            found = gate.negligible(both, other, sites, cell, [relation])
            if found.difference[0] < 0:
                yield f"two equal networks are told apart by {found.difference}"


def stale_facts(kernel: ModuleType) -> Iterator[str]:
    """Two units that stand in for each other: either may go, and then the other may not."""
    gate = gate_of(kernel)
    layers = (
        gate.ReluLayer(np.eye(1), np.zeros(1), False),
        gate.ReluLayer(np.ones((1, 2)), np.zeros(2), False),
        gate.ReluLayer(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([-1.5, 0.0]), True),
    )
    both = gate.ReluNetwork(layers)

    def without(*units: int) -> Any:
        W = layers[2].W.copy()
        W[list(units)] = 0.0
        return gate.ReluNetwork((*layers[:2], replace(layers[2], W=W)))

    sites = gate.Sites((gate.SiteGroup("x", "input", 1),), "x", 0)
    pattern, no_rows = np.zeros(2, dtype=np.int8), np.zeros((0, 1))
    box = (np.array([2.0]), np.array([2.2]))
    cell = gate.Cell(*box, no_rows, np.zeros(0), np.zeros(0), pattern, 0)
    found = gate.negligible(both, without(0), sites, cell)
    gate.negligible(both, without(1), sites, cell)
    other_cell = replace(cell, high=cell.high + 1.0)
    double = gate.duplicate(both, sites, cell, 2, 0, [1], [1.0])
    facts = gate.unit_facts(both, sites, cell)
    for network, where, what in (
        (found.network, found.cell, "network"),
        (both, other_cell, "cell"),
    ):
        for attempt in (
            lambda n=network, c=where: gate.fold(n, sites, c, facts),
            lambda n=network, c=where: gate.negligible(n, n, sites, c, [double]),
        ):
            try:
                attempt()
            except kernel.MalformedError:
                continue
            yield f"a fact about another {what} is used"
    for network in (both, found.network):
        try:
            gate.negligible(network, without(0, 1), sites, cell)
        except kernel.RejectedError:
            continue
        yield "two units that back each other up are both called negligible"


LAWS = (stale_facts, small_paths, small_doubles, duplicates, negligible_paths)


def of_paths(kernel: ModuleType) -> Iterator[str]:
    """All laws of this file, the quickest first."""
    for law in LAWS:
        yield from law(kernel)


def of_units(kernel: ModuleType) -> Iterator[str]:
    """What facts about units rest on: the network that they are about."""
    yield from stale_facts(kernel)
    yield from forged_facts(kernel)
    yield from units_and_folds(kernel)


WEAK_SPOTS = {"gate/_structure_paths.py": of_paths, "gate/_structure_units.py": of_units}
"""Where a defect of a file shows soonest."""
