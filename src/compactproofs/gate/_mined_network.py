"""What the discovery loop looks at in a network: events of all its sites, and the layer below."""

import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int

from ..kernel.gate import ReluNetwork, SiteGroup, Sites
from ._events import Variable, class_variable, direction_bins, site_bins, site_signs
from ._forward import activations
from ._source import Batch
from .propose import LayerBelow


def variables_of(sites: Sites, mined: Batch, bins: int = 2) -> list[Variable]:
    """The class, then a variable of every site that is not constant on the mined inputs.

    Inputs and activations get ``bins`` quantile bins; a feature fires or not; a read-out of the
    logits tells the class, and each logit less the mean of all is binned. Cost: a sort of each.
    """
    readouts = [group for group in sites.groups if group.kind == "readout"]
    exact = [group for group in readouts if group.size == mined.outputs.shape[1]]
    readout = sites.slice(exact[0].name) if exact else None
    found = [class_variable(mined.outputs.shape[1], sites.size, readout)]
    for group in sites.groups:
        place = sites.slice(group.name)
        columns = range(place.start, place.stop)
        if group.kind == "feature":
            varied = [i for i in columns if len(np.unique(mined.h[:, i] > 0)) == 2]
            found += site_signs(group.name, place.start, sites.size, varied)
        elif group.kind != "readout":
            found += site_bins(group.name, place.start, mined.h, columns, bins)
    if readout is not None:
        size = readout.stop - readout.start
        rows = np.zeros((size, sites.size))
        rows[:, readout] = np.eye(size) - 1.0 / size
        found += direction_bins("logits", [f"logit {c}" for c in range(size)], rows, mined.h, bins)
    return found


def layers_below(
    network: ReluNetwork,
    sites: Sites,
    x: Float64[np.ndarray, "n a"],
    classes: Int[np.ndarray, " n"] | None = None,
) -> Mapping[str, LayerBelow]:
    """For every group ``pre1``, ``pre2``, ...: its weights and the moments of what they act on.

    ``x`` are the mined inputs; with ``classes``, the means are by class and the covariance is that
    within the classes. Cost: a forward pass and a covariance for each group.
    """
    found = {}
    for group in sites.groups:
        number = re.fullmatch(r"pre([1-9][0-9]*)", group.name)
        if group.kind != "pre" or number is None:
            continue
        below = int(number[1]) - 1
        single = SiteGroup("z", "pre", network.widths[below])
        z = activations(network, Sites((single,), "z", below), x).h
        layer = network.layers[below]
        acts = np.maximum(z, 0.0) if layer.relu else z
        start = sites.slice(group.name).start
        found[group.name] = moments_below(acts, layer.W, layer.b, start, classes)
    return found


def moments_below(
    h: Float64[np.ndarray, "n a"],
    W: Float64[np.ndarray, "a g"],
    b: Float64[np.ndarray, " g"],
    start: int,
    classes: Int[np.ndarray, " n"] | None = None,
) -> LayerBelow:
    """Of ``h W + b``: the mean and covariance of h; means by class and that within, if given."""
    labels = np.zeros(len(h), dtype=np.int64) if classes is None else classes
    counts = np.bincount(labels)
    present = np.flatnonzero(counts)
    mean = np.stack([h[labels == c].mean(axis=0) for c in present])
    centred = h - mean[np.searchsorted(present, labels)]
    shares = counts[present] / len(h)
    return LayerBelow(W, b, mean, centred.T @ centred / len(h), shares, len(h), start)
