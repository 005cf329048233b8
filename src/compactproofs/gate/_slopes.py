"""Better witnesses: slopes and sign multipliers by gradient ascent, each leaf of a split apart.

Nothing here is trusted: any slopes in 0 .. 1 and any betas not below 0 give true bounds, and the
kernel computes them again.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int8, Int32

from ..kernel.gate import RegionWitness
from ._extras import needed
from ._suffix import Ranges, Suffix


class Optimised(NamedTuple):
    """The best that was found."""

    bounds: Float64[np.ndarray, "l r"]
    """Lower bounds of the margins on each leaf; infinite where no point is"""
    witness: RegionWitness
    """Of a cell without events"""


def leaf_signs(suffix: Suffix, split: Int32[np.ndarray, " j"]) -> Int8[np.ndarray, "l u"]:
    """Every combination of signs of the split units, in the order of a witness's leaves."""
    leaves = np.arange(1 << len(split))
    signs = np.zeros((len(leaves), suffix.units), dtype=np.int8)
    for bit, unit in enumerate(split.tolist()):
        signs[:, unit] = np.where(leaves >> bit & 1, 1, -1)
    return signs


def optimise_slopes(
    suffix: Suffix,
    label: int,
    low: Float64[np.ndarray, " s"],
    high: Float64[np.ndarray, " s"],
    split: Int32[np.ndarray, " j"],
    steps: int,
    enough: float,
) -> Optimised:
    """The best bounds of ``steps`` gradient steps, or of as many as it takes to exceed ``enough``.

    The box is at the cut. Raises UserError without torch (unless ``steps`` is 0). Cost: a backward
    pass through ``2^j`` leaves a step.
    """
    signs = leaf_signs(suffix, split)
    leaves, rivals = len(signs), suffix.outputs - 1
    ranges = suffix.ranges(np.tile(low, (leaves, 1)), np.tile(high, (leaves, 1)), signs)
    labels = np.full(leaves, label)
    start = suffix.default_slopes(ranges)
    # Of a box, a ReLU's value may be anything from 0 up, whatever the other sites are: slope 0
    # and the chord lose nothing there.
    start[:, : suffix.pattern_start] = 0.0
    bounds = suffix.least(suffix.margins(labels, ranges, start), ranges)
    bounds = np.where(ranges.empty[:, None], np.inf, bounds)
    slopes = np.repeat(start[:, None], rivals, axis=1)
    betas = np.zeros_like(slopes)
    if steps and not (bounds > enough).all():
        ascent = _Ascent(needed("torch", "optimise_slopes"), suffix, label, ranges, signs, slopes)
        for _ in range(steps):
            found, tried, multipliers = ascent.step()
            better = found > bounds
            bounds = np.where(better, found, bounds)
            slopes = np.where(better[:, :, None], tried, slopes)
            betas = np.where(better[:, :, None], multipliers, betas)
            if (bounds > enough).all():
                break
    events = np.zeros((leaves, rivals, 0))
    return Optimised(bounds, RegionWitness(slopes, betas, events, split))


class _Ascent:
    """Adam on the bounds of all leaves and rivals, each with parameters of its own."""

    def __init__(
        self,
        torch: Any,
        suffix: Suffix,
        label: int,
        ranges: Ranges,
        signs: Int8[np.ndarray, "l u"],
        slopes: Float64[np.ndarray, "l r u"],
    ) -> None:
        self._torch, self._suffix = torch, suffix
        tensor = torch.tensor
        self._layers = [(tensor(layer.W), tensor(layer.b)) for layer in suffix.layers]
        rows = tensor(suffix.differences(np.array([label]))[0])
        self._start = rows @ self._layers[-1][0].T, rows @ self._layers[-1][1]
        self._skip = None if suffix.skip is None else rows @ tensor(suffix.skip).T
        self._low = [tensor(low)[:, None] for low in ranges.low]
        self._high = [tensor(high)[:, None] for high in ranges.high]
        self._signs = tensor(signs.astype(np.float64))[:, None]
        self._slopes = tensor(slopes).clone().requires_grad_()
        self._betas = torch.zeros_like(self._slopes).requires_grad_()
        self._adam = torch.optim.Adam([self._slopes, self._betas], lr=0.1)

    def step(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bounds of the present parameters, and those; then a step uphill."""
        torch = self._torch
        bounds = self._bounds()
        now = bounds, self._slopes, self._betas
        found = tuple(values.detach().numpy().copy() for values in now)
        self._adam.zero_grad()
        (-bounds.sum()).backward()
        self._adam.step()
        with torch.no_grad():
            self._slopes.clamp_(0.0, 1.0)
            self._betas.clamp_(min=0.0)
            self._betas.mul_(self._signs != 0)
        return found[0], found[1], found[2]

    def _bounds(self) -> Any:
        """Of every leaf and rival, ``[l r]``: the backward pass of ``_suffix``, with betas."""
        torch, suffix = self._torch, self._suffix
        A, k = self._start
        for number in range(len(self._layers) - 1, -1, -1):
            if suffix.relus[number]:
                low, high = self._low[number], self._high[number]
                units = suffix.unit_slices[number]
                undecided = (low < 0) & (high > 0)
                chord = torch.where(undecided, high, 0.0) / torch.where(undecided, high - low, 1.0)
                negative = undecided & (A < 0)
                k = k + (torch.where(negative, A, 0.0) * (-chord * low)).sum(2)
                crossing = torch.where(negative, chord, self._slopes[:, :, units])
                A = A * torch.where(undecided, crossing, torch.where(low >= 0, 1.0, 0.0))
                A = A - self._betas[:, :, units] * self._signs[:, :, units]
            if number:
                W, b = self._layers[number - 1]
                A, k = A @ W.T, k + A @ b
        if self._skip is not None:
            A = A + self._skip
        low, high = self._low[0], self._high[0]
        return k + (A.clamp(min=0.0) * low + A.clamp(max=0.0) * high).sum(2)
