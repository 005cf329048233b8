"""Attacks on a network of the gate's benchmarks: past the gate, and inside one of its cells."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from compactproofs.kernel.gate import Cell, ReluNetwork, Sites

EPS = 0.12
"""How far a pixel may be moved, of 0 .. 1"""


def layers_of(network: ReluNetwork) -> Callable[[torch.Tensor, int], list[torch.Tensor]]:
    """``z_layer``, which is given, to the logits, in float64 and differentiable."""
    layers = [(torch.tensor(la.W), torch.tensor(la.b), la.relu) for la in network.layers]

    def forward(z: torch.Tensor, layer: int = 0) -> list[torch.Tensor]:
        seen = [z]
        for W, b, relu in layers[layer:]:
            seen.append((seen[-1].relu() if relu else seen[-1]) @ W + b)
        return seen

    return forward


def within(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """The nearest point of a box."""
    return torch.minimum(torch.maximum(x.detach(), low), high)


def projected_ascent(network: ReluNetwork, x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """40 steps from a random start, the last point kept: an attack as sure of itself as it gets."""
    forward, labels = layers_of(network), torch.tensor(y)
    low, high = torch.tensor(np.maximum(x - EPS, 0.0)), torch.tensor(np.minimum(x + EPS, 1.0))
    start = x + np.random.default_rng(seed).uniform(-EPS, EPS, x.shape)
    here = within(torch.tensor(start), low, high)
    for _ in range(40):
        here.requires_grad_()
        loss = torch.nn.functional.cross_entropy(forward(here, 0)[-1], labels)
        (gradient,) = torch.autograd.grad(loss, here)
        here = within(here + EPS / 8 * gradient.sign(), low, high)
    return here.numpy()


def towards_cells(
    network: ReluNetwork,
    sites: Sites,
    cells: Sequence[Cell],
    x: np.ndarray,
    y: np.ndarray,
    judge: Callable[[np.ndarray, np.ndarray], np.ndarray],
    steps: int = 40,
) -> dict[str, int]:
    """The enemy knows the cells: for each wrong class, downhill in the distance to its nearest one.

    The distance is the sum of what each inequality of a cell misses. Counts rows of which
    ``judge(points, rows)`` said yes to some point on the way (fooled), and rows that can come into
    the input's range of some cell of a wrong class at all (reachable): for the others it is proved
    that nothing within eps is admitted wrongly.
    """
    forward, pixels = layers_of(network), sites.slice("x")
    fooled, reachable = np.zeros(len(x), dtype=bool), np.zeros(len(x), dtype=bool)
    for target in sorted({cell.label for cell in cells}):
        of_target = [cell for cell in cells if cell.label == target]
        low = np.maximum(np.maximum(x - EPS, 0.0), of_target[0].low[pixels])
        high = np.minimum(np.minimum(x + EPS, 1.0), of_target[0].high[pixels])
        here = (y != target) & (low <= high).all(axis=1)
        reachable |= here
        rows = np.flatnonzero(here & ~fooled)
        if not len(rows):
            continue
        least, most = torch.tensor(low[rows]), torch.tensor(high[rows])
        missing = _distance(forward, sites, of_target)
        point = within(torch.tensor(x[rows]), least, most)
        for step in range(steps):
            point.requires_grad_()
            (gradient,) = torch.autograd.grad(missing(point), point)
            size = EPS / 4 * (1 - step / steps)
            point = within(point - size * gradient.sign(), least, most)
            if step % 10 == 9:
                fooled[rows[judge(point.numpy(), rows)]] = True
    return {"rows": len(x), "fooled": int(fooled.sum()), "reachable": int(reachable.sum())}


def _distance(
    forward: Callable[[torch.Tensor, int], list[torch.Tensor]], sites: Sites, cells: list[Cell]
) -> Callable[[torch.Tensor], torch.Tensor]:
    cut = sites.cut_slice

    def stacked(name: str) -> torch.Tensor:
        return torch.tensor(np.stack([getattr(cell, name) for cell in cells]))

    low, high, rows = stacked("low")[:, cut], stacked("high")[:, cut], stacked("rows")[:, :, cut]
    row_low, pattern = stacked("row_low"), stacked("pattern")

    def distance(x: torch.Tensor) -> torch.Tensor:
        z = forward(x, 0)
        missing = (low - z[1][:, None]).relu().sum(2) + (z[1][:, None] - high).relu().sum(2)
        evidence = torch.einsum("crs,ns->ncr", rows, z[1])
        missing = missing + (row_low + 1e-3 - evidence).relu().sum(2)
        missing = missing + (-pattern * z[2][:, None]).relu().sum(2)
        return missing.min(dim=1).values.sum()

    return distance


def broken(
    network: ReluNetwork, sites: Sites, cell: Cell, corners: int, rng: np.random.Generator
) -> bool:
    """Whether random corners of a box at the cut, or 20 ascents from the worst, lose its label."""
    forward, cut = layers_of(network), sites.cut_slice

    def margins(z: torch.Tensor) -> torch.Tensor:
        logits = forward(z, sites.layer)[-1]
        others = torch.cat([logits[:, : cell.label], logits[:, cell.label + 1 :]], dim=1)
        return logits[:, cell.label] - others.max(dim=1).values

    low, high = torch.tensor(cell.low[cut]), torch.tensor(cell.high[cut])
    up = torch.tensor(rng.random((corners, len(low))) < 0.5)
    points = torch.where(up, high, low)
    here = margins(points)
    found = bool((here <= 0).any())
    point = points[here.argsort()[:20]]
    for _ in range(30):
        point.requires_grad_()
        here = margins(point)
        found |= bool((here <= 0).any())
        (gradient,) = torch.autograd.grad(here.sum(), point)
        point = within(point - 0.1 * (high - low) * gradient.sign(), low, high)
    return found or bool((margins(point) <= 0).any())
