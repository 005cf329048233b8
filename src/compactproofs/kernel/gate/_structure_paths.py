"""Paths of a network that a cell does without: duplicates, and what is too small to matter.

**Relations.** Let ``e = z_j - sum_k c_k z_k``, units of one layer, be in ``[e-, e+]`` on a cell.
Then ``relu(z_j) - sum_k c_k relu(z_k)`` is

* in ``[e-, e+]`` if unit j and every unit k are stable, as ``relu(z) = z`` for all of them;
* in ``[min(e-, 0), max(e+, 0)]`` if there is one k and ``c_k >= 0``: it is
  ``relu(x + e) - relu(x)`` with ``x = c_k z_k``, and the ReLU is monotone and moves no two
  numbers apart;
* in ``[relu(e-), relu(e+)]`` if there is no k.

**Differences.** Let ``M`` and ``M'`` differ in weights alone, and ``d_i = z_i - z'_i`` in runs from
the same point of the cut, where ``d = 0``. With ``g = act(z_i) - act(z'_i)``,

    d_{i+1} = g W'_i + act(z_i) (W_i - W'_i) + b_i - b'_i,

where ``g = d`` without a ReLU or if both numbers are certainly not negative, ``g = 0`` if neither
is certainly positive, and otherwise ``min(d, 0) <= g <= max(d, 0)``. Where
``act(z_j) = sum_k c_k act(z_k) + e``, row j of ``R = W_i - W'_i`` may be moved:
``act(z) R = sum_k act(z_k) (R_k + c_k R_j) + ... + e R_j``; this is an identity, so it may be done
any number of times. In the last layer the same is done for differences of columns, so that
``d`` becomes ``margin_k - margin'_k``.

Theorem. If ``margin_k >= m_k`` and ``margin_k - margin'_k <= d_k < m_k`` on the cell for every
rival k, the label strictly wins in every point of the cell in ``M'`` too.

The units of ``M`` are shared by both runs; that is what makes the bound small. A fact is about
``M`` as it is: once a path is gone, other paths that stood in for it are no longer negligible, and
what was proved of them is about another network (``require_about`` refuses it).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import numpy as np
from jaxtyping import Float64

from .._enclosure import Ball
from .._errors import MalformedError, RejectedError
from .._frozen import Immutable, frozen
from .._ledger import Ledger
from ._cell import Cell
from ._region_bounds import Leaves
from ._regions import RegionWitness, region_bounds
from ._relu_network import ReluLayer, ReluNetwork
from ._sites import Sites
from ._structure_units import leaf_of, require_about

_SEAL = object()


@final
class Duplicate(Immutable):
    """``low <= act(z_unit) - sum_k c_k act(z_k) <= high`` on a cell; from ``duplicate`` alone."""

    __slots__ = (
        "cell_id", "coefficients", "high", "layer", "low", "network_sha256", "others",
        "sites_sha256", "unit",
    )  # fmt: skip

    network_sha256: str
    sites_sha256: str
    cell_id: str
    layer: int
    unit: int
    others: tuple[int, ...]
    coefficients: tuple[float, ...]
    low: float
    high: float

    def __init__(self, *, seal: object, **values: object) -> None:
        """Only ``duplicate`` holds the seal."""
        if seal is not _SEAL:
            raise TypeError("a Duplicate comes from duplicate alone; run it on the cell")
        self._assign(**values)


def duplicate(
    network: ReluNetwork,
    sites: Sites,
    cell: Cell,
    layer: int,
    unit: int,
    others: Sequence[int],
    coefficients: Sequence[float],
) -> Duplicate:
    """How far a unit's activation is from a combination of others' on a cell, at most.

    Law: the one of the class, in real arithmetic. layer: one of ``Sites.pattern_layers``.
    Raises MalformedError for units or numbers that do not fit; RejectedError for a cell without
    points, and where neither of the three rules above applies. Cost: two backward passes for each
    unit up to the layer.
    """
    leaves = leaf_of(network, sites, cell)
    f = _combination(network, sites, layer, unit, others, coefficients)
    low, high = _range(network, sites, cell, layer, f)
    ranges = leaves.units[layer]
    involved = [unit, *others]
    if not others:
        low, high = max(low, 0.0), max(high, 0.0)
    elif not (ranges.low[0, involved] >= 0).all():
        if len(others) > 1 or coefficients[0] < 0:
            raise RejectedError(
                f"unit {unit} of layer {layer} is not shown to be like {list(others)}: with more "
                "than one other unit, or a negative coefficient, all of them must be stable here"
            )
        low, high = min(low, 0.0), max(high, 0.0)
    return Duplicate(
        seal=_SEAL,
        network_sha256=network.sha256,
        sites_sha256=sites.sha256,
        cell_id=cell.id,
        layer=layer,
        unit=unit,
        others=tuple(others),
        coefficients=tuple(float(c) for c in coefficients),
        low=low,
        high=high,
    )


def _combination(
    network: ReluNetwork,
    sites: Sites,
    layer: int,
    unit: int,
    others: Sequence[int],
    coefficients: Sequence[float],
) -> Float64[np.ndarray, " a"]:
    """The form ``z_unit - sum_k c_k z_k`` of a layer."""
    if layer not in sites.pattern_layers(network):
        raise MalformedError(
            f"layer {layer!r} is none of {list(sites.pattern_layers(network))}, the layers with a "
            "ReLU after the cut"
        )
    units = [unit, *others]
    width = network.widths[layer]
    if len(set(units)) != len(units) or not all(type(n) is int and 0 <= n < width for n in units):
        raise MalformedError(
            f"units {units} are not different ones of the {width} of layer {layer}"
        )
    if len(coefficients) != len(others) or not np.isfinite(coefficients).all():
        raise MalformedError(f"{len(others)} units need as many finite coefficients")
    f = np.zeros(width)
    f[unit] = 1.0
    f[list(others)] = -np.asarray(coefficients, dtype=np.float64)
    return f


def _range(
    network: ReluNetwork, sites: Sites, cell: Cell, layer: int, f: Float64[np.ndarray, " a"]
) -> tuple[float, float]:
    """Bounds of ``f z_layer``: the margins of a network with the logits ``0, -f z, f z``."""
    head = ReluLayer(np.stack([np.zeros_like(f), -f, f], axis=1), np.zeros(3), relu=False)
    prefix = ReluNetwork((*network.layers[:layer], head))
    earlier = cell.pattern[: sites.pattern_size(prefix)]
    low, negative = region_bounds(prefix, sites, replace(cell, pattern=earlier, label=0)).tolist()
    return low, -negative


@final
class Negligible(Immutable):
    """Another network keeps the label on a cell; made by ``negligible`` alone."""

    __slots__ = (
        "cell", "cell_id", "difference", "network", "network_sha256", "remaining", "sites_sha256",
    )  # fmt: skip

    network_sha256: str
    """The network that is changed"""
    sites_sha256: str
    cell_id: str
    """The cell on which both have its label"""
    difference: Float64[np.ndarray, " r"]
    """Not below ``margin_k - margin'_k`` in any point of the cell"""
    remaining: Float64[np.ndarray, " r"]
    """Not above ``margin'_k`` in any point of the cell; positive"""
    network: ReluNetwork
    """The changed one"""
    cell: Cell
    """Holds every point of the cell above, as a cell of the changed network"""

    def __init__(self, *, seal: object, **values: object) -> None:
        """Only ``negligible`` holds the seal."""
        if seal is not _SEAL:
            raise TypeError("Negligible comes from negligible alone; run it on the cell")
        self._assign(**values)


def negligible(
    network: ReluNetwork,
    other: ReluNetwork,
    sites: Sites,
    cell: Cell,
    relations: Sequence[Duplicate] = (),
    witness: RegionWitness | None = None,
) -> Negligible:
    """``other`` has the cell's label wherever in the cell, because it is so near ``network``.

    Law: on every point of the cell ``margin_k - margin'_k <= difference_k`` and ``margin'_k >=
    remaining_k > 0`` for every rival k, in real arithmetic.

    other: a network of the same layers with other weights: a path is left out by a 0. relations:
    facts about ``network`` on this cell. witness: for the margins of ``network``.
    Raises RejectedError if ``remaining`` is not positive or the cell has no points; MalformedError
    for a network, relation or witness that does not fit. Cost: that of ``region_bounds``.
    """
    _require_same_shape(network, other, sites)
    for relation in relations:
        require_about(relation, Duplicate, network, sites, cell)
    leaves = leaf_of(network, sites, cell)
    ledger = Ledger()
    difference = _difference(network, other, sites, cell.label, leaves, relations, ledger)
    margins = region_bounds(network, sites, cell, witness)
    remaining = (Ball.exact(margins, ledger) - Ball.exact(difference, ledger)).lower()
    if not (remaining > 0).all():
        worst = int(np.argmin(remaining))
        raise RejectedError(
            f"without this path the margin of label {cell.label} may fall by "
            f"{difference[worst]:.6g}, and only {margins[worst]:.6g} is proved in this cell: leave "
            "out less, or narrow the cell"
        )
    return Negligible(
        seal=_SEAL,
        network_sha256=network.sha256,
        sites_sha256=sites.sha256,
        cell_id=cell.id,
        difference=frozen(difference),
        remaining=frozen(remaining),
        network=other,
        cell=replace(cell, pattern=_carried_pattern(network, other, sites, cell)),
    )


def _require_same_shape(network: ReluNetwork, other: ReluNetwork, sites: Sites) -> None:
    sites.require_fit(other)
    relus = [layer.relu for layer in network.layers]
    if network.widths != other.widths or relus != [layer.relu for layer in other.layers]:
        raise MalformedError(
            f"a network of widths {other.widths} is no change of weights of one of widths "
            f"{network.widths}: keep the layers and their ReLUs, and set weights to 0"
        )
    skip, same = (np.zeros(0) if net.skip is None else net.skip for net in (network, other))
    if not np.array_equal(skip, same):
        raise MalformedError("the skip connections differ: change the layers alone")


def _carried_pattern(
    network: ReluNetwork, other: ReluNetwork, sites: Sites, cell: Cell
) -> np.ndarray:
    """Signs of units are those of the changed network only before the first change."""
    pattern, start, same = np.zeros_like(cell.pattern), 0, True
    for number in range(sites.layer + 1, len(network.layers)):
        before, changed = network.layers[number - 1], other.layers[number - 1]
        same &= np.array_equal(before.W, changed.W) and np.array_equal(before.b, changed.b)
        if network.layers[number].relu:
            stop = start + network.widths[number]
            if same:
                pattern[start:stop] = cell.pattern[start:stop]
            start = stop
    return pattern


def _difference(
    network: ReluNetwork,
    other: ReluNetwork,
    sites: Sites,
    label: int,
    leaves: Leaves,
    relations: Sequence[Duplicate],
    ledger: Ledger,
) -> Float64[np.ndarray, " r"]:
    """Numbers not below ``margin_k - margin'_k``, for the rivals in order."""
    z = Ball.between(leaves.low, leaves.high, ledger)
    d = Ball.exact(np.zeros_like(leaves.low), ledger)
    for number in range(sites.layer, len(network.layers)):
        layer, changed = network.layers[number], other.layers[number]
        if layer.relu and not (sites.after_relu and number == sites.layer):
            unit = leaves.units[number]
            z = Ball.between(
                np.maximum(z.lower(), unit.low),
                np.maximum(np.minimum(z.upper(), unit.high), np.maximum(z.lower(), unit.low)),
                ledger,
            )
            d = _after_relu(z, d)
            z = Ball.between(np.maximum(z.lower(), 0.0), np.maximum(z.upper(), 0.0), ledger)
        W, b = Ball.exact(layer.W, ledger), Ball.exact(layer.b[None], ledger)
        V, c = Ball.exact(changed.W, ledger), Ball.exact(changed.b[None], ledger)
        if number == len(network.layers) - 1:
            W, b, V, c = (_margins(values, label) for values in (W, b, V, c))
        here = [relation for relation in relations if relation.layer == number]
        R, extra = _moved(W - V, here)
        through = z @ W + b
        d = d @ V + z @ R + (b - c) + extra
        z = through
    return d.upper()[0]


def _after_relu(z: Ball, d: Ball) -> Ball:
    """``relu(z) - relu(z - d)``."""
    other = z - d
    low, high = d.lower(), d.upper()
    both_on = (z.lower() >= 0) & (other.lower() >= 0)
    both_off = (z.upper() <= 0) & (other.upper() <= 0)
    low = np.where(both_on, low, np.where(both_off, 0.0, np.minimum(low, 0.0)))
    high = np.where(both_on, high, np.where(both_off, 0.0, np.maximum(high, 0.0)))
    return Ball.between(low, high, d.ledger)


def _margins(values: Ball, label: int) -> Ball:
    """Column ``label`` minus every other column."""
    rivals = np.delete(np.arange(values.shape[1]), label)
    return values[:, label, None] - values[:, rivals]


def _moved(R: Ball, relations: Sequence[Duplicate]) -> tuple[Ball, Ball]:
    """``R`` with the rows of units that a relation speaks of moved, and what that adds."""
    ledger = R.ledger
    extra = Ball.exact(np.zeros((1, R.shape[1])), ledger)
    for relation in relations:
        row = R[relation.unit, None]
        low, high = np.array([[relation.low]]), np.array([[relation.high]])
        extra = extra + Ball.between(low, high, ledger) * row
        taken = np.zeros((R.shape[0], 1))
        taken[list(relation.others), 0] = relation.coefficients
        keep = np.ones((R.shape[0], 1))
        keep[relation.unit] = 0.0
        kept = Ball(R.mid * keep, R.rad * keep, ledger)
        R = kept + Ball.exact(taken, ledger) * row
    return R, extra
