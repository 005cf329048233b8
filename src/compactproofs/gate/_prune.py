"""A smaller network that keeps a cell's property: one fact at a time, the next one proved anew.

A fact is about the network that it was derived on. Two units that stand in for each other are
each negligible, and not both: so after every change the next fact is derived on what is left, and
the kernel refuses older ones.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from ..kernel import RejectedError
from ..kernel.gate import (
    Cell,
    Certified,
    Duplicate,
    Folded,
    Negligible,
    RegionWitness,
    ReluNetwork,
    Sites,
    certify_region,
    duplicate,
    fold,
    negligible,
    unit_facts,
)
from ._suffix import Suffix

_SAMPLES = 512


class Pruned(NamedTuple):
    """A chain of networks, each proved to keep the label of the cell before."""

    network: ReluNetwork
    cell: Cell
    """Holds every point of the cell that was asked about"""
    steps: tuple[Folded | Negligible, ...]
    duplicates: tuple[Duplicate, ...]
    """The relations that steps rest on"""
    certified: Certified | None
    """Of the last network on the last cell; None if the steps prove it and this bound does not"""

    @property
    def exact(self) -> bool:
        """Whether the logits are the same numbers on the cell, not only the answer."""
        return all(isinstance(step, Folded) for step in self.steps)


def prune(
    network: ReluNetwork,
    sites: Sites,
    cell: Cell,
    witness: RegionWitness | None = None,
    *,
    negligible_paths: bool = True,
    seed: int = 0,
) -> Pruned:
    """Leave out what a certified cell does without: dead, stable, duplicate, negligible, in order.

    Raises RejectedError if the cell has no certificate to begin with. witness: for that
    certificate. negligible_paths: False keeps the logits exactly. Cost: two region bounds for each
    unit after the cut.
    """
    certify_region(network, sites, cell, witness)
    steps: list[Folded | Negligible] = []
    relations: list[Duplicate] = []
    network, cell = _folded(network, sites, cell, steps)
    if negligible_paths:
        network, cell = _merged(network, sites, cell, steps, relations, seed)
        network, cell = _thinned(network, sites, cell, steps, seed)
    certified = None
    try:
        certified = certify_region(network, sites, cell)
    except RejectedError:
        pass
    return Pruned(network, cell, tuple(steps), tuple(relations), certified)


def _folded(
    network: ReluNetwork, sites: Sites, cell: Cell, steps: list[Folded | Negligible]
) -> tuple[ReluNetwork, Cell]:
    facts = unit_facts(network, sites, cell)
    found = fold(network, sites, cell, facts)
    if found.network.sha256 == network.sha256:
        return network, cell
    steps.append(found)
    return found.network, found.cell


def _inside(sites: Sites, cell: Cell, seed: int) -> Float64[np.ndarray, "n s"]:
    """Random points of the cell's box at the cut."""
    cut = sites.cut_slice
    low = np.maximum(cell.low[cut], 0.0) if sites.after_relu else cell.low[cut]
    part = np.random.default_rng(seed).random((_SAMPLES, len(low)))
    return low + part * (cell.high[cut] - low)


def _merged(
    network: ReluNetwork,
    sites: Sites,
    cell: Cell,
    steps: list[Folded | Negligible],
    relations: list[Duplicate],
    seed: int,
) -> tuple[ReluNetwork, Cell]:
    """Units that a multiple of another one can replace, until there is none left."""
    while True:
        for layer, unit, other, times in _alike(network, sites, cell, seed):
            try:
                relation = duplicate(network, sites, cell, layer, unit, [other], [times])
                W = network.layers[layer].W.copy()
                W[other] += times * W[unit]
                W[unit] = 0.0
                found = negligible(network, _with(network, layer, W), sites, cell, [relation])
            except RejectedError:
                continue
            relations.append(relation)
            steps.append(found)
            network, cell = _folded(found.network, sites, found.cell, steps)
            break
        else:
            return network, cell


def _alike(
    network: ReluNetwork, sites: Sites, cell: Cell, seed: int
) -> list[tuple[int, int, int, float]]:
    """Pairs of units of one layer that are proportional on samples: layer, unit, other, factor."""
    suffix = Suffix(network, sites)
    units = suffix.forward(_inside(sites, cell, seed))[0]
    found: list[tuple[float, int, int, int, float]] = []
    for layer in sites.pattern_layers(network):
        z = units[:, suffix.unit_slices[layer - sites.layer]]
        squares = (z * z).sum(axis=0)
        for unit in range(z.shape[1]):
            for other in range(z.shape[1]):
                if unit == other or not squares[other]:
                    continue
                times = float(z[:, unit] @ z[:, other] / squares[other])
                left = float(((z[:, unit] - times * z[:, other]) ** 2).sum())
                if times > 0 and left <= 1e-3 * squares[unit]:
                    found.append((left, layer, unit, other, times))
    return [each[1:] for each in sorted(found)]


def _thinned(
    network: ReluNetwork,
    sites: Sites,
    cell: Cell,
    steps: list[Folded | Negligible],
    seed: int,
) -> tuple[ReluNetwork, Cell]:
    """Units left out as long as the label is proved without them, those that matter least first."""
    refused: set[bytes] = set()
    while True:
        for layer, unit in _least_first(network, sites, cell, seed):
            # Numbers of units change as others go; what comes in tells them apart.
            name = network.layers[layer - 1].W[:, unit].tobytes() + bytes([layer % 256])
            if name in refused:
                continue
            W = network.layers[layer].W.copy()
            W[unit] = 0.0
            try:
                found = negligible(network, _with(network, layer, W), sites, cell)
            except RejectedError:
                refused.add(name)
                continue
            steps.append(found)
            network, cell = _folded(found.network, sites, found.cell, steps)
            break
        else:
            return network, cell


def _least_first(
    network: ReluNetwork, sites: Sites, cell: Cell, seed: int
) -> list[tuple[int, int]]:
    """Units after the cut with outgoing weights, by the size of what they send on samples."""
    z = _inside(sites, cell, seed)
    sizes = []
    for number in range(sites.layer, len(network.layers)):
        layer = network.layers[number]
        if layer.relu and not (sites.after_relu and number == sites.layer):
            z = np.maximum(z, 0.0)
        if number > sites.layer:
            sent = np.abs(z).max(axis=0) * np.abs(layer.W).max(axis=1)
            sizes += [(s, number, unit) for unit, s in enumerate(sent.tolist()) if s]
        z = z @ layer.W + layer.b
    return [(layer, unit) for _, layer, unit in sorted(sizes)]


def _with(network: ReluNetwork, layer: int, W: Float64[np.ndarray, "a b"]) -> ReluNetwork:
    layers = list(network.layers)
    layers[layer] = replace(layers[layer], W=W)
    return ReluNetwork(tuple(layers), network.skip)
