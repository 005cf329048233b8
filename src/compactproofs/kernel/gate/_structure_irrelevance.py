"""G3, joint irrelevance: sites of the cut that may have any value, all at once.

Theorem. Let ``F`` be sites of the cut and ``J`` a range for each, which holds the cell's own. Let
the *wide* cell be: ``J`` on ``F``, the cell's ranges on the rest of the cut, the cell's events
that involve the rest of the cut alone, no pattern, nothing said of sites elsewhere. If the wide
cell has a certificate, then for every point of the cell and every choice of values in ``J`` for
``F`` (constants, another network's output, a resample), the label strictly wins.

Proof. Such an edit leaves the rest of the cut as it was, so the events on it still hold, and the
point is in the wide cell. Events that involve ``F``, the pattern and sites elsewhere are not used,
because an edit changes them: keeping any of these would certify only the edits that happen to
respect it.

Certificates of single sites do not compose: with ``margin(a) = 1 - 3 max(0, a_1 + a_2 - 1)`` on
``[0, 1]^2`` and the record ``(0, 0)``, each site is free over its whole range, both reach -2.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import numpy as np
from jaxtyping import Float64

from .._errors import MalformedError
from .._frozen import Immutable, frozen
from ._cell import Cell
from ._regions import Certified, RegionWitness, certify_region
from ._relu_network import ReluNetwork
from ._sites import Sites

_SEAL = object()


@final
class Irrelevant(Immutable):
    """Sites whose values do not matter, jointly, on a cell; made by ``irrelevant`` alone."""

    __slots__ = (
        "cell_id", "certified", "free", "high", "low", "network_sha256", "sites_sha256", "wide",
    )  # fmt: skip

    network_sha256: str
    sites_sha256: str
    cell_id: str
    """The cell that edits start from"""
    free: tuple[int, ...]
    """Site numbers, of the cut"""
    low: Float64[np.ndarray, " f"]
    """The ranges J of the free sites, closed"""
    high: Float64[np.ndarray, " f"]
    wide: Cell
    certified: Certified
    """Of ``wide``"""

    def __init__(self, *, seal: object, **values: object) -> None:
        """Only ``irrelevant`` holds the seal."""
        if seal is not _SEAL:
            raise TypeError("Irrelevant comes from irrelevant alone; run it on the cell")
        self._assign(**values)


def widened(
    sites: Sites,
    cell: Cell,
    free: Sequence[int],
    low: Float64[np.ndarray, " f"],
    high: Float64[np.ndarray, " f"],
) -> Cell:
    """The wide cell of the theorem: what a certificate must be about.

    Raises MalformedError for sites outside the cut, named twice, or with a range that does not
    hold the cell's own, and for values below 0 behind a ReLU.
    """
    cut = sites.cut_slice
    if len(set(free)) != len(free) or not all(
        type(n) is int and cut.start <= n < cut.stop for n in free
    ):
        raise MalformedError(
            f"free sites {list(free)} are not different ones of {cut.start} to {cut.stop - 1}, the "
            f"cut {sites.cut}"
        )
    chosen = list(free)
    # No value behind a ReLU is below 0, and no certificate speaks of one.
    least = np.maximum(cell.low, 0.0) if sites.after_relu else cell.low
    if low.shape != (len(free),) or high.shape != (len(free),):
        raise MalformedError(f"{len(free)} free sites need as many ranges")
    narrow = ~((low <= least[chosen]) & (high >= cell.high[chosen]))
    if narrow.any():
        worst = int(np.argmax(narrow))
        raise MalformedError(
            f"the range {low[worst]} .. {high[worst]} of site {sites.name(chosen[worst])} does not "
            f"hold the cell's own, {least[chosen[worst]]} .. {cell.high[chosen[worst]]}"
        )
    if sites.after_relu and (low < 0).any():
        raise MalformedError(
            f"free sites {chosen} are behind a ReLU, where no value is below 0: start ranges at 0"
        )
    wide_low, wide_high = np.full(sites.size, -np.inf), np.full(sites.size, np.inf)
    wide_low[cut], wide_high[cut] = cell.low[cut], cell.high[cut]
    wide_low[chosen], wide_high[chosen] = low, high
    changed = np.ones(sites.size, dtype=bool)
    changed[cut] = False
    changed[chosen] = True
    kept = ~cell.rows[:, changed].any(axis=1)
    return replace(
        cell,
        low=wide_low,
        high=wide_high,
        rows=cell.rows[kept],
        row_low=cell.row_low[kept],
        row_high=cell.row_high[kept],
        pattern=np.zeros_like(cell.pattern),
    )


def irrelevant(
    network: ReluNetwork,
    sites: Sites,
    cell: Cell,
    free: Sequence[int],
    low: Float64[np.ndarray, " f"],
    high: Float64[np.ndarray, " f"],
    witness: RegionWitness | None = None,
) -> Irrelevant:
    """The theorem above for these sites and ranges.

    Law: with the free sites of any point of the cell set to any numbers in ``low .. high``, the
    label strictly wins, in real and in float32 arithmetic. witness: of the ``widened`` cell.
    Raises RejectedError if the certificate fails; MalformedError as ``widened`` and
    ``certify_region``. Cost: that of ``certify_region``.
    """
    cell.require_fit(network, sites)
    wide = widened(sites, cell, free, low, high)
    return Irrelevant(
        seal=_SEAL,
        network_sha256=network.sha256,
        sites_sha256=sites.sha256,
        cell_id=cell.id,
        free=tuple(free),
        low=frozen(low),
        high=frozen(high),
        wide=wide,
        certified=certify_region(network, sites, wide, witness),
    )
