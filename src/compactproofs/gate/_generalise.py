"""From one recorded number to a rule: what may be said of a site instead of its exact values.

Each kind says something else, and rests on something else. *constant* (MEASURED): new inputs leave
the range seen in the lab with at most this probability; outside it nothing is claimed. *dead*,
*stable* (PROVED): on this cell the unit passes on 0, or its own number. *irrelevant* (PROVED): on
this cell any value in the range does, whatever the rest of the point is. That the answer survives
setting a site to 0 says none of these.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from ..kernel import MalformedError, RejectedError, UserError
from ..kernel.gate import (
    Cell,
    Irrelevant,
    RegionWitness,
    ReluNetwork,
    Sites,
    irrelevant,
    unit_facts,
    widened,
)
from ..kernel.gate._proportions import upper_risk
from ._edits import split_witness


class ConstantRule(NamedTuple):
    """A site was in a range throughout the lab; how often fresh inputs leave it."""

    low: float
    high: float
    outside: int
    fresh: int
    at_most: Fraction
    """Not below the probability of leaving the range, with confidence ``1 - alpha``"""
    alpha: Fraction


class Generalisation(NamedTuple):
    """What holds of one site, and on which cells (by id)."""

    site: int
    constant: ConstantRule | None
    dead: tuple[str, ...]
    stable: tuple[str, ...]
    irrelevant: Mapping[str, Irrelevant]
    """For any value in the range of the lab or of the cell, the wider of the two"""


def generalise(
    network: ReluNetwork,
    sites: Sites,
    cells: Mapping[str, Cell],
    site: int,
    lab: Float64[np.ndarray, "n s"],
    fresh: Float64[np.ndarray, "m s"] | None,
    alpha: Fraction,
    *,
    splits: int = 4,
) -> Generalisation:
    """What may be said of a site instead of its recorded values.

    cells: certified ones, by id. site: any; *dead* and *stable* are about groups that hold units
    with a ReLU, *irrelevant* about the cut. lab: the recordings, at all sites. fresh: later ones,
    which nobody chose the site or its range by; None leaves the constant out. splits: of units, for
    certificates.
    Raises UserError for recordings that do not fit. Cost: one or two region bounds a cell.
    """
    low, high = site_range(sites, site, lab)
    constant = None
    if fresh is not None:
        site_range(sites, site, fresh, "fresh")
        outside = int(((fresh[:, site] < low) | (fresh[:, site] > high)).sum())
        at_most = upper_risk(outside, len(fresh), alpha)
        if at_most < 1:
            constant = ConstantRule(low, high, outside, len(fresh), at_most, alpha)
    dead, stable, found = [], [], {}
    for name, cell in cells.items():
        is_dead, is_stable = _unit_kind(network, sites, cell, site)
        dead += [name] * is_dead
        stable += [name] * (is_stable and not is_dead)
        fact = _freed(network, sites, cell, site, low, high, splits)
        if fact is not None:
            found[name] = fact
    return Generalisation(
        site,
        constant,
        tuple(dead),
        tuple(stable),
        found,
    )


def site_range(
    sites: Sites, site: int, values: Float64[np.ndarray, "n s"], name: str = "lab"
) -> tuple[float, float]:
    """The least and the largest recording of a site; raises UserError for what does not fit."""
    if values.ndim != 2 or values.shape[1] != sites.size or not len(values):
        raise UserError(
            f"{name} recordings {values.shape}: pass [n, {sites.size}], one number a site"
        )
    if not np.isfinite(values[:, site]).all():
        raise UserError(f"{name} recordings of site {sites.name(site)} hold NaN or infinity")
    return float(values[:, site].min()), float(values[:, site].max())


def _unit_kind(network: ReluNetwork, sites: Sites, cell: Cell, site: int) -> tuple[bool, bool]:
    """Whether the unit at a site is dead or stable on the cell; (False, False) if it is no unit.

    Units of the cut are what the cell says; of later layers (groups of kind pre named like
    ``pre2`` for ``z_2``) what is proved.
    """
    cut = sites.cut_slice
    if cut.start <= site < cut.stop:
        if sites.after_relu:
            return bool(cell.high[site] <= 0), True
        if not network.layers[sites.layer].relu:
            return False, False
        return bool(cell.high[site] <= 0), bool(cell.low[site] >= 0)
    start = 0
    for number in sites.pattern_layers(network):
        for group in sites.groups:
            inside = sites.slice(group.name)
            if group.name == f"pre{number}" and inside.start <= site < inside.stop:
                facts = unit_facts(network, sites, cell)
                unit = start + site - inside.start
                return bool(facts.dead[unit]), bool(facts.stable[unit])
        start += network.widths[number]
    return False, False


def _freed(
    network: ReluNetwork,
    sites: Sites,
    cell: Cell,
    site: int,
    low: float,
    high: float,
    splits: int,
) -> Irrelevant | None:
    """The certificate that any value of the lab does, if one is found."""
    cut = sites.cut_slice
    if not cut.start <= site < cut.stop:
        return None
    least = max(float(cell.low[site]), 0.0) if sites.after_relu else float(cell.low[site])
    ends = np.array([min(low, least)]), np.array([max(high, float(cell.high[site]))])
    try:
        wide = widened(sites, cell, [site], *ends)
    except MalformedError:
        return None
    for count in (0, splits) if splits else (0,):
        witness: RegionWitness | None = split_witness(network, sites, wide, count)
        try:
            return irrelevant(network, sites, cell, [site], *ends, witness)
        except RejectedError:
            continue
    return None
