"""Which cells a point lies in for certain, with everything within ``eps`` of it.

Law: ``inside(h)[n, c]`` is True only if every point ``a`` with ``|a_i - h_i| <= eps`` at all
sites, and not below 0 at sites of kind post, satisfies every inequality of cell ``c`` in real
arithmetic. It may be False of a point within rounding of a boundary.

**Monotone.** With a smaller ``eps`` nothing True becomes False: the numbers compared are
monotone functions of ``eps`` in float64 too, and no midpoint depends on ``eps`` or on the other
points of a call (sums run in the same order for every point; no BLAS).
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64

from .._enclosure import Ball, check_arithmetic, check_subnormals
from .._errors import EnclosureError, MalformedError, OptionError
from .._ledger import Ledger
from ._cell import Cell
from ._relu_network import ReluNetwork
from ._sites import Sites

_BLOCK: Final = 1 << 16  # numbers of one product at a time
_LEAST_NORMAL: Final = 2.0**-1022


def _inner(
    values: Float64[np.ndarray, "... s"], by: Float64[np.ndarray, "..."], sign: float
) -> Float64[np.ndarray, "... s"]:
    """Ends moved inwards by ``by >= 0`` for certain: up if ``sign`` is 1, down if it is -1."""
    with np.errstate(over="ignore"):
        moved = values + sign * by
        # Two steps: the sum may have lost one in a rounding mode of its own.
        further = np.nextafter(np.nextafter(moved, sign * np.inf), sign * np.inf)
    return np.where(by == 0, values, further)


class CellTable:
    """Membership in all of a ledger's cells at once; see the top of this file."""

    def __init__(
        self, network: ReluNetwork, sites: Sites, cells: Sequence[Cell], reach: float
    ) -> None:
        """Prepare the comparisons; raises MalformedError for a cell that does not fit.

        reach: eps, how far a site's value may be from the number given, finite and not negative.
        Cost: reads every cell once.
        """
        check_arithmetic()
        sites.require_fit(network)
        if not (isinstance(reach, float) and 0 <= reach < np.inf):
            raise OptionError(f"eps = {reach!r}: pass a finite number that is not negative")
        for cell in cells:
            cell.require_fit(network, sites)
        self._network, self._sites, self._reach = network, sites, reach
        self._cells = tuple(cells)
        by = np.array([reach])
        shape = (len(cells), sites.size)
        low = _inner(np.array([c.low for c in cells]).reshape(shape), by, 1.0)
        self._high = _inner(np.array([c.high for c in cells]).reshape(shape), by, -1.0)
        bounded = np.array([c.low > 0 for c in cells], dtype=bool).reshape(shape)
        for group in sites.groups:
            if group.kind == "post":  # nothing is below 0 there, whatever eps is
                part = sites.slice(group.name)
                low[:, part] = np.where(bounded[:, part], low[:, part], 0.0)
        self._low = low
        self._rows = np.concatenate([np.zeros((0, sites.size)), *(cell.rows for cell in cells)])
        counts = np.array([len(cell.rows) for cell in cells], dtype=np.int64)
        self._row_counts, self._row_starts = counts, np.cumsum(counts) - counts
        ledger = Ledger()
        # A subnormal eps would be enclosed with a radius, and so reach further than a larger one.
        normal = Ball.exact(np.maximum(by, _LEAST_NORMAL), ledger)
        moves = Ball.exact(np.abs(self._rows), ledger).sum(1) * normal
        shift = np.where(by == 0, 0.0, moves.upper())
        ends = np.array([[], []])
        ends = np.concatenate([ends, *([cell.row_low, cell.row_high] for cell in cells)], axis=1)
        self._row_low, self._row_high = _inner(ends[0], shift, 1.0), _inner(ends[1], shift, -1.0)
        signs = [cell.pattern for cell in cells]
        self._signs = np.array(signs, dtype=np.int8).reshape(
            len(cells), sites.pattern_size(network)
        )
        self._patterned = np.asarray(self._signs.any(axis=1))
        self._weights = [
            (Ball.exact(layer.W.T[None], ledger), Ball.exact(layer.b, ledger))
            for layer in network.layers
        ]

    def inside(self, h: Float64[np.ndarray, "n s"]) -> Bool[np.ndarray, "n c"]:
        """Which cells each point is in; none, if it holds NaN or infinity.

        Raises MalformedError for points of another shape, EnclosureError where subnormal numbers
        are taken for 0. Cost: ``O(n c s)`` comparisons, and the events and one forward pass of the
        points that are in some box.
        """
        check_subnormals()
        h = self._points(h)
        found = self._in_boxes(h)
        points, cells = np.nonzero(found & (self._row_counts > 0))
        if len(points):
            pairs, _, fits, _ = self._events(h, points, cells)
            lost = pairs[~fits]
            found[points[lost], cells[lost]] = False
        points, cells = np.nonzero(found & self._patterned)
        if len(points):
            which, place = np.unique(points, return_inverse=True)
            below, above = self._units(h[which])
            fits = self._on_pattern(self._signs[cells], below[place], above[place])
            found[points, cells] = fits.all(axis=1)
        return found

    def failing(self, h: Float64[np.ndarray, " s"], c: int) -> list[str]:
        """What keeps a point out of cell number ``c``, in words; empty if ``inside`` has it."""
        if not np.isfinite(h).all():
            sites = [self._sites.name(int(i)) for i in np.flatnonzero(~np.isfinite(h))]
            return [f"{', '.join(sites)} is not a finite number"]
        point, cell = self._points(h[None]), self._cells[c]
        words = []
        for i, value in enumerate(point[0]):
            if value < self._low[c, i]:
                words.append(f"site {self._sites.name(i)} = {value:g} below {cell.low[i]:g}")
            if value > self._high[c, i]:
                words.append(f"site {self._sites.name(i)} = {value:g} above {cell.high[i]:g}")
        _, rows, fits, values = self._events(point, np.array([0]), np.array([c]))
        for row, value in zip(rows[~fits], values[~fits], strict=True):
            e = int(row - self._row_starts[c])
            words.append(
                f"event {e} = {value:g} outside {cell.row_low[e]:g} .. {cell.row_high[e]:g}"
            )
        if self._patterned[c]:
            below, above = (ends[0] for ends in self._units(point))
            for u in np.flatnonzero(~self._on_pattern(self._signs[c], below, above)):
                wanted = "on" if cell.pattern[u] > 0 else "off"
                words.append(
                    f"unit {self._unit(int(u))} not {wanted}: {below[u]:g} .. {above[u]:g}"
                )
        near = f", within eps = {self._reach:g}" if self._reach else ""
        return [f"{one}{near}" for one in words]

    def _points(self, h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, "n s"]:
        h = np.asarray(h)
        if h.dtype != np.float64 or h.ndim != 2 or h.shape[1] != self._sites.size:
            raise MalformedError(
                f"points are {h.dtype} {h.shape}: pass float64 [n, {self._sites.size}], a column "
                "for each site"
            )
        return h

    def _in_boxes(self, h: Float64[np.ndarray, "n s"]) -> Bool[np.ndarray, "n c"]:
        finite = np.isfinite(h).all(axis=1, keepdims=True)
        if h.size * len(self._cells) <= _BLOCK:
            within = (h[:, None] >= self._low) & (h[:, None] <= self._high)
            return np.asarray(within.all(axis=2) & finite)
        found = np.repeat(finite, len(self._cells), axis=1)
        for values, low, high in zip(h.T, self._low.T, self._high.T, strict=True):
            found &= (values[:, None] >= low) & (values[:, None] <= high)
        return found

    def _events(
        self, h: Float64[np.ndarray, "n s"], points: Int64[np.ndarray, " p"],
        cells: Int64[np.ndarray, " p"],
    ) -> tuple[
        Int64[np.ndarray, " f"],
        Int64[np.ndarray, " f"],
        Bool[np.ndarray, " f"],
        Float64[np.ndarray, " f"],
    ]:  # fmt: skip
        """For each event of the cell of each pair: pair, row, whether it holds, the value."""
        counts = self._row_counts[cells]
        pairs = np.repeat(np.arange(len(points)), counts)
        within = np.arange(len(pairs)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = self._row_starts[cells][pairs] + within

        def of_block(some: slice) -> Ball:
            ledger = Ledger()
            point = Ball.exact(h[points[pairs[some]]], ledger)
            return (point * Ball.exact(self._rows[rows[some]], ledger)).sum(1)[:, None]

        below, above = (e[:, 0] for e in _in_blocks(len(pairs), h.shape[1], 1, of_block))
        fits = (below >= self._row_low[rows]) & (above <= self._row_high[rows])
        return pairs, rows, fits, 0.5 * (below + above)

    def _units(
        self, h: Float64[np.ndarray, "n s"]
    ) -> tuple[Float64[np.ndarray, "n u"], Float64[np.ndarray, "n u"]]:
        """Ends of ``z`` of every unit of a pattern, for all points within ``eps``."""
        first, layers = self._sites.layer, self._sites.pattern_layers(self._network)
        at_cut = h[:, self._sites.cut_slice]

        def of_block(some: slice) -> Ball:
            z, seen = Ball.exact(at_cut[some], Ledger()), []
            if self._reach:
                z = z.widened(np.array([self._reach]))
            for number in range(first, layers[-1]):
                if self._network.layers[number].relu and (
                    number > first or not self._sites.after_relu
                ):
                    z = z.relu()
                weight, bias = self._weights[number]
                z = (z[:, None] * weight).sum(2) + bias
                if number + 1 in layers:
                    seen.append(z)
            mids, rads = [one.mid for one in seen], [one.rad for one in seen]
            return Ball(np.concatenate(mids, axis=1), np.concatenate(rads, axis=1), z.ledger)

        largest = max(layer.W.size for layer in self._network.layers)
        return _in_blocks(len(h), largest, self._signs.shape[1], of_block)

    @staticmethod
    def _on_pattern(
        signs: Int8[np.ndarray, "*n u"],
        below: Float64[np.ndarray, "*n u"],
        above: Float64[np.ndarray, "*n u"],
    ) -> Bool[np.ndarray, "*n u"]:
        return np.where(signs > 0, below >= 0, np.where(signs < 0, above <= 0, True))

    def _unit(self, unit: int) -> str:
        for number in self._sites.pattern_layers(self._network):
            width = self._network.widths[number]
            if unit < width:
                return f"z{number}[{unit}]"
            unit -= width
        raise MalformedError(f"a pattern has no unit {unit} more")


def _in_blocks(
    count: int, work: int, columns: int, compute: Callable[[slice], Ball]
) -> tuple[Float64[np.ndarray, "n x"], Float64[np.ndarray, "n x"]]:
    """Lower and upper ends of ``count`` rows that ``compute`` encloses, few at a time.

    NaN, which no comparison accepts, for a row whose numbers leave the range of float64.
    """
    below, above = np.full((2, count, columns), np.nan)
    step = max(1, _BLOCK // work)
    blocks = [slice(start, min(start + step, count)) for start in range(0, count, step)]
    while blocks:
        some = blocks.pop()
        try:
            ball = compute(some)
            below[some], above[some] = ball.lower(), ball.upper()
        except EnclosureError:
            if some.stop - some.start > 1:  # let the others have their answer
                blocks += [slice(one, one + 1) for one in range(some.start, some.stop)]
    return below, above
