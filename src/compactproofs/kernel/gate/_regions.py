"""Region certificates: in every point of a cell the label's logit is the largest, by a margin.

What a search found is a witness: slopes, multipliers and splits. Any witness gives a true bound
(``_region_bounds``), a bad one a weak bound; so a certificate is made by computing the bound
again, here and nowhere else.
"""

from typing import Final, NamedTuple, final

import numpy as np
from jaxtyping import Float64, Int32

from .._enclosure import Ball, check_arithmetic
from .._errors import MalformedError, RejectedError
from .._frozen import Immutable, frozen
from .._ledger import Ledger
from ._cell import Cell
from ._evaluations import evaluation_error
from ._region_bounds import Choices, Leaves, enter_leaves, margin_bounds
from ._relu_network import ReluNetwork
from ._sites import Sites

MAX_SPLITS: Final = 10
_BLOCK: Final = 1 << 19  # numbers of a coefficient array at a time


class RegionWitness(NamedTuple):
    """What to choose on each of ``2^j`` leaves, for each of the ``outputs - 1`` rivals in order.

    Units are those of ``Sites.unit_layers``, layer by layer; events are the rows of the cell.
    """

    slopes: Float64[np.ndarray, "l r u"]
    """Of the lines below undecided units, in 0 .. 1"""
    betas: Float64[np.ndarray, "l r u"]
    """Not negative; without effect on a unit that neither pattern nor split gives a sign"""
    multipliers: Float64[np.ndarray, "l r e"]
    """Of ``row_low`` where positive, of ``row_high`` where negative"""
    split: Int32[np.ndarray, " j"]
    """Units without a pattern; bit i of a leaf's number set: ``split[i]`` is on there, else off"""


_SEAL = object()


@final
class Certified(Immutable):
    """Proof that a cell has its property: ``certify_region`` computed the margin itself."""

    __slots__ = ("cell_id", "envelope", "margin", "network_sha256", "sites_sha256", "witness")

    cell_id: str
    network_sha256: str
    sites_sha256: str
    margin: float
    """Not above ``logit(label) - logit(k)`` in any point of the cell, for any other output k"""
    envelope: float
    """Half of what a float32 evaluation of the difference can be off, at most"""
    witness: RegionWitness | None

    def __init__(
        self,
        cell: Cell,
        network: ReluNetwork,
        sites: Sites,
        margin: float,
        envelope: float,
        witness: RegionWitness | None,
        *,
        seal: object,
    ) -> None:
        """Only ``certify_region`` holds the seal."""
        if seal is not _SEAL:
            raise TypeError("Certified comes from certify_region alone; run it on the cell")
        self._assign(
            cell_id=cell.id,
            network_sha256=network.sha256,
            sites_sha256=sites.sha256,
            margin=margin,
            envelope=envelope,
            witness=None if witness is None else RegionWitness(*map(frozen, witness)),
        )


def certify_region(
    network: ReluNetwork, sites: Sites, cell: Cell, witness: RegionWitness | None = None
) -> Certified:
    """The cell's label strictly wins in all of its points, in real and in float32 arithmetic.

    Law: for every ``a`` at the cut of a point of the cell, ``logit(label) - logit(k) >= margin >
    2 envelope``, and any float32 evaluation from ``a`` (``_evaluations``) errs by at most
    ``2 envelope`` in that difference. Without a witness: default slopes, no multipliers, no split.
    Raises RejectedError if the margin computed is not above that or no point is in the cell;
    MalformedError for a cell or witness that does not fit; SemanticsError where a float32
    evaluation could overflow. Cost: ``2^j`` leaves times one backward pass for each unit and rival.
    """
    if (type(network), type(sites), type(cell)) != (ReluNetwork, Sites, Cell):
        raise MalformedError("a certificate is of a ReluNetwork, Sites and a Cell, of these alone")
    cell.require_fit(network, sites)
    cut = sites.cut_slice
    margin = float(region_bounds(network, sites, cell, witness).min())
    if margin == np.inf:
        raise RejectedError("no point is in this cell: a certificate of it would say nothing")
    low, high = cell.low[cut], cell.high[cut]
    ledger = Ledger()
    error = Ball.exact(evaluation_error(network, sites, low, high, ledger), ledger)
    rivals = np.delete(np.arange(network.outputs), cell.label)
    both = (error[rivals] + error[cell.label, None]).upper()
    envelope = 0.5 * float(both.max())
    if not margin > 2 * envelope:
        raise RejectedError(
            f"the margin of label {cell.label} is only shown to be {margin:.6g} in this cell, not "
            f"above {2 * envelope:.3g}, what float32 can be off: narrow the cell, add events or "
            "search for a better witness"
        )
    return Certified(cell, network, sites, margin, envelope, witness, seal=_SEAL)


def region_bounds(
    network: ReluNetwork, sites: Sites, cell: Cell, witness: RegionWitness | None = None
) -> Float64[np.ndarray, " r"]:
    """Numbers not above the margins of the label against the other outputs, in order.

    Infinite if no point is in the cell for certain. Raises MalformedError for a cell or witness
    that does not fit. Cost: as ``certify_region``.
    """
    check_arithmetic()
    cell.require_fit(network, sites)
    split = np.zeros(0, dtype=np.int32) if witness is None else np.asarray(witness.split)
    signs = _signs(network, sites, cell, split)
    choices = None if witness is None else _choices(network, sites, cell, witness, signs)
    bounds = np.full(network.outputs - 1, np.inf)
    widest = max(network.widths)
    step = max(1, _BLOCK // (2 * widest * widest))
    for start in range(0, len(signs), step):
        leaves, ledger = slice(start, start + step), Ledger()
        known = _enter(network, sites, cell, signs[leaves], ledger)
        chosen = choices and choices._replace(
            slopes=choices.slopes[leaves],
            betas=choices.betas[leaves],
            multipliers=choices.multipliers[leaves],
        )
        found = margin_bounds(network, sites, known, cell.label, chosen, ledger)
        bounds = np.minimum(bounds, found.min(axis=0))
    return bounds


def region_leaves(
    network: ReluNetwork, sites: Sites, cell: Cell, split: Int32[np.ndarray, " j"]
) -> Leaves:
    """The ranges of all units on each leaf, for code that searches for a witness.

    Raises MalformedError as ``region_bounds``.
    """
    cell.require_fit(network, sites)
    return _enter(network, sites, cell, _signs(network, sites, cell, split), Ledger())


def _enter(
    network: ReluNetwork, sites: Sites, cell: Cell, signs: np.ndarray, ledger: Ledger
) -> Leaves:
    cut = sites.cut_slice
    return enter_leaves(network, sites, cell.low[cut], cell.high[cut], signs, ledger)


def _signs(network: ReluNetwork, sites: Sites, cell: Cell, split: np.ndarray) -> np.ndarray:
    """``[2^j, u]``: the pattern, and every combination of signs of the split units."""
    size = sites.unit_size(network)
    pattern = np.zeros(size, dtype=np.int8)
    pattern[size - len(cell.pattern) :] = cell.pattern
    if split.dtype != np.int32 or split.ndim != 1 or len(split) > MAX_SPLITS:
        raise MalformedError(
            f"split of a witness is {split.dtype} {split.shape}: pass int32, at most {MAX_SPLITS}"
        )
    units = split.tolist()
    if len(set(units)) != len(units) or not all(0 <= unit < size for unit in units):
        raise MalformedError(
            f"split of a witness is {units}: pass different units of the {size} there are"
        )
    if pattern[units].any():
        raise MalformedError(f"split of a witness is {units}: the pattern gives some a sign")
    leaves = np.arange(1 << len(units))
    signs = np.tile(pattern, (len(leaves), 1))
    for bit, unit in enumerate(units):
        signs[:, unit] = np.where(leaves >> bit & 1, 1, -1)
    return signs


def _choices(
    network: ReluNetwork, sites: Sites, cell: Cell, witness: RegionWitness, signs: np.ndarray
) -> Choices:
    """The witness, with everything checked that the bounds rest on."""
    leaves, rivals, units = len(signs), network.outputs - 1, signs.shape[1]
    for name, last in (("slopes", units), ("betas", units), ("multipliers", len(cell.rows))):
        values, shape = np.asarray(getattr(witness, name)), (leaves, rivals, last)
        if values.dtype != np.float64 or values.shape != shape:
            raise MalformedError(
                f"{name} of a witness is {values.dtype} {values.shape}, not float64 {shape}"
            )
        if not np.isfinite(values).all():
            raise MalformedError(f"{name} of a witness holds NaN or infinity: pass numbers")
    slopes, betas, multipliers, _ = witness
    if (slopes < 0).any() or (slopes > 1).any():
        raise MalformedError("slopes of a witness leave 0 .. 1: clip them")
    if (betas < 0).any():
        raise MalformedError("betas of a witness are negative: clip them")
    cut = np.zeros(sites.size, dtype=bool)
    cut[sites.cut_slice] = True
    elsewhere = cell.rows[:, ~cut].any(axis=1)
    open_ended = np.where(multipliers > 0, cell.row_low, cell.row_high)
    used = multipliers != 0
    if (used & (elsewhere | ~np.isfinite(open_ended))).any():
        raise MalformedError(
            "multipliers of a witness use an event with a site outside the cut, or an end that is "
            "infinite: set them to 0"
        )
    return Choices(
        slopes, betas, multipliers, cell.rows[:, cut], cell.row_low, cell.row_high
    )  # fmt: skip
