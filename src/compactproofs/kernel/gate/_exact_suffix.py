"""What comes after a cut, in exact integers: logits of a rational point, and along a line.

Weights are dyadic numbers, so a layer is integers over one power of two. A point with the common
denominator ``q`` is a row of integers and the homogeneous coordinate ``q``: with ``W = V 2^-e``
and ``b = c 2^-e``,

    2^e (z W + b) q = (q z) V + q c,

so integers pass through, and the coordinate becomes ``2^e q``. It stays positive: the sign of a
unit is the sign of its integer.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import lcm
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from .._errors import MalformedError
from ._relu_network import ReluNetwork
from ._sites import Sites

Integers = Any
"""A numpy array of Python integers (dtype object)."""


class ExactLayer(NamedTuple):
    """``act(z) W + b`` times ``2^shift``."""

    relu: bool
    """Whether a ReLU acts on what comes in"""
    W: Integers
    b: Integers
    shift: int


class ExactSuffix(NamedTuple):
    """The layers from a cut to the logits; ``skip`` is in the units of the last layer."""

    layers: tuple[ExactLayer, ...]
    skip: Integers | None
    """What the cut adds to the logits, times ``2^(sum of all shifts)``"""


def exact_suffix(network: ReluNetwork, sites: Sites) -> ExactSuffix:
    """The layers after the cut as integers; raises ModelError if the sites do not fit.

    Cost: reads every weight; the last few networks are kept.
    """
    sites.require_fit(network)
    return _suffix(network, sites.layer, sites.after_relu)


@lru_cache(maxsize=8)
def _suffix(network: ReluNetwork, first: int, after_relu: bool) -> ExactSuffix:
    layers, total = [], 0
    for number, layer in enumerate(network.layers[first:], first):
        values, shift = _integers(np.concatenate([layer.W, layer.b[None]]))
        relu = layer.relu and not (after_relu and number == first)
        layers.append(ExactLayer(relu, values[:-1], values[-1], shift))
        total += shift
    if network.skip is None:
        return ExactSuffix(tuple(layers), None)
    skip, shift = _integers(network.skip)
    if shift > total:
        last = layers[-1]
        by = shift - total
        layers[-1] = ExactLayer(last.relu, last.W << by, last.b << by, last.shift + by)
        total = shift
    return ExactSuffix(tuple(layers), skip << (total - shift))


def _integers(values: Float64[np.ndarray, "..."]) -> tuple[Integers, int]:
    """``values = integers 2^-shift`` with the least shift that is not negative."""
    ratios = [value.as_integer_ratio() for value in values.reshape(-1).tolist()]
    shift = max(denominator for _, denominator in ratios).bit_length() - 1
    found = np.empty(len(ratios), dtype=object)
    found[:] = [
        numerator << (shift - (denominator.bit_length() - 1)) for numerator, denominator in ratios
    ]
    return found.reshape(values.shape), shift


def homogeneous(point: Sequence[Fraction]) -> tuple[Integers, int]:
    """Integers and their common positive denominator."""
    common = lcm(*(value.denominator for value in point))
    found = np.empty(len(point), dtype=object)
    found[:] = [value.numerator * (common // value.denominator) for value in point]
    return found, common


def exact_margins(
    network: ReluNetwork, sites: Sites, point: Sequence[Fraction], label: int
) -> tuple[Fraction, ...]:
    """``logit(label) - logit(k)`` at a rational point of the cut, for the other outputs in order.

    point: one number for each site of the cut, in order. Raises MalformedError for another length
    or a label that is no output, ModelError for sites that do not fit. Cost: one pass in integers.
    """
    suffix = exact_suffix(network, sites)
    if len(point) != sites.cut_group.size:
        raise MalformedError(
            f"a point of {len(point)} numbers, but the cut {sites.cut} has "
            f"{sites.cut_group.size} sites"
        )
    require_label(network, label)
    z, one = homogeneous(point)
    start = z
    for layer in suffix.layers:
        active = np.where(z > 0, z, 0) if layer.relu else z
        z = active @ layer.W + one * layer.b
        one <<= layer.shift
    if suffix.skip is not None:
        z = z + start @ suffix.skip
    return tuple(Fraction(z[label] - z[k], one) for k in range(network.outputs) if k != label)


def require_label(network: ReluNetwork, label: int) -> None:
    """Refuse a label that is no output; raises MalformedError."""
    if type(label) is not int or not 0 <= label < network.outputs:
        raise MalformedError(f"the label {label!r} is none of {network.outputs} outputs")
