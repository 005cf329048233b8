"""Edits of one activation, decided exactly: the margins along one site of the cut.

With all other sites of the cut fixed, every unit after the cut and every logit is a continuous,
piecewise linear function of the value ``t`` of the site, with kinks where a unit with a ReLU
crosses 0.

Theorem. Let every margin ``logit(label) - logit(k)`` be positive at ``t_0``. The set of ``t``
around ``t_0`` that can be reached without a margin of 0 is an open interval; each of its ends is
infinite or a rational at which some margin is exactly 0, a tie, which is not the label's.

Proof, and the walk that finds the ends. From ``t_0`` in one direction let ``s >= 0`` be the way
gone. Just after a point ``s`` a unit is on if its value there is positive, or 0 with a positive
derivative; if both are 0 it stays 0 and either choice is right. With these choices every unit is
an affine function ``a + b s`` until the first unit's zero after ``s``, layer by layer: a zero of
a unit is where its own affine function vanishes. The first zero of a margin up to there, if any,
is the end, by continuity; else the walk goes on from that zero of the unit. There are finitely
many pieces, as each choice of signs is met on an interval alone. All numbers are integers over a
common positive denominator, and zeros are compared as fractions: nothing is rounded.

The statement is about real arithmetic; close to a finite end a float32 evaluation may differ.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float64

from .._errors import KernelDefectError, MalformedError, OptionError, RejectedError
from .._frozen import Immutable, frozen
from ._exact_suffix import ExactSuffix, Integers, exact_suffix, homogeneous, require_label
from ._relu_network import ReluNetwork
from ._sites import Sites

_SEAL = object()


@final
class SafeInterval(Immutable):
    """Where one site of a point may be moved: what ``safe_interval`` has walked through."""

    __slots__ = (
        "h", "high", "kinks", "label", "low", "network_sha256", "open_high", "open_low", "site",
        "sites_sha256", "within",
    )  # fmt: skip

    network_sha256: str
    sites_sha256: str
    h: Float64[np.ndarray, " s"]
    """The point, all sites"""
    site: int
    label: int
    low: Fraction | None
    """None if the label stays however far the site is moved down"""
    high: Fraction | None
    open_low: bool
    """Whether ``low`` itself is outside: a tie is there. Closed ends are those of ``within``."""
    open_high: bool
    within: tuple[float, float] | None
    """How far was looked; None for all numbers"""
    kinks: int
    """Points where a unit after the cut changes sign, ties among them counted once"""

    def __init__(self, *, seal: object, **values: object) -> None:
        """Only ``safe_interval`` holds the seal."""
        if seal is not _SEAL:
            raise TypeError("a SafeInterval comes from safe_interval alone; run it on the point")
        self._assign(**values)

    def covers(self, low: Fraction | float, high: Fraction | float) -> bool:
        """Whether every number from ``low`` to ``high`` is inside; False for NaN and infinities."""
        if not (abs(low) < np.inf and abs(high) < np.inf and low <= high):
            return False
        above = self.low is None or low > self.low or (low == self.low and not self.open_low)
        below = self.high is None or high < self.high or (high == self.high and not self.open_high)
        return above and below


def safe_interval(
    network: ReluNetwork,
    sites: Sites,
    h: Float64[np.ndarray, " s"],
    site: int,
    label: int,
    within: tuple[float, float] | None = None,
) -> SafeInterval:
    """The largest interval around ``h[site]`` in which ``label`` stays strictly the answer.

    Law: for every ``t`` inside, the cut of ``h`` with ``t`` at this site has a logit of ``label``
    strictly above all others, in real arithmetic; at an open end it has not. Without ``within``
    the interval is the largest such one; with it, the part of that between two numbers.

    h: one number for each site; those outside the cut do not matter. site: one of the cut.
    Raises RejectedError if the label does not win at ``h`` itself; MalformedError for an ``h`` or
    a label that does not fit; OptionError for a site outside the cut or limits that do not
    enclose ``h[site]``. Cost: one pass in integers for each kink, from its layer on.
    """
    suffix = exact_suffix(network, sites)
    require_label(network, label)
    values = _cut_values(sites, h)
    index = _cut_index(sites, site)
    start = values[index]
    if within is not None and not -np.inf < within[0] <= start <= within[1] < np.inf:
        raise OptionError(
            f"limits {within} do not enclose {start}, the value of site {sites.name(site)}: pass "
            "two numbers around it"
        )
    ends: list[Fraction | None] = []
    opens: list[bool] = []
    kinks = 0
    for direction in (-1, 1):
        limit = None
        if within is not None:
            limit = abs(Fraction(within[direction > 0]) - Fraction(start))
        way, is_open, passed = _walk(suffix, values, index, direction, label, limit)
        ends.append(None if way is None else Fraction(start) + direction * way)
        opens.append(is_open)
        kinks += passed
    return SafeInterval(
        seal=_SEAL,
        network_sha256=network.sha256,
        sites_sha256=sites.sha256,
        h=frozen(h),
        site=site,
        label=label,
        low=ends[0],
        high=ends[1],
        open_low=opens[0],
        open_high=opens[1],
        within=within,
        kinks=kinks,
    )


def _cut_values(sites: Sites, h: Float64[np.ndarray, " s"]) -> list[float]:
    if h.shape != (sites.size,):
        raise MalformedError(f"a point of shape {h.shape}, where there are {sites.size} sites")
    values = h[sites.cut_slice]
    if not np.isfinite(values).all():
        raise MalformedError(f"a point holds NaN or infinity at the cut {sites.cut}")
    return values.tolist()


def _cut_index(sites: Sites, site: int) -> int:
    cut = sites.cut_slice
    if type(site) is not int or not cut.start <= site < cut.stop:
        raise OptionError(
            f"site {site!r} does not lead to the logits: pass one of {cut.start} to "
            f"{cut.stop - 1}, the cut {sites.cut}"
        )
    return site - cut.start


class _Line(NamedTuple):
    """A layer on the current piece: ``(value + slope s) / one``, with ``one > 0``."""

    value: Integers
    slope: Integers
    one: int
    on: Bool[np.ndarray, " u"] | None
    """Which units are on; None where no ReLU follows"""
    kink: Fraction | None
    """The first zero ahead of a unit that a ReLU follows; None if there is none"""


def _walk(
    suffix: ExactSuffix,
    values: list[float],
    index: int,
    direction: int,
    label: int,
    limit: Fraction | None,
) -> tuple[Fraction | None, bool, int]:
    """How far a site can go one way (None: for ever), whether to a tie, and kinks passed."""
    point, one = homogeneous([Fraction(value) for value in values])
    slope = np.zeros(len(values), dtype=object)
    slope[index] = direction * one
    lines = [_Line(point, slope, one, None, None)]
    at, first, kinks = Fraction(0), 0, 0
    while True:
        lines = _from_layer(suffix, lines, first, at)
        margins = _margins(suffix, lines, label)
        if kinks == 0 and any(value <= 0 for value, _ in margins):
            raise RejectedError(
                f"label {label} does not win at the point itself: pass the label of its largest "
                "logit, which no other logit equals"
            )
        tie = _nearest((-value, grows) for value, grows in margins if grows < 0)
        kink, first = _next_kink(lines)
        nearest = min((end for end in (tie, kink, limit) if end is not None), default=None)
        if tie == nearest:
            return tie, True, kinks
        if limit == nearest:
            return limit, False, kinks
        if kink is None or kink <= at:
            raise KernelDefectError("a walk along one site does not get on")
        at = kink
        kinks += 1


def _from_layer(suffix: ExactSuffix, lines: list[_Line], first: int, at: Fraction) -> list[_Line]:
    """The piece just after ``at``: earlier lines as they were, from ``first`` on computed again."""
    found = lines[:first]
    here = lines[first]
    for layer in suffix.layers[first:]:
        value, slope = here.value, here.slope
        on = kink = None
        if layer.relu:
            there = value * at.denominator + slope * at.numerator
            on = (there > 0) | ((there == 0) & (slope > 0))
            ahead = np.flatnonzero(np.where(on, slope < 0, slope > 0))
            kink = _nearest((-value[unit], slope[unit]) for unit in ahead.tolist())
        found.append(_Line(value, slope, here.one, on, kink))
        if on is not None:
            value, slope = np.where(on, value, 0), np.where(on, slope, 0)
        here = _Line(
            value @ layer.W + here.one * layer.b,
            slope @ layer.W,
            here.one << layer.shift,
            None,
            None,
        )
    found.append(here)
    return found


def _margins(suffix: ExactSuffix, lines: list[_Line], label: int) -> list[tuple[int, int]]:
    """Value and slope of every margin on the current piece, up to one positive factor."""
    value, slope = lines[-1].value, lines[-1].slope
    if suffix.skip is not None:
        value = value + lines[0].value @ suffix.skip
        slope = slope + lines[0].slope @ suffix.skip
    rivals = [k for k in range(len(value)) if k != label]
    return [(value[label] - value[k], slope[label] - slope[k]) for k in rivals]


def _nearest(ratios: Iterable[tuple[int, int]]) -> Fraction | None:
    """The least of the fractions, compared as integers; None of none."""
    best: tuple[int, int] | None = None
    for up, down in ratios:
        if down < 0:
            up, down = -up, -down
        if best is None or up * best[1] < best[0] * down:
            best = up, down
    return None if best is None else Fraction(*best)


def _next_kink(lines: list[_Line]) -> tuple[Fraction | None, int]:
    """The first kink ahead and the first layer that has it."""
    nearest = min((line.kink for line in lines if line.kink is not None), default=None)
    layers = [number for number, line in enumerate(lines) if line.kink == nearest]
    return nearest, 0 if nearest is None else layers[0]
