"""Margins bounded by straight lines, and one table entry for each feature.

Theorem (line). On a cell, ``margin_k(a) >= a A_k + start_k`` for the values ``a`` at the cut, if
``start_k`` bounds the margins of the network with the skip connection ``skip + A`` in place of
``skip`` at the rivals: its margins are ``margin_k(a) - a A_k``. So any ``A`` is proved by replay.

Theorem (feature sum). Let ``a = sum_j f_j d_j + bias + r`` be at the cut of a point of the cell,
``d_j`` directions of features and ``|r_i| <= rho_i``. Then

    margin_k(a) >= sum_j f_j (d_j A_k) + bias A_k + start_k - sum_i rho_i |A_ik|.

Proof. Insert ``a`` into the line. What each feature gives to each margin is one number,
``d_j A_k``, whatever other features are present: a table, in place of a case for every input.
"""

from dataclasses import replace
from typing import final

import numpy as np
from jaxtyping import Float64

from .._enclosure import Ball
from .._errors import MalformedError, RejectedError
from .._frozen import Immutable, frozen
from .._ledger import Ledger
from ._cell import Cell
from ._regions import RegionWitness, region_bounds
from ._relu_network import ReluLayer, ReluNetwork
from ._sites import SiteGroup, Sites

_SEAL = object()


@final
class MarginLine(Immutable):
    """``margin_k(a) >= a A_k + start_k`` on a cell; made by ``margin_line`` alone."""

    __slots__ = ("cell_id", "network_sha256", "radius", "sites_sha256", "slope", "start")

    network_sha256: str
    sites_sha256: str
    cell_id: str
    slope: Float64[np.ndarray, "s r"]
    """A, of s sites of the cut and r rivals in order of output, up to ``radius``"""
    radius: Float64[np.ndarray, "s r"]
    start: Float64[np.ndarray, " r"]

    def __init__(self, *, seal: object, **values: object) -> None:
        """Only ``margin_line`` holds the seal."""
        if seal is not _SEAL:
            raise TypeError("a MarginLine comes from margin_line alone; run it on the cell")
        self._assign(**values)

    def A(self, ledger: Ledger) -> Ball:
        """The slopes as an enclosure."""
        return Ball(self.slope, self.radius, ledger)


def margin_line(
    network: ReluNetwork,
    sites: Sites,
    cell: Cell,
    A: Float64[np.ndarray, "s r"],
    witness: RegionWitness | None = None,
) -> MarginLine:
    """The first theorem for a given ``A``; a good one is what a backward pass found.

    Law: for every ``a`` at the cut of a point of the cell, ``margin_k(a) >= a A_k + start_k`` in
    real arithmetic, for some numbers ``A`` in its ball. witness: as one of the cell.
    Raises MalformedError for an ``A``, a cell or a witness that does not fit; RejectedError for a
    cell without points. Cost: that of ``region_bounds``.
    """
    cell.require_fit(network, sites)
    size = sites.cut_group.size
    rivals = np.delete(np.arange(network.outputs), cell.label)
    if A.shape != (size, len(rivals)) or not np.isfinite(A).all():
        raise MalformedError(
            f"a line of shape {A.shape} is not finite numbers {(size, len(rivals))}, one for each "
            "site of the cut and rival"
        )
    before = np.zeros((size, network.outputs))
    if network.skip is not None:
        before = network.skip
    after = before.copy()
    after[:, rivals] += A
    start = region_bounds(*_from_cut(network, sites, cell, after), witness)
    if np.isinf(start).any():
        raise RejectedError("no point is in this cell: whatever is said of its points is empty")
    ledger = Ledger()
    # What was subtracted in truth: the sum above may have been rounded.
    line = Ball.exact(after[:, rivals], ledger) - Ball.exact(before[:, rivals], ledger)
    return MarginLine(
        seal=_SEAL,
        network_sha256=network.sha256,
        sites_sha256=sites.sha256,
        cell_id=cell.id,
        slope=frozen(line.mid),
        radius=frozen(line.rad),
        start=frozen(start),
    )


def _from_cut(
    network: ReluNetwork, sites: Sites, cell: Cell, skip: Float64[np.ndarray, "s x"]
) -> tuple[ReluNetwork, Sites, Cell]:
    """The layers after the cut with a skip connection from it, and the cell as one of them."""
    first = network.layers[sites.layer]
    own = first.relu and not sites.after_relu
    suffix = ReluNetwork(
        (ReluLayer(first.W, first.b, own), *network.layers[sites.layer + 1 :]), skip
    )
    cut = sites.cut_slice
    low = np.maximum(cell.low[cut], 0.0) if sites.after_relu else cell.low[cut]
    if (low > cell.high[cut]).any():
        raise RejectedError("no point is in this cell: whatever is said of its points is empty")
    # Events with sites elsewhere say nothing here, but a witness counts them.
    elsewhere = np.ones(sites.size, dtype=bool)
    elsewhere[cut] = False
    silent = np.asarray(cell.rows[:, elsewhere].any(axis=1))
    moved = replace(
        cell,
        low=low,
        high=cell.high[cut],
        rows=np.where(silent[:, None], 0.0, cell.rows[:, cut]),
        row_low=np.where(silent, -np.inf, cell.row_low),
        row_high=np.where(silent, np.inf, cell.row_high),
    )
    group = SiteGroup(sites.cut, "pre", sites.cut_group.size)
    return suffix, Sites((group,), sites.cut, 0), moved


@final
class FeatureSum(Immutable):
    """Margins from features, one entry each, on a cell; made by ``feature_sum`` alone."""

    __slots__ = (
        "cell_id", "network_sha256", "radius", "sites_sha256", "start", "subject", "table",
    )  # fmt: skip

    network_sha256: str
    sites_sha256: str
    cell_id: str
    subject: tuple[Float64[np.ndarray, "h s"], Float64[np.ndarray, " s"], Float64[np.ndarray, " s"]]
    """Directions, bias and residual that it was made for"""
    table: Float64[np.ndarray, "h r"]
    """What each unit of each feature adds to each margin, up to ``radius``"""
    radius: Float64[np.ndarray, "h r"]
    start: Float64[np.ndarray, " r"]
    """The margins without any feature, at least"""

    def __init__(self, *, seal: object, **values: object) -> None:
        """Only ``feature_sum`` holds the seal."""
        if seal is not _SEAL:
            raise TypeError("a FeatureSum comes from feature_sum alone; run it on a line")
        self._assign(**values)

    def bounds(self, features: Float64[np.ndarray, "n h"]) -> Float64[np.ndarray, "n r"]:
        """Numbers not above the margins of activations with these features, on the cell.

        Cost: one product with the table.
        """
        ledger = Ledger()
        table = Ball(self.table, self.radius, ledger)
        return (Ball.exact(features, ledger) @ table + Ball.exact(self.start, ledger)).lower()


def feature_sum(
    line: MarginLine,
    decoder: Float64[np.ndarray, "h s"],
    bias: Float64[np.ndarray, " s"],
    residual: Float64[np.ndarray, " s"],
) -> FeatureSum:
    """The second theorem: a table of features for the cell of a line.

    Law: if ``a = f decoder + bias + r`` with ``|r| <= residual`` is at the cut of a point of the
    cell, then ``margin_k(a) >= (f table)_k + start_k``, for every ``f``.
    Raises MalformedError for arrays that do not fit. Cost: one product, ``h s r``.
    """
    if type(line) is not MarginLine:
        raise MalformedError(f"a {type(line).__name__} is no MarginLine: derive one")
    size = len(line.slope)
    if decoder.shape[1:] != (size,) or bias.shape != (size,) or residual.shape != (size,):
        raise MalformedError(
            f"decoder {decoder.shape}, bias {bias.shape} and residual {residual.shape} are not of "
            f"the {size} sites of the cut"
        )
    if not all(np.isfinite(values).all() for values in (decoder, bias, residual)):
        raise MalformedError("decoder, bias or residual holds NaN or infinity: pass numbers")
    if (residual < 0).any():
        raise MalformedError("a residual is negative: pass how far it may be from 0")
    ledger = Ledger()

    def exact(values: Float64[np.ndarray, "..."]) -> Ball:
        return Ball.exact(values, ledger)

    A = line.A(ledger)
    loss = exact(residual[None]) @ exact(A.absolute().upper())
    start = (exact(bias[None]) @ A - loss + exact(line.start[None])).lower()[0]
    table = exact(decoder) @ A
    return FeatureSum(
        seal=_SEAL,
        network_sha256=line.network_sha256,
        sites_sha256=line.sites_sha256,
        cell_id=line.cell_id,
        subject=(frozen(decoder), frozen(bias), frozen(residual)),
        table=frozen(table.mid),
        radius=frozen(table.rad),
        start=frozen(start),
    )
