"""A small network, and gates on it that hold one of everything."""

from pathlib import Path

import numpy as np

from compactproofs.gate import Activations, Gate
from compactproofs.kernel.gate import Cell, ReluLayer, ReluNetwork, SiteGroup, Sites, answers

RNG = np.random.default_rng(3)
NETWORK = ReluNetwork(
    (
        ReluLayer(RNG.normal(size=(4, 5)), RNG.normal(size=5), False),
        ReluLayer(RNG.normal(size=(5, 3)), RNG.normal(size=3), True),
    )
)
SITES = Sites((SiteGroup("pre1", "pre", 5),), "pre1", 1)
INPUTS = RNG.normal(size=(60, 4))


def box(h: np.ndarray, label: int, radius: float = 0.05) -> Cell:
    nothing = np.zeros(0)
    return Cell(
        h - radius, h + radius, np.zeros((0, len(h))), nothing, nothing, np.zeros(0, np.int8), label
    )


def near(centre: np.ndarray, count: int, seed: int = 0) -> Activations:
    """Activations around one point, with the outputs that the network gives from them."""
    noise = np.random.default_rng(seed).normal(size=(count, len(centre)))
    h = centre + 0.01 * noise
    last = NETWORK.layers[1]
    return Activations(h, np.maximum(h, 0) @ last.W + last.b)


def confident(gate: Gate) -> tuple[int, Cell]:
    """The input about which the network is most certain, and a cell around it."""
    h, outputs = gate.activations(INPUTS)
    ordered = np.sort(outputs, axis=1)
    number = int((ordered[:, -1] - ordered[:, -2]).argmax())
    return number, box(h[number], int(answers(outputs)[number]))


def full_gate(path: Path, **settings: object) -> tuple[Gate, int, Cell]:
    """A gate with one region that admits, by its own risk; the input in its middle, its cell."""
    given = {"alpha": "1/10", "rho": "1/5", "delta": "1/5"} | settings
    gate = Gate.create(path, NETWORK, SITES, **given)  # type: ignore[arg-type]
    number, cell = confident(gate)
    gate.add_region(cell)
    gate.add_mass(cell.id, take=100, alpha="1/100")
    gate.add_risk(cell.id, alpha="1/100")
    data = near((cell.low + cell.high) / 2, 100)
    gate.observe(data, answers(data.outputs))
    gate.count_all()
    return gate, number, cell
