"""The laws of single edits, against the pieces of every margin found layer by layer.

The oracle cuts a whole line at once, at the zeros of all units of a layer, then of the next; the
kernel walks along it. Both are exact, and share nothing.
"""

from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np

from .exact_margins import Region, draw_region, fractions_of, gate_of

_FAR = Fraction(2) ** 4000  # ties of subnormal weights are as far as 2^2200


def lines() -> Iterator[Region]:
    """Networks and points: some of whole numbers, where zeros coincide; some hostile."""
    rng = np.random.default_rng(81)
    for number in range(36):
        kind = ("pre", "post", "input")[number % 3]
        region = draw_region(
            rng,
            hostile=("plain", "ties", "ties", "tiny", "subnormal", "cancelling", "huge")[
                number % 7
            ],
            relu_layers=number // 3 % 3,
            kind=kind,
            skip=kind != "post" and number % 4 == 1,
            sizes=(2, 3),
        )
        if region.name.startswith("ties"):
            halves = [(W, np.round(2 * b) / 2, relu) for W, b, relu in region.layers]
            region = region._replace(layers=tuple(halves), centre=np.round(2 * region.centre) / 2)
            logits = region.values(region.centre[None])[1][0]
            region = region._replace(label=int(logits.argmax()))
        yield region


def moved(region: Region, site: int, values: list[Fraction]) -> np.ndarray:
    """The point with these values at one site, exactly."""
    points = np.tile(fractions_of(region.centre), (len(values), 1))
    points[:, site] = values
    return points


def margin_pieces(region: Region, site: int) -> tuple[list[Fraction], np.ndarray]:
    """Values of a site between which all margins are affine, and the margins there."""
    start = Fraction(float(region.centre[site]))
    values = sorted({-_FAR, Fraction(0), start, _FAR})
    for _ in region.layers:
        units = region.values(moved(region, site, values))[0]
        found = set(values)
        for before, after, a, b in zip(values[:-1], values[1:], units[:-1], units[1:], strict=True):
            for x, y in zip(a, b, strict=True):
                if x * y < 0:
                    found.add(before + (after - before) * x / (x - y))
        values = sorted(found)
    return values, region.margins(moved(region, site, values))


def true_ends(region: Region, site: int) -> list[Fraction | None]:
    """The nearest ties below and above the point; None if there are none."""
    values, margins = margin_pieces(region, site)
    middle = values.index(Fraction(float(region.centre[site])))
    ends: list[Fraction | None] = []
    for step in (-1, 1):
        end = None
        at = middle
        while end is None and 0 <= at + step < len(values):
            ties = [
                values[at] + (values[at + step] - values[at]) * x / (x - y)
                for x, y in zip(margins[at], margins[at + step], strict=True)
                if y <= 0
            ]
            end = min(ties, key=lambda tie: abs(tie - values[middle]), default=None)
            at += step
        ends.append(end)
    return ends


def safe_intervals(kernel: ModuleType) -> Iterator[str]:
    """The interval is the one between the nearest ties, number by number."""
    for region in lines():
        network, sites, cell = region.build(kernel)
        h = np.concatenate([[np.nan], region.centre])
        wins = region.margins(fractions_of(region.centre)[None]).min() > 0
        for site in range(len(region.centre)):
            try:
                found = gate_of(kernel).safe_interval(network, sites, h, site + 1, cell.label)
            except kernel.RejectedError:
                if wins:
                    yield f"{region.name}: the label wins at the point, which is refused"
                continue
            if not wins:
                yield f"{region.name}: an interval around a point that the label does not win"
                continue
            ends = true_ends(region, site)
            if [found.low, found.high] != ends:
                yield f"{region.name}: {found.low} .. {found.high}, in truth {ends}"
            yield from _ends_are_open(region, found)
            yield from _parts(kernel, region, h, site, ends)


def _ends_are_open(region: Region, found: Any) -> Iterator[str]:
    start = Fraction(float(found.h[found.site]))
    for end in (found.low, found.high):
        if end is None:
            continue
        near = (start + end) / 2
        if found.covers(end, end) or found.covers(min(start, end), max(start, end)):
            yield f"{region.name}: the tie at {end} is inside"
        if not found.covers(min(start, near), max(start, near)):
            yield f"{region.name}: {near}, half way to the end, is outside"
    if found.covers(np.nan, np.nan) or found.covers(float(start), np.inf):
        yield f"{region.name}: NaN or infinity is inside"


def _parts(
    kernel: ModuleType, region: Region, h: np.ndarray, site: int, ends: list[Fraction | None]
) -> Iterator[str]:
    """Looking only so far: the same, up to there."""
    network, sites, cell = region.build(kernel)
    start = float(region.centre[site])
    exact = [start if end is None or abs(end) > 1e300 else float(end) for end in ends]
    for within in ((start - 0.5, start + 0.25), (min(exact[0], start), max(exact[1], start))):
        found = gate_of(kernel).safe_interval(network, sites, h, site + 1, cell.label, within)
        for end, limit, is_open, side in (
            (ends[0], within[0], found.open_low, found.low),
            (ends[1], within[1], found.open_high, found.high),
        ):
            reached = end is None or abs(Fraction(limit) - Fraction(start)) < abs(
                end - Fraction(start)
            )
            if (side, is_open) != ((Fraction(limit), False) if reached else (end, True)):
                yield f"{region.name}: within {within} the end {side}, open {is_open}"


def exact_values(kernel: ModuleType) -> Iterator[str]:
    """The margins of rational points are the margins."""
    rng = np.random.default_rng(82)
    for region in lines():
        network, sites, cell = region.build(kernel)
        point = fractions_of(region.centre)
        point += [Fraction(int(n), 7) for n in rng.integers(-9, 9, len(point))]
        found = gate_of(kernel).exact_margins(network, sites, list(point), cell.label)
        if list(found) != list(region.margins(point[None])[0]):
            yield f"{region.name}: margins of a rational point are not the true ones"


def of_single_sites(kernel: ModuleType) -> Iterator[str]:
    """All laws of this file."""
    yield from exact_values(kernel)
    yield from safe_intervals(kernel)


WEAK_SPOTS = {f"gate/{name}.py": of_single_sites for name in ("_exact_suffix", "_single_site")}
"""Where a defect of a file shows soonest."""
