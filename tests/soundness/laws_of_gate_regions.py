"""The laws of the gate's region certificates: margins, ranges, float32 evaluations.

What is proved of a region is compared with exact rationals at points of it, what is proved of
float32 with evaluations in several orders of summation.
"""

from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from .exact_margins import (
    Region,
    draw_region,
    draw_witness,
    fractions_of,
    gate_of,
    least_margins,
    regions,
)
from .laws_of_gate_extremes import beyond_float32, lines_above

_HAIR = Fraction(1, 10**9)


def bounds_of_points(kernel: ModuleType) -> Iterator[str]:
    """In a box of one point the bounds are the margins there, from below and nearly."""
    rng = np.random.default_rng(71)
    for region in regions()[::2]:
        point = np.maximum(region.centre, 0.0) if region.kind == "post" else region.centre
        at = region._replace(
            low=point, high=point, pattern=0 * region.pattern, rows=region.rows[:0],
            row_low=region.row_low[:0], row_high=region.row_high[:0],
        )  # fmt: skip
        for witness in (None, draw_witness(rng, kernel, at, 0.0, splits=0)):
            bounds = gate_of(kernel).region_bounds(*at.build(kernel), witness)
            logits = [abs(x) for x in at.values(fractions_of(point)[None])[1][0]]
            room = max(max(logits), _size(at) * Fraction(1)) * _HAIR
            exact = at.margins(fractions_of(point)[None])[0]
            for bound, margin in zip(bounds, exact, strict=True):
                if not margin - room <= float(bound) <= margin:
                    yield f"{at.name}: {bound} for the margin {float(margin)} of a point"


def _size(region: Region) -> Fraction:
    """A sum of absolute values that rounding errors are relative to."""
    reach = np.abs(fractions_of(region.centre))
    for W, b, _ in region.layers[region.layer :]:
        reach = reach @ np.abs(fractions_of(W)) + np.abs(fractions_of(b))
    if region.skip is not None:
        reach = reach + np.abs(fractions_of(region.centre)) @ np.abs(fractions_of(region.skip))
    return max(reach)


def bounds_of_regions(kernel: ModuleType) -> Iterator[str]:
    """No bound of any witness is above the margin of any point of the region."""
    rng = np.random.default_rng(72)
    for region in regions():
        yield from _above_truth(kernel, rng, region, 4)


def _above_truth(
    kernel: ModuleType, rng: np.random.Generator, region: Region, witnesses: int
) -> Iterator[str]:
    """What several witnesses prove together; every other one with one leaf at a time."""
    built, best = region.build(kernel), np.full(len(region.rivals), -np.inf)
    module: Any = import_module(f"{kernel.__name__}.gate._regions")
    before = module._BLOCK
    for number in range(witnesses):
        size = (0.0, 0.1, 1.0)[number % 3]
        witness = draw_witness(rng, kernel, region, size) if number else None
        module._BLOCK = (before, 1)[number % 2]
        try:
            bounds = gate_of(kernel).region_bounds(*built, witness)
        except kernel.MalformedError as error:
            yield f"{region.name}: an honest witness is refused: {error}"
            return
        finally:
            module._BLOCK = before
        best = np.maximum(best, bounds)
    for point, margins in least_margins(rng, region):
        for bound, margin in zip(best, margins, strict=True):
            if float(bound) > margin:
                yield (
                    f"{region.name}: {bound} for a margin that is {float(margin)} at "
                    f"{[float(a) for a in point]}"
                )
                return


def tight_bounds(kernel: ModuleType) -> Iterator[str]:
    """Where one unit is undecided, and where all are split, nothing may be off by a little."""
    rng = np.random.default_rng(73)
    for number in range(48):
        region = draw_region(
            rng,
            relu_layers=1 + number % 2,
            kind=("pre", "post", "input")[number % 3],
            width=(0.3, 1.0, 2.0)[number // 3 % 3],
            events=number % 3,
            pattern=number % 4 > 1,
            skip=number % 3 != 1 and number % 2 == 0,
            sizes=(1, 2),
        )
        yield from _above_truth(kernel, rng, region, 12)


def ranges(kernel: ModuleType) -> Iterator[str]:
    """Every unit of every point of the region is in the range of some leaf that holds the point."""
    rng = np.random.default_rng(74)
    for region in regions()[1::2]:
        split = draw_witness(rng, kernel, region, 0.0).split
        try:
            known = gate_of(kernel).region_leaves(*region.build(kernel), split)
        except kernel.MalformedError as error:
            yield f"{region.name}: an honest split is refused: {error}"
            continue
        low = np.concatenate([unit.low for unit in known.units.values()] or [[[]]], axis=1)
        high = np.concatenate([unit.high for unit in known.units.values()] or [[[]]], axis=1)
        for point, _ in least_margins(rng, region):
            units = region.values(point[None])[0][0]
            later = slice(low.shape[1] - len(units), None)
            within = (low[:, later] <= units) & (units <= high[:, later])
            if not (within.all(axis=1) & ~known.empty).any():
                yield f"{region.name}: a point of the cell is on no leaf"
                break


def tampered_witnesses(kernel: ModuleType) -> Iterator[str]:
    """200 witnesses with numbers out of their ranges: refused, or a bound that holds."""
    rng = np.random.default_rng(75)
    gate: Any = gate_of(kernel)
    for number in range(200):
        region = regions()[int(rng.integers(len(regions())))]
        witness = draw_witness(rng, kernel, region, 1.0)
        field = ("slopes", "betas", "multipliers", "split")[number % 4]
        values = np.array(getattr(witness, field))
        if not values.size:
            continue
        spot = tuple(int(rng.integers(n)) for n in values.shape)
        wild = (-0.5, 1.5, -1e3, 1e3, np.nan, np.inf, 1e300)
        values[spot] = int(rng.integers(-2, 40)) if field == "split" else wild[int(rng.integers(7))]
        try:
            bounds = gate.region_bounds(*region.build(kernel), witness._replace(**{field: values}))
        except kernel.UserError:
            continue
        for _, margins in least_margins(rng, region, worst=2):
            if any(float(bound) > margin for bound, margin in zip(bounds, margins, strict=True)):
                yield f"{region.name}: a witness with other {field} proves what is false"
                break


def _float32(region: Region, a: np.ndarray, order: str) -> np.ndarray:
    """Logits ``[n, x]`` in float32, sums taken in one of several orders."""

    def layer(z: np.ndarray, W: np.ndarray, b: np.ndarray, more: np.ndarray | None) -> np.ndarray:
        if order == "blas":
            out = z @ W + b
            return out if more is None else out + more
        terms = [b[None] + np.zeros((len(z), 1), np.float32)] if order == "bias first" else []
        terms += [z[:, k, None] * W[k] for k in range(len(W))]
        terms += [] if order == "bias first" else [b[None]]
        terms += [] if more is None else [more]
        total = np.float32(0)
        for term in reversed(terms) if order == "backwards" else terms:
            total = total + term
        return np.asarray(total, np.float32)

    z = a.astype(np.float32)
    more = None if region.skip is None else z @ region.skip.astype(np.float32)
    last = len(region.layers) - 1
    for number in range(region.layer, last + 1):
        W, b, relu = region.layers[number]
        if relu and number >= region.first_unit:
            z = np.maximum(z, np.float32(0))
        z = layer(z, W.astype(np.float32), b.astype(np.float32), more if number == last else None)
    return z


def _cancelling(rng: np.random.Generator, number: int) -> Region:
    """Layers of large terms that nearly cancel."""
    region = draw_region(rng, relu_layers=2, width=1e-3, sizes=(2, 3), skip=number % 3 == 1)
    layers = list(region.layers)
    first = layers[region.layer][0].copy()
    first[1] = -first[0] * region.centre[0] / region.centre[1]
    first[:, 1] = first[:, 0] * (1 + 1e-3 * rng.normal(size=len(first)))
    second = layers[region.layer + 1][0].copy()
    second[1] = -second[0]
    layers[region.layer] = (first * 1e3, layers[region.layer][1] + 3, layers[region.layer][2])
    layers[region.layer + 1] = (second, *layers[region.layer + 1][1:])
    return region._replace(
        layers=tuple(layers), skip=None if region.skip is None else 1e5 * region.skip
    )


def _stated_errors(
    kernel: ModuleType, region: Region, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    network, sites, _ = region.build(kernel)
    ledger = import_module(f"{kernel.__name__}._ledger").Ledger()
    module = import_module(f"{kernel.__name__}.gate._evaluations")
    return module.evaluation_error(network, sites, low, high, ledger)


def evaluations(kernel: ModuleType) -> Iterator[str]:
    """Every float32 evaluation of a logit difference is within twice the envelope."""
    rng = np.random.default_rng(76)
    drawn = [r for r in regions() if "huge" not in r.name][::3]
    for number in range(len(drawn) + 40):
        region = drawn[number] if number < len(drawn) else _cancelling(rng, number)
        # What a float32 run starts from is a float32 number.
        low, high = (e.astype(np.float32).astype(np.float64) for e in (region.low, region.high))
        high = np.maximum(high, 0.0) if region.kind == "post" else high
        errors = _stated_errors(kernel, region, low, high)
        a = low + rng.random((60, len(low))) * (high - low)
        a = np.clip(a.astype(np.float32).astype(np.float64), low, high)
        a = np.maximum(a, 0.0) if region.kind == "post" else a
        for order in ("blas", "forwards", "backwards", "bias first"):
            with np.errstate(under="ignore"):
                found = _float32(region, a, order).astype(np.float64)
            approximate = region.values(a)[1]
            chosen = np.unique(np.argmax(np.abs(found - approximate), axis=0))
            exact = region.values(fractions_of(a[chosen]))[1]
            off = np.abs(fractions_of(found[chosen]) - exact)
            if (off > fractions_of(errors)).any():
                yield f"{region.name}: float32 ({order}) is off by more than stated"
                break


def certificates(kernel: ModuleType) -> Iterator[str]:
    """A certificate's margin is above what float32 can be off, and true."""
    rng = np.random.default_rng(77)
    gate: Any = gate_of(kernel)
    for region in regions()[::2]:
        for factor in (1.0, 0.1, 0.0):
            centre = np.maximum(region.centre, 0.0) if region.kind == "post" else region.centre
            narrow = region._replace(
                low=centre - factor * (centre - region.low),
                high=centre + factor * (region.high - centre),
            )
            built = narrow.build(kernel)
            try:
                certified = gate.certify_region(*built)
            except (kernel.RejectedError, kernel.SemanticsError):
                continue
            if not certified.margin > 2 * certified.envelope > 0:
                yield f"{region.name}: certified with a margin of {certified.margin}"
            off = _stated_errors(kernel, narrow, narrow.low, narrow.high)
            most = max(Fraction(off[k]) + Fraction(off[region.label]) for k in region.rivals)
            if 2 * Fraction(certified.envelope) < most:
                yield f"{region.name}: an envelope below the errors of two logits"
            for _, margins in least_margins(rng, narrow):
                if min(margins) < certified.margin:
                    yield f"{region.name}: {certified.margin} certified, {float(min(margins))} true"
                    break


def close_calls(kernel: ModuleType) -> Iterator[str]:
    """A margin that float32 loses is not certified."""
    gate: Any = gate_of(kernel)
    for number in range(1, 30):
        gap = 2.0**-number
        # 2^4 and its successors: float32 has 24 bits, so 16 + 2^-21 rounds to 16.
        W = np.array([[16.0, 16.0], [gap, 0.0]])
        network = gate.ReluNetwork((gate.ReluLayer(W, np.zeros(2), relu=False),))
        sites = gate.Sites((gate.SiteGroup("x", "input", 2),), "x", 0)
        point = np.ones(2)
        cell = gate.Cell(
            point, point, np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros(0, np.int8), 0
        )
        try:
            gate.certify_region(network, sites, cell)
        except kernel.RejectedError:
            continue
        row = (np.float32(16.0) * np.ones(2, np.float32)) + np.array([gap, 0.0], np.float32)
        if not row[0] > row[1]:
            yield f"a margin of 2^-{number} is certified that float32 rounds away"


def coefficients_near_zero(kernel: ModuleType) -> Iterator[str]:
    """A coefficient that is 0 up to rounding is paid for, at whichever end it is worse."""
    rng = np.random.default_rng(81)
    gate: Any = gate_of(kernel)
    wide = np.array([2.0**70])
    for number in range(40):
        w, v = rng.normal(size=2)
        # The coefficient of x is w v less its rounded value; a fused sum finds it in one order.
        order = slice(None, None, (1, -1)[number // 4 % 2])
        first = np.array([[w, w * v]])[:, order]
        second = np.array([[v, 0.0], [-1.0, 0.0]])[order]
        relu = number % 2 == 1
        layers = ((np.eye(1), np.zeros(1), False),) * relu + (
            (first, np.zeros(2), relu),
            (second, np.zeros(2), False),
        )
        low = -wide if number % 4 > 1 or relu else 0 * wide
        no_rows = (np.zeros((0, 1)), np.zeros(0), np.zeros(0))
        region = Region(
            "near 0", layers, None, "input", 0, low, wide, *no_rows,
            np.zeros(int(relu), dtype=np.int8), 0, 0 * wide,
        )  # fmt: skip
        truth = min(region.margins(fractions_of(np.array([low, wide])))[:, 0])
        for slope in (0.0, 1.0):
            witness = gate.RegionWitness(
                np.full((1, 1, int(relu)), slope), np.zeros((1, 1, int(relu))),
                np.zeros((1, 1, 0)), np.zeros(0, dtype=np.int32),
            )  # fmt: skip
            bound = float(gate.region_bounds(*region.build(kernel), witness)[0])
            if bound > truth:
                yield f"a coefficient near 0: {bound} for a margin of {float(truth)}"


def refusals(kernel: ModuleType) -> Iterator[str]:
    """Numbers that bound nothing are refused: lines that cross, events of other sites, NaN."""
    gate: Any = gate_of(kernel)
    rng = np.random.default_rng(80)
    for kind in ("post", "pre"):
        region = draw_region(rng, kind=kind, events=1)
        network, sites, cell = region.build(kernel)
        witness = draw_witness(rng, kernel, region, 0.0, splits=0)
        infinite, rows = np.array([np.inf]), np.array(cell.rows)
        rows[0, 0] = 1.0
        tries = [
            (cell, field, value)
            for field, values in (
                ("slopes", (-1e-9, 1 + 1e-9, np.nan)),
                ("betas", (-1e-9, np.inf)),
                ("multipliers", (np.nan, -np.inf)),
            )
            for value in values
        ]
        for sign, changed in (
            (1.0, (rows, cell.row_low, cell.row_high)),
            (-1.0, (rows, cell.row_low, cell.row_high)),
            (1.0, (cell.rows, -infinite, cell.row_high)),
            (-1.0, (cell.rows, cell.row_low, infinite)),
        ):
            other = gate.Cell(cell.low, cell.high, *changed, cell.pattern, cell.label)
            tries.append((other, "multipliers", sign))
        for of, field, value in tries:
            used = np.array(getattr(witness, field))
            used[..., -1] = value
            try:
                gate.region_bounds(network, sites, of, witness._replace(**{field: used}))
            except kernel.MalformedError:
                continue
            yield f"{field} of {value} are used for a bound"


LAWS = (
    refusals,
    coefficients_near_zero,
    close_calls,
    bounds_of_points,
    ranges,
    evaluations,
    tampered_witnesses,
    tight_bounds,
    certificates,
    bounds_of_regions,
)


def of_bounds(kernel: ModuleType) -> Iterator[str]:
    """The laws of region certificates."""
    for law in (lines_above, *LAWS):
        yield from law(kernel)


def of_certificates(kernel: ModuleType) -> Iterator[str]:
    """The same, what is refused and certified first."""
    for law in (refusals, close_calls, certificates, tight_bounds, *LAWS):
        yield from law(kernel)


def of_evaluations(kernel: ModuleType) -> Iterator[str]:
    """The laws of float32 evaluations after a cut."""
    yield from beyond_float32(kernel)
    yield from close_calls(kernel)
    yield from evaluations(kernel)


WEAK_SPOTS = {
    "gate/_region_bounds.py": of_bounds,
    "gate/_regions.py": of_certificates,
    "gate/_evaluations.py": of_evaluations,
}
