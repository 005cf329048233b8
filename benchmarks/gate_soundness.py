"""Attack what the gate has certified: points inside cells, exact replays, tampered certificates.

    python benchmarks/gate_soundness.py [--points 1000000] [--tampered 200]

Certified cells of digits networks of several widths, cuts and seeds. Random points of every cell
and gradient attacks that stay in it: no margin may be below the certified one, not only not
negative. Points that come nearest are evaluated in exact rationals. Then certificates are tampered
with, one change each (box, label, event, sign, witness, weights): what is still accepted must be
true of the changed cell, under the same attack. Writes ``results/gate_soundness.json``; exits with
1 if anything false was accepted.
"""

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compactproofs.gate._edits import gradient
from compactproofs.gate._forward import activations
from compactproofs.gate._refute import in_cell, seems_inside
from compactproofs.gate._regions import RegionSettings, search_regions
from compactproofs.gate._suffix import Suffix
from compactproofs.kernel import UserError
from compactproofs.kernel.gate import (
    Cell,
    RegionWitness,
    ReluLayer,
    ReluNetwork,
    SiteGroup,
    Sites,
    certify_region,
    exact_margins,
)
from compactproofs.training._digits import MlpSettings, digits_splits, train_mlp

RESULTS = Path(__file__).resolve().parent / "results" / "gate_soundness.json"
MODELS = (
    *(((32, 32), 1, seed) for seed in range(5)),
    ((16, 16), 1, 0),
    ((64, 64), 1, 0),
    ((32, 32), 2, 0),
    ((32, 32), 0, 0),
)
"""Hidden widths, cut, seed."""
CELLS = 60
EXACT = 3
TINY = 1e-9


class Case(NamedTuple):
    """A network, where it is cut, certified cells, and recorded values at the cut."""

    name: str
    network: ReluNetwork
    sites: Sites
    regions: list[tuple[Cell, RegionWitness]]
    recorded: np.ndarray


def make_case(hidden: tuple[int, int], cut: int, seed: int) -> Case:
    splits = digits_splits(seed)
    network = train_mlp(splits.train.x, splits.train.y, MlpSettings(hidden=hidden, seed=seed))
    kind = "pre" if cut else "input"
    sites = Sites((SiteGroup(f"z{cut}", kind, network.widths[cut]),), f"z{cut}", cut)
    h = activations(network, sites, splits.train.x).h
    settings = RegionSettings(clusters=(1, 4), depth=2, most=CELLS)
    regions = search_regions(network, sites, h, splits.train.y, settings)
    return Case(f"{hidden}, cut {cut}, seed {seed}", network, sites, regions, h)


def least_margins(suffix: Suffix, points: np.ndarray, label: int) -> np.ndarray:
    logits = suffix.forward(points)[1]
    margins = logits[:, label, None] - logits
    margins[:, label] = np.inf
    return margins.min(axis=1)


def retracted(
    case: Case, suffix: Suffix, cell: Cell, anchors: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """The target if it is in the cell, else the last point inside on the way there."""
    inside = anchors.copy()
    fine = seems_inside(suffix, case.sites, cell, targets)
    inside[fine], outside = targets[fine], targets.copy()
    for _ in range(20):
        middle = 0.5 * (inside + outside)
        fine = seems_inside(suffix, case.sites, cell, middle)[:, None]
        inside, outside = np.where(fine, middle, inside), np.where(fine, outside, middle)
    return inside


def inside_points(
    case: Case, suffix: Suffix, cell: Cell, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Random points of the cell, then points that a gradient attack reaches inside it."""
    cut = case.sites.cut_slice
    low, high = cell.low[cut], cell.high[cut]
    near = case.recorded[:, cut]
    boxed = ((near >= low) & (near <= high)).all(axis=1)
    anchors = near[boxed]
    anchors = anchors[seems_inside(suffix, case.sites, cell, anchors)]
    if not len(anchors):
        # A changed cell may hold nothing that was recorded.
        anywhere = low + rng.random((20_000, len(low))) * (high - low)
        anchors = anywhere[seems_inside(suffix, case.sites, cell, anywhere)]
    if not len(anchors):
        return anchors
    picked = anchors[rng.integers(0, len(anchors), count)]
    parts = rng.random((count, len(low)))
    corners = rng.random(count) < 0.3
    parts[corners] = np.round(parts[corners])
    ends = retracted(case, suffix, cell, picked, low + parts * (high - low))
    random = picked + rng.random((count, 1)) ** 0.5 * (ends - picked)
    points = anchors[rng.integers(0, len(anchors), 64)]
    reached = [random[seems_inside(suffix, case.sites, cell, random)]]
    for _ in range(15):
        logits = suffix.forward(points)[1].copy()
        logits[:, cell.label] = -np.inf
        slope = gradient(suffix, points, cell.label, logits.argmax(axis=1))
        corner = np.where(slope > 0, low, np.where(slope < 0, high, points))
        rate = rng.choice([1.0, 0.3, 0.1], (len(points), 1))
        points = retracted(case, suffix, cell, points, points + rate * (corner - points))
        reached.append(points)
    return np.concatenate(reached)


def below(case: Case, cell: Cell, claimed: float, points: np.ndarray) -> tuple[int, int, float]:
    """Exactly evaluated points of a cell, those below the claim among them, least slack seen."""
    suffix = Suffix(case.network, case.sites)
    margins = least_margins(suffix, points, cell.label)
    nearest = np.argsort(margins)[:EXACT]
    suspects = np.union1d(nearest, np.flatnonzero(margins < claimed - TINY)[:20])
    replayed = violations = 0
    for point in points[suspects]:
        exact = [Fraction(value) for value in point.tolist()]
        if in_cell(case.network, case.sites, cell, exact):
            replayed += 1
            margin = min(exact_margins(case.network, case.sites, exact, cell.label))
            violations += margin < Fraction(claimed)
    return replayed, violations, float(margins.min() - claimed)


def tampered(
    case: Case, cell: Cell, witness: RegionWitness, rng: np.random.Generator
) -> tuple[str, Case, Cell, RegionWitness]:
    """One change to what is certified."""
    kind = str(rng.choice(["box", "label", "event", "sign", "slopes", "multipliers", "weights"]))
    pattern, events = np.flatnonzero(cell.pattern == 0), len(cell.rows)
    if (kind == "sign" and not len(pattern)) or (kind in ("event", "multipliers") and not events):
        kind = "box"
    if kind == "box":
        by = float(rng.choice([0.05, 0.5, 3.0])) * rng.random(len(cell.low))
        cell = replace(cell, low=cell.low - by, high=cell.high + by)
    elif kind == "label":
        others = [k for k in range(case.network.outputs) if k != cell.label]
        cell = replace(cell, label=int(rng.choice(others)))
    elif kind == "event":
        loose = float(rng.choice([0.1, 1.0, 10.0]))
        cell = replace(cell, row_low=cell.row_low - loose)
    elif kind == "sign":
        pattern = cell.pattern.copy()
        signed = np.flatnonzero(pattern)
        if len(signed):
            pattern[rng.choice(signed)] *= -1
        cell = replace(cell, pattern=pattern)
    elif kind == "slopes":
        slopes = rng.random(witness.slopes.shape) * float(rng.choice([1.0, 1.5]))
        witness = witness._replace(slopes=slopes)
    elif kind == "multipliers":
        scaled = witness.multipliers * float(rng.choice([-1.0, 0.5, 2.0, 100.0]))
        witness = witness._replace(multipliers=scaled)
    else:
        number = int(rng.integers(case.sites.layer, len(case.network.layers)))
        layers = list(case.network.layers)
        noise = 1 + float(rng.choice([0.01, 0.1])) * rng.normal(size=layers[number].W.shape)
        layers[number] = ReluLayer(layers[number].W * noise, layers[number].b, layers[number].relu)
        case = case._replace(network=ReluNetwork(tuple(layers)))
    return kind, case, cell, witness


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--tampered", type=int, default=200)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    cases = [make_case(*model) for model in MODELS]
    regions = sum(len(case.regions) for case in cases)
    each = -(-arguments.points * 11 // (10 * max(regions, 1)))
    rows: list[dict[str, Any]] = []
    for case in cases:
        suffix = Suffix(case.network, case.sites)
        row = Counter[str]()
        slack = np.inf
        for cell, witness in case.regions:
            claimed = certify_region(case.network, case.sites, cell, witness).margin
            points = inside_points(case, suffix, cell, each, rng)
            if not len(points):
                continue
            replayed, violations, least = below(case, cell, claimed, points)
            row.update(points=len(points), replayed=replayed, violations=violations, cells=1)
            slack = min(slack, least)
        rows.append({"model": case.name, **row, "least_slack": slack})
        print(json.dumps(rows[-1]), flush=True)
    kinds: dict[str, Counter[str]] = {}
    false = 0
    with_cells = [case for case in cases if case.regions]
    for _ in range(arguments.tampered):
        case = with_cells[int(rng.integers(0, len(with_cells)))]
        cell, witness = case.regions[int(rng.integers(0, len(case.regions)))]
        kind, case, cell, witness = tampered(case, cell, witness, rng)
        tally = kinds.setdefault(kind, Counter())
        try:
            claimed = certify_region(case.network, case.sites, cell, witness).margin
        except UserError as error:
            tally[type(error).__name__] += 1
            continue
        tally["accepted"] += 1
        points = inside_points(case, Suffix(case.network, case.sites), cell, 2000, rng)
        tally["accepted without a point found"] += not len(points)
        if len(points):
            violations = below(case, cell, claimed, points)[1]
            tally["accepted and attacked"] += 1
            tally["accepted and false"] += violations > 0
            false += violations > 0
    violations = sum(row["violations"] for row in rows)
    result = {
        "models": rows,
        "points": sum(row["points"] for row in rows),
        "cells": sum(row["cells"] for row in rows),
        "replayed_exactly": sum(row["replayed"] for row in rows),
        "violations": violations,
        "tampered": arguments.tampered,
        "tampered_by_kind": {kind: dict(tally) for kind, tally in kinds.items()},
        "tampered_accepted_and_false": false,
        "seconds": time.perf_counter() - start,
    }
    print(json.dumps({name: value for name, value in result.items() if name != "models"}))
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return int(bool(violations or false))


if __name__ == "__main__":
    sys.exit(main())
