"""Is it safe to edit activations of a known input? One site exactly, several by search.

Whatever says SAFE carries what the kernel proved; whatever says UNSAFE carries a point at which
the kernel's exact arithmetic finds no win. A search that finds neither says UNKNOWN.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32

from ..kernel import RejectedError, UserError
from ..kernel.gate import (
    Cell,
    Certified,
    RecordEntry,
    RegionWitness,
    ReluNetwork,
    SafeInterval,
    Sites,
    UnusableError,
    certify_region,
    exact_margins,
    region_leaves,
    safe_interval,
)
from ..kernel.gate._evidence import stored_rows
from ._gate import Gate
from ._suffix import Suffix

Edit = Mapping[int, tuple[float, float]]
"""Ranges by site number, ends included."""


class Safety(Enum):
    """What is known of an edit; the value says what it rests on."""

    SAFE = "proved for every value in the ranges, all sites together"
    UNSAFE = "a value in the ranges, exactly evaluated, at which the label does not win"
    UNKNOWN = "neither a proof nor such a value was found"


class EditCheck(NamedTuple):
    """The answer about an edit, and what it rests on."""

    safety: Safety
    proof: SafeInterval | Certified | None
    """For SAFE: of one site the interval, of several the certificate of ``edit_cell``"""
    witness: dict[int, Fraction] | None
    """For UNSAFE: what to set the sites to"""
    margin: Fraction | None
    """The least exact margin at the witness; not positive"""


@dataclass(frozen=True)
class EditSettings:
    """How long to search: splits of units, at most 10; corners tried; gradient steps from them."""

    splits: tuple[int, ...] = (0, 2, 4, 6, 8)
    corners: int = 256
    steps: int = 20
    seed: int = 0


class Recorded(NamedTuple):
    """One activation vector that somebody signed."""

    h: Float64[np.ndarray, " s"]
    label: int


def recorded(gate: Gate, record: str, row: int = 0) -> Recorded:
    """A vector of a record of a gate, by the id of its entry; raises UserError if there is none."""
    for number, entry in gate.history.living(RecordEntry):
        if gate.history.lines[number].id == record:
            if not 0 <= row < entry.rows:
                raise UserError(
                    f"the record {record[:12]} has rows 0 to {entry.rows - 1}: no {row}"
                )
            try:
                shards, outputs = gate.ledger.shards, gate.network.outputs
                arrays = stored_rows(gate.history, shards, number, gate.sites, outputs)
            except UnusableError as error:
                raise UserError(f"the record {record[:12]} cannot be read: {error}") from None
            return Recorded(arrays["h"][row], int(arrays["labels"][row]))
    raise UserError(f"no record {record[:12]!r} in the ledger: pass the id that record() returned")


def edit_cell(
    sites: Sites, h: Float64[np.ndarray, " s"], edit: Edit, label: int, units: int
) -> Cell:
    """Every point of the cut that an edit of a point can give.

    units: of the pattern, which says nothing. Raises UserError for a site outside the cut, a range
    without numbers, and values below 0 behind a ReLU.
    """
    cut = sites.cut_slice
    low, high = np.full(sites.size, -np.inf), np.full(sites.size, np.inf)
    low[cut] = high[cut] = h[cut]
    for site, (least, most) in edit.items():
        if not cut.start <= site < cut.stop:
            raise UserError(
                f"site {site} does not lead to the logits: pass sites {cut.start} to "
                f"{cut.stop - 1}, the cut {sites.cut}"
            )
        if not -np.inf < least <= most < np.inf:
            raise UserError(
                f"the range {least} .. {most} of site {sites.name(site)} has no numbers"
            )
        if sites.after_relu and least < 0:
            raise UserError(
                f"the range {least} .. {most} of site {sites.name(site)} starts below 0, but the "
                "site is behind a ReLU: start at 0"
            )
        low[site], high[site] = least, most
    none = np.zeros(0)
    return Cell(low, high, np.zeros((0, sites.size)), none, none, np.zeros(units, np.int8), label)


def check_edit(
    network: ReluNetwork,
    sites: Sites,
    h: Float64[np.ndarray, " s"],
    edit: Edit,
    label: int,
    settings: EditSettings | None = None,
) -> EditCheck:
    """Whether the label stays strictly the answer under every edit of a point within ranges.

    One site is decided exactly. Of several, an attack (corners, then gradient steps) looks for a
    witness, then certificates with more and more splits of units are tried. Raises UserError as
    ``edit_cell``. Cost: one site a millisecond at 32 units a layer; several up to
    ``2^splits`` leaves.
    """
    settings = settings or EditSettings()
    cell = edit_cell(sites, h, edit, label, sites.pattern_size(network))
    if len(edit) == 1:
        return _check_site(network, sites, h, *next(iter(edit.items())), label)
    found = _attack(network, sites, cell, settings)
    if found is not None:
        point, margin = found
        first = sites.cut_slice.start
        witness = {site: point[site - first] for site in edit}
        return EditCheck(Safety.UNSAFE, None, witness, margin)
    for splits in settings.splits:
        try:
            witness_of = split_witness(network, sites, cell, splits)
            proof = certify_region(network, sites, cell, witness_of)
        except RejectedError:
            continue
        return EditCheck(Safety.SAFE, proof, None, None)
    return EditCheck(Safety.UNKNOWN, None, None, None)


def _check_site(
    network: ReluNetwork,
    sites: Sites,
    h: Float64[np.ndarray, " s"],
    site: int,
    ends: tuple[float, float],
    label: int,
) -> EditCheck:
    """From the number in the range that is nearest to the point's own."""
    near = h.copy()
    near[site] = min(max(float(h[site]), ends[0]), ends[1])
    try:
        proof = safe_interval(network, sites, near, site, label)
    except RejectedError:
        return _unsafe(network, sites, near, site, Fraction(float(near[site])), label)
    if proof.covers(*ends):
        return EditCheck(Safety.SAFE, proof, None, None)
    if proof.low is not None and proof.low >= ends[0]:
        return _unsafe(network, sites, near, site, proof.low, label)
    if proof.high is not None and proof.high <= ends[1]:
        return _unsafe(network, sites, near, site, proof.high, label)
    return EditCheck(Safety.UNKNOWN, None, None, None)


def _unsafe(
    network: ReluNetwork,
    sites: Sites,
    h: Float64[np.ndarray, " s"],
    site: int,
    value: Fraction,
    label: int,
) -> EditCheck:
    cut = sites.cut_slice
    point = [Fraction(v) for v in h[cut].tolist()]
    point[site - cut.start] = value
    margin = min(exact_margins(network, sites, point, label))
    if margin > 0:
        return EditCheck(Safety.UNKNOWN, None, None, None)
    return EditCheck(Safety.UNSAFE, None, {site: value}, margin)


def _attack(
    network: ReluNetwork, sites: Sites, cell: Cell, settings: EditSettings
) -> tuple[list[Fraction], Fraction] | None:
    """A point of the cell's box at which the label does not win, exactly, and the margin there."""
    cut = sites.cut_slice
    points = attack_box(
        Suffix(network, sites), cell.low[cut], cell.high[cut], cell.label,
        np.random.default_rng(settings.seed), settings.corners, settings.steps,
    )  # fmt: skip
    for point in points[:4]:
        exact = [Fraction(value) for value in point.tolist()]
        margin = min(exact_margins(network, sites, exact, cell.label))
        if margin <= 0:
            return exact, margin
    return None


def attack_box(
    suffix: Suffix,
    low: Float64[np.ndarray, " s"],
    high: Float64[np.ndarray, " s"],
    label: int,
    rng: np.random.Generator,
    corners: int,
    steps: int,
) -> Float64[np.ndarray, "n s"]:
    """Points of a box with the least margins, least first: corners, then signed gradient steps.

    Half of the starts are random corners, half random points; each step jumps to the corner that
    the gradient of the worst margin points to, or part of the way.
    """
    start = rng.random((corners, len(low)))
    start[: corners // 2] = np.round(start[: corners // 2])
    points = low + start * (high - low)
    best, best_margin = points, _worst(suffix, points, label)[1]
    for step in range(steps):
        rival, _ = _worst(suffix, points, label)
        slope = gradient(suffix, points, label, rival)
        corner = np.where(slope > 0, low, high)
        rate = (1.0, 0.5, 0.1)[step % 3]
        points = np.where(slope == 0, points, points + rate * (corner - points))
        points = np.clip(points, low, high)
        margin = _worst(suffix, points, label)[1]
        better = margin < best_margin
        best = np.where(better[:, None], points, best)
        best_margin = np.where(better, margin, best_margin)
    return best[np.argsort(best_margin)]


def _worst(
    suffix: Suffix, points: Float64[np.ndarray, "n s"], label: int
) -> tuple[np.ndarray, np.ndarray]:
    """The output that comes nearest to the label's logit, and by how much."""
    logits = suffix.forward(points)[1]
    margins = logits[:, label, None] - logits
    margins[:, label] = np.inf
    rival = margins.argmin(axis=1)
    return rival, margins[np.arange(len(points)), rival]


def gradient(
    suffix: Suffix, points: Float64[np.ndarray, "n s"], label: int, rival: np.ndarray
) -> Float64[np.ndarray, "n s"]:
    """Of the margin over ``rival`` at each point, by the cut."""
    units = suffix.forward(points)[0]
    last = suffix.layers[-1].W
    A = (last[:, label, None] - last[:, rival]).T
    for number in reversed(range(len(suffix.layers))):
        if number < len(suffix.layers) - 1:
            A = A @ suffix.layers[number].W.T
        if number in suffix.unit_slices:
            A = A * (units[:, suffix.unit_slices[number]] > 0)
    if suffix.skip is not None:
        A = A + (suffix.skip[:, label, None] - suffix.skip[:, rival]).T
    return A


def split_witness(
    network: ReluNetwork, sites: Sites, cell: Cell, splits: int
) -> RegionWitness | None:
    """A witness that splits the undecided units with the largest ranges; None for no splits.

    Slopes are 1 where a range reaches further up than down, else 0.
    """
    if not splits:
        return None
    none = np.zeros(0, dtype=np.int32)
    low, high = _unit_ranges(network, sites, cell, none)
    free = np.ones(low.shape[1], dtype=bool)
    free[len(free) - len(cell.pattern) :] = cell.pattern == 0
    gap = np.where(free, np.minimum(-low[0], high[0]), 0.0)
    order = np.argsort(-gap)[:splits]
    split = np.sort(order[gap[order] > 0]).astype(np.int32)
    low, high = _unit_ranges(network, sites, cell, split)
    shape = (len(low), network.outputs - 1)
    slopes = np.repeat((high > -low).astype(np.float64)[:, None], shape[1], axis=1)
    events = np.zeros((*shape, len(cell.rows)))
    return RegionWitness(slopes, np.zeros_like(slopes), events, split)


def _unit_ranges(
    network: ReluNetwork, sites: Sites, cell: Cell, split: Int32[np.ndarray, " j"]
) -> tuple[np.ndarray, np.ndarray]:
    """``[leaf, unit]`` ends of all units of a witness."""
    leaves = region_leaves(network, sites, cell, split)
    layers = [leaves.units[number] for number in sites.unit_layers(network)]
    nothing = np.zeros((len(leaves.low), 0))
    low = np.concatenate([nothing, *(layer.low for layer in layers)], axis=1)
    high = np.concatenate([nothing, *(layer.high for layer in layers)], axis=1)
    return low, high
