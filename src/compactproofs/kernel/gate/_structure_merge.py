"""Cells merged: one certificate for a cell that holds several.

``holds(outer, inner)`` is true only if every point of ``inner`` is a point of ``outer``: its ranges
are wider; every event of ``outer`` is one of ``inner`` with a wider range, or follows from the
ranges of ``inner``; every sign in the pattern of ``outer`` is in that of ``inner``.
"""

from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Float64

from .._enclosure import Ball
from .._errors import MalformedError
from .._frozen import Immutable
from .._ledger import Ledger
from ._cell import Cell
from ._regions import Certified, RegionWitness, certify_region
from ._relu_network import ReluNetwork
from ._sites import Sites

_SEAL = object()


@final
class Merged(Immutable):
    """A certified cell that holds others, which therefore have its property; from ``merge``."""

    __slots__ = ("cell", "cell_ids", "certified")

    cell: Cell
    cell_ids: tuple[str, ...]
    """The cells that it holds"""
    certified: Certified

    def __init__(self, *, seal: object, **values: object) -> None:
        """Only ``merge`` holds the seal."""
        if seal is not _SEAL:
            raise TypeError("Merged comes from merge alone; run it on the cells")
        self._assign(**values)


def holds(outer: Cell, inner: Cell) -> bool:
    """Whether every point of ``inner`` is shown to be in ``outer``, with the same label.

    False where it is not shown. Cost: O(e^2 s) for e events and s sites.
    """
    if (len(outer.low), len(outer.pattern), outer.label) != (
        len(inner.low), len(inner.pattern), inner.label
    ):  # fmt: skip
        return False
    box = (outer.low <= inner.low).all() and (outer.high >= inner.high).all()
    signs = ((outer.pattern == 0) | (outer.pattern == inner.pattern)).all()
    return bool(box and signs) and all(
        _event_holds(outer.rows[e], float(outer.row_low[e]), float(outer.row_high[e]), inner)
        for e in range(len(outer.rows))
    )


def _event_holds(row: Float64[np.ndarray, " s"], low: float, high: float, inner: Cell) -> bool:
    same = (inner.rows == row).all(axis=1)
    if (same & (inner.row_low >= low) & (inner.row_high <= high)).any():
        return True
    used = np.flatnonzero(row)
    ends_low, ends_high = inner.low[used], inner.high[used]
    if not (np.isfinite(ends_low) & np.isfinite(ends_high)).all():
        return False
    ledger = Ledger()
    box = Ball.between(ends_low[None], ends_high[None], ledger)
    value = box @ Ball.exact(row[used, None], ledger)
    return bool(value.lower()[0, 0] >= low and value.upper()[0, 0] <= high)


def merge(
    network: ReluNetwork,
    sites: Sites,
    cells: Sequence[Cell],
    hull: Cell,
    witness: RegionWitness | None = None,
) -> Merged:
    """One certificate for several cells: that of a cell that holds them all.

    Law: in every point of every one of the cells their label strictly wins.
    Raises MalformedError if the hull is not shown to hold one of them, or nothing is merged;
    RejectedError if the certificate fails. Cost: that of ``certify_region``.
    """
    if not cells:
        raise MalformedError("nothing to merge: pass the cells that the hull holds")
    for cell in cells:
        cell.require_fit(network, sites)
        if not holds(hull, cell):
            raise MalformedError(
                f"the hull is not shown to hold the cell {cell.id[:12]}: widen its ranges, or "
                "leave out events and signs that the cell does not have"
            )
    certified = certify_region(network, sites, hull, witness)
    return Merged(
        seal=_SEAL, cell=hull, cell_ids=tuple(cell.id for cell in cells), certified=certified
    )
