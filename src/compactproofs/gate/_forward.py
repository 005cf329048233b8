"""What a network does on given inputs, at all sites: float32, as a deployed model computes."""

import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from ..kernel import UserError
from ..kernel.gate import ReluNetwork, SiteGroup, Sites


class Activations(NamedTuple):
    """Of n inputs, the values at all sites and the outputs (float32 numbers as float64)."""

    h: Float64[np.ndarray, "n s"]
    outputs: Float64[np.ndarray, "n x"]


def activations(network: ReluNetwork, sites: Sites, x: Float[np.ndarray, "n a"]) -> Activations:
    """Run the network in float32 on inputs ``x``, one by one, and read off the sites.

    The cut is ``z_layer``; another group of kind input is ``x``, ``pre2`` is ``z_2`` and ``post2``
    is ``relu(z_2)`` (the number at the end of its name). Raises UserError for groups of other
    kinds, which the caller must compute, and for inputs of another shape. Cost: a forward pass.
    """
    if x.ndim != 2 or x.shape[1] != network.widths[0]:
        raise UserError(f"inputs of shape {x.shape}: the network takes [n, {network.widths[0]}]")
    z: list[np.ndarray] = [x.astype(np.float32)]
    with np.errstate(over="ignore", invalid="ignore"):
        for layer in network.layers:
            active = np.maximum(z[-1], 0) if layer.relu else z[-1]
            z.append(_product(active, layer.W) + layer.b.astype(np.float32))
        if network.skip is not None:
            z[-1] = z[-1] + _product(z[0], network.skip)
    h = np.concatenate([_values(group, sites, z) for group in sites.groups], axis=1)
    return Activations(h.astype(np.float64), z[-1].astype(np.float64))


def _product(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Row by row: one input's numbers must not depend on what it is computed together with."""
    single = weight.astype(np.float32)
    return np.stack([row @ single for row in rows]) if len(rows) else rows @ single


def _values(group: SiteGroup, sites: Sites, z: list[np.ndarray]) -> np.ndarray:
    if group.name == sites.cut:
        layer = sites.layer
    elif group.kind == "input":
        layer = 0
    else:
        number = re.search(r"([0-9]+)$", group.name)
        if group.kind not in ("pre", "post") or number is None:
            raise UserError(
                f"the sites {group.name} ({group.kind}) are not the network's own: compute them "
                "and pass Activations(h, outputs)"
            )
        layer = int(number[1])
    if layer >= len(z) or z[layer].shape[1] != group.size:
        raise UserError(f"the sites {group.name} are {group.size}, layer {layer} has other sizes")
    return np.maximum(z[layer], 0) if group.kind == "post" else z[layer]
