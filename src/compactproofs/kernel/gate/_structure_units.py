"""Units that do nothing on a cell, or nothing but pass numbers on: facts, and smaller networks.

Let ``l <= z <= u`` be proved of a unit on every point of a cell (``_region_bounds``; a pattern
counts, as it holds on the cell by membership). A unit with ``u <= 0`` is *dead*: ``relu(z) = 0``.
One with ``l >= 0`` is *stable*: ``relu(z) = z``. One whose row of outgoing weights is 0 is
*unused*, on any cell, and in layers without a ReLU too.

Theorem. Leave out dead and unused units, and the ReLU of layers of which all units left are
stable. On every point of the cell the logits are the same numbers: not approximately, and not
only their order. All these facts are about the same network on the same points, and a unit left
out contributes exactly 0, so they hold together.
"""

from dataclasses import replace
from typing import final

import numpy as np
from jaxtyping import Bool, Int8

from .._enclosure import check_arithmetic
from .._errors import MalformedError, RejectedError
from .._frozen import Immutable, frozen
from ._cell import Cell
from ._region_bounds import Leaves
from ._regions import region_leaves
from ._relu_network import ReluLayer, ReluNetwork
from ._sites import Sites

_SEAL = object()


@final
class UnitFacts(Immutable):
    """Which units are dead, stable or unused on a cell; ``unit_facts`` has bounded them all."""

    __slots__ = ("cell_id", "dead", "network_sha256", "sites_sha256", "stable", "unused")

    cell_id: str
    network_sha256: str
    sites_sha256: str
    dead: Bool[np.ndarray, " u"]
    """Of the units of ``Sites.pattern_layers``, as the pattern of the cell"""
    stable: Bool[np.ndarray, " u"]
    """A unit that is 0 throughout is both dead and stable"""
    unused: Bool[np.ndarray, " u"]

    def __init__(self, *, seal: object, **values: object) -> None:
        """Only ``unit_facts`` holds the seal."""
        if seal is not _SEAL:
            raise TypeError("UnitFacts come from unit_facts alone; run it on the cell")
        self._assign(**values)


@final
class Folded(Immutable):
    """A network that equals another on a cell, number by number: made by ``fold`` alone."""

    __slots__ = ("cell", "cell_id", "network", "network_sha256", "sites_sha256")

    network_sha256: str
    """The network that it is about"""
    sites_sha256: str
    cell_id: str
    """The cell on which it is equal"""
    network: ReluNetwork
    """The smaller one"""
    cell: Cell
    """Holds every point of the cell above, as a cell of the smaller network"""

    def __init__(self, *, seal: object, **values: object) -> None:
        """Only ``fold`` holds the seal."""
        if seal is not _SEAL:
            raise TypeError("Folded comes from fold alone; run it on facts of the cell")
        self._assign(**values)


def leaf_of(network: ReluNetwork, sites: Sites, cell: Cell) -> Leaves:
    """The ranges of all units on the cell, as the one leaf of no split.

    Raises RejectedError for a cell that has no points for certain, MalformedError for one that
    does not fit. Cost: two backward passes for each unit.
    """
    check_arithmetic()
    leaves = region_leaves(network, sites, cell, np.zeros(0, dtype=np.int32))
    if leaves.empty.any():
        raise RejectedError("no point is in this cell: whatever is said of its points is empty")
    return leaves


def unit_facts(network: ReluNetwork, sites: Sites, cell: Cell) -> UnitFacts:
    """Dead, stable and unused units after the cut, proved for every point of the cell.

    Raises RejectedError for a cell without points, MalformedError for one that does not fit.
    Cost: two backward passes for each unit.
    """
    leaves = leaf_of(network, sites, cell)
    dead, stable, unused = [], [], []
    for number in sites.pattern_layers(network):
        unit = leaves.units[number]
        dead.append(unit.high[0] <= 0)
        stable.append(unit.low[0] >= 0)
        unused.append(~network.layers[number].W.any(axis=1))
    nothing = np.zeros(0, dtype=bool)
    return UnitFacts(
        seal=_SEAL,
        cell_id=cell.id,
        network_sha256=network.sha256,
        sites_sha256=sites.sha256,
        dead=frozen(np.concatenate([nothing, *dead])),
        stable=frozen(np.concatenate([nothing, *stable])),
        unused=frozen(np.concatenate([nothing, *unused])),
    )


def require_about(fact: object, kind: type, network: ReluNetwork, sites: Sites, cell: Cell) -> None:
    """Refuse a fact about another network, other sites or another cell; raises MalformedError.

    A fact does not outlive a change of the network: derive it again on the changed one. What is
    not of this very kind is no fact, whatever it is like.
    """
    if type(fact) is not kind:
        raise MalformedError(f"a {type(fact).__name__} is no {kind.__name__}: derive one")
    about = tuple(getattr(fact, name) for name in ("network_sha256", "sites_sha256", "cell_id"))
    if about != (network.sha256, sites.sha256, cell.id):
        raise MalformedError(
            f"this {type(fact).__name__} is about cell {about[2][:12]} of network "
            f"{about[0][:12]}, not {cell.id[:12]} of {network.sha256[:12]}: derive it again"
        )


def fold(network: ReluNetwork, sites: Sites, cell: Cell, facts: UnitFacts) -> Folded:
    """The network without its dead and unused units and without ReLUs that do nothing.

    Law: on every point of the cell both networks have exactly the same logits, in real
    arithmetic. A layer keeps at least one unit. Raises MalformedError for facts about something
    else. Cost: copies the weights.
    """
    require_about(facts, UnitFacts, network, sites, cell)
    layers = list(network.layers)
    pattern: list[Int8[np.ndarray, " u"]] = []
    start = 0
    for number in range(sites.layer + 1, len(layers)):
        before, layer = layers[number - 1], layers[number]
        units = slice(start, start + network.widths[number] * layer.relu)
        start = units.stop
        left_out = (facts.dead | facts.unused)[units] if layer.relu else ~layer.W.any(axis=1)
        kept = np.asarray(~left_out)
        if not kept.any():
            kept[0] = True
        relu = layer.relu and not facts.stable[units][kept].all()
        layers[number - 1] = replace(before, W=before.W[:, kept], b=before.b[kept])
        layers[number] = ReluLayer(layer.W[kept], layer.b, bool(relu))
        if relu:
            pattern.append(cell.pattern[units][kept])
    smaller = ReluNetwork(tuple(layers), network.skip)
    carried = np.concatenate([np.zeros(0, dtype=np.int8), *pattern])
    return Folded(
        seal=_SEAL,
        network_sha256=network.sha256,
        sites_sha256=sites.sha256,
        cell_id=cell.id,
        network=smaller,
        cell=replace(cell, pattern=carried),
    )
