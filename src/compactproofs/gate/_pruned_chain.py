"""What is left of a network on one cell, as a plain chain of Linear and ReLU that can be saved.

``prune`` leaves the ReLU out of layers of which all units are stable. A chain has one there: put
back, it changes nothing on the cell if the units that are left are stable on it, which is proved
again here on what is left.
"""

from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64

from ..kernel import UserError
from ..kernel.gate import Cell, ReluNetwork, Sites, unit_facts
from ..kernel.gate._conditions import Conditions
from ._gate import Gate
from ._prune import Pruned, prune

Tensors = dict[str, Float32[np.ndarray, "..."] | Float64[np.ndarray, "..."]]


class PrunedCell(NamedTuple):
    """A cell of a gate, and the smaller network that keeps its answer on it."""

    cell: str
    mass: Fraction
    """Not above the probability of the cell, by the ledger"""
    pruned: Pruned
    dead: int
    stable: int
    """Units after the cut, on the whole cell, before anything is left out; dead ones not among
    them"""


def most_probable_cell(gate: Gate) -> tuple[str, Fraction]:
    """The certified cell of the largest lower probability, and that; the first of equal ones.

    Raises UserError in a closed gate, and without a certified cell.
    """
    if gate.closed is not None:
        raise UserError(f"{gate.ledger.path}: the gate is closed: {gate.closed}")
    certified = gate.admission.obligations.certificates
    if not certified:
        raise UserError(f"{gate.ledger.path} has no certified cell: run gate explain first")
    conditions = _conditions(gate)
    masses = {name: conditions.lower_mass(name) for name in certified}
    best = max(masses, key=lambda name: masses[name])
    return best, masses[best]


def prune_cell(gate: Gate, cell: str | None = None, *, exact: bool = False) -> PrunedCell:
    """Prune the gate's network on one certified cell; by default the most probable one.

    cell: its id, or the first characters of it. exact: keep the logits as they are. Raises
    UserError for no such cell, RejectedError if its certificate needs the witness's slopes.
    """
    best, mass = most_probable_cell(gate)
    obligations = gate.admission.obligations
    if cell is not None:
        found = [name for name in obligations.certificates if cell and name.startswith(cell)]
        if len(found) != 1:
            raise UserError(
                f"cell {cell!r}: {len(found)} certified cells begin so, of "
                f"{len(obligations.certificates)}: give more of its id, as gate report shows it"
            )
        best, mass = found[0], _conditions(gate).lower_mass(found[0])
    held, network, sites = obligations.cells[best], gate.network, gate.sites
    facts = unit_facts(network, sites, held)
    witness = obligations.certificates[best].certified.witness
    pruned = prune(network, sites, held, witness, negligible_paths=not exact)
    return PrunedCell(
        best, mass, pruned, int(facts.dead.sum()), int((facts.stable & ~facts.dead).sum())
    )


def chain_of(pruned: Pruned, sites: Sites) -> ReluNetwork:
    """The pruned network with a ReLU between each two layers, equal to it on its cell.

    Raises UserError for a network with a skip connection, and if a ReLU that is put back may do
    something on the cell.
    """
    network, cell = pruned.network, pruned.cell
    if network.skip is not None or network.layers[0].relu:
        raise UserError(
            "the network is no plain chain of Linear and ReLU (it has a skip connection): only "
            "such a network can be written"
        )
    layers = tuple(replace(layer, relu=n > 0) for n, layer in enumerate(network.layers))
    chain = ReluNetwork(layers)
    if chain.sha256 == network.sha256:
        return chain
    wide = _with_pattern(chain, sites, cell, pruned)
    facts, start, same = unit_facts(chain, sites, wide), 0, True
    for number in sites.pattern_layers(chain):
        units = slice(start, start + chain.widths[number])
        start = units.stop
        same &= network.layers[number].relu or bool(facts.stable[units].all())
    if not same:
        raise UserError(
            "what is left is no plain chain of Linear and ReLU, and none in its place is equal to "
            "it for certain: prune exactly, or on another cell"
        )
    return chain


def tensors_of(chain: ReluNetwork) -> Tensors:
    """The state of the torch.nn.Sequential: float32 if that holds every weight, else float64."""
    values = [a for layer in chain.layers for a in (layer.W, layer.b)]
    small = all(bool((a.astype(np.float32) == a).all()) for a in values)
    found: Tensors = {}
    for number, layer in enumerate(chain.layers):
        for name, array in (("weight", layer.W.T), ("bias", layer.b)):
            found[f"{2 * number}.{name}"] = _as(array, small)
    return found


def _as(array: Float[np.ndarray, "..."], small: bool) -> Float[np.ndarray, "..."]:
    return np.ascontiguousarray(array, dtype=np.float32 if small else np.float64)


def _conditions(gate: Gate) -> Conditions:
    return Conditions(gate.opened, gate.admission.obligations)


def _with_pattern(chain: ReluNetwork, sites: Sites, cell: Cell, pruned: Pruned) -> Cell:
    """The cell with a free pattern where a ReLU was put back."""
    parts, start = [], 0
    for number in sites.pattern_layers(chain):
        width = chain.widths[number]
        if pruned.network.layers[number].relu:
            parts.append(cell.pattern[start : start + width])
            start += width
        else:
            parts.append(np.zeros(width, dtype=np.int8))
    return replace(cell, pattern=np.concatenate([cell.pattern[:0], *parts]))
