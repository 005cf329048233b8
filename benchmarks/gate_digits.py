"""The gate on digits: coverage and errors, monitors beside it, attacks, anomalies.

    python benchmarks/gate_digits.py [--seeds 0 1 2 3 4] [--results FILE]

64-32-32-10 networks, cut at the first hidden layer's pre-activations. Regions are built on 900
training images, counted on 450 others, reported on 447 that nothing was chosen by; the settings
below were chosen on seeds 10 to 14. Only regions that ``certify_region`` accepts count. Writes
``results/gate_digits.json`` after every seed (seeds that are there are not made again), then
prints the tables.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compactproofs.gate._anomalies import (
    NOVEL_CLASSES,
    TARGET,
    Labelled,
    attacked,
    noisy,
    training_data,
    triggered,
    trusted,
)
from compactproofs.gate._clusters import spread
from compactproofs.gate._forward import activations
from compactproofs.gate._regions import RegionSettings, raised, search_regions
from compactproofs.gate.monitors import MONITORS
from compactproofs.kernel.gate import (
    Cell,
    CellTable,
    RegionWitness,
    ReluNetwork,
    SiteGroup,
    Sites,
)
from compactproofs.kernel.gate._alpha import AlphaAccount
from compactproofs.kernel.gate._proportions import lower_mass, upper_risk
from compactproofs.training._digits import MlpSettings, digits_splits, train_mlp
from gate_attacks import EPS, projected_ascent, towards_cells

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "gate_digits.json"
SEEDS = range(5)
NETWORK = MlpSettings(weight_decay=5e-3, epochs=300)
REGIONS = RegionSettings(margin=0.1, most=1000)
MARGINS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
MARGIN = 0.1
"""Of the evidence, where one setting is quoted"""
INPUT_RANGES = (None, 4.0, 1.0)
"""How much wider than a class's pixels the input may be, in standard deviations"""
CONJUNCTION = 4.0
TAU = Fraction(1, 100_000)
ALPHAS = ("0.05", "1e-3", "1e-6", "1e-12")
ALPHA = "1e-3"
EPS_ACT = 1e-6


class Rows(NamedTuple):
    """Inputs, what the network makes of them, and whether its answer is wrong."""

    x: np.ndarray
    y: np.ndarray
    h: np.ndarray
    answers: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """Where the answer is not the label."""
        return np.asarray(self.answers != self.y)


def sites_of(network: ReluNetwork) -> Sites:
    widths = network.widths
    groups = SiteGroup("x", "input", widths[0]), SiteGroup("pre1", "pre", widths[1])
    return Sites(groups, "pre1", 1)


def run(network: ReluNetwork, x: np.ndarray, y: np.ndarray) -> Rows:
    seen = activations(network, sites_of(network), x)
    return Rows(x, y, seen.h, seen.outputs.argmax(axis=1))


class Built(NamedTuple):
    """A network's regions before any is refused, and the rows."""

    network: ReluNetwork
    regions: list[tuple[Cell, RegionWitness]]
    train: Rows
    check: Rows
    test: Rows
    seconds: dict[str, float]


def build(seed: int, settings: MlpSettings, kind: str = "none") -> Built:
    """Train on what an enemy of that kind left (``none``: on clean data), and search."""
    clean = digits_splits(seed)
    harmed = kind != "none"
    mine = Labelled(*clean.train)
    seconds = {}
    start = time.perf_counter()
    data = training_data(kind, mine, seed) if harmed else mine
    network = train_mlp(data.x, data.y, replace(settings, seed=seed))
    seconds["train"] = time.perf_counter() - start
    parts = [Labelled(*part) for part in clean]
    parts = [trusted(kind, part) for part in parts] if harmed else parts
    train, check, test = (run(network, *part) for part in parts)
    start = time.perf_counter()
    regions = search_regions(network, sites_of(network), train.h, train.y, REGIONS)
    seconds["search and certify"] = time.perf_counter() - start
    return Built(network, regions, train, check, test, seconds)


def family(built: Built, margin: float, widen: float | None = None) -> list[Cell]:
    """The regions at a margin, with ranges of the input around each class if ``widen`` is given."""
    cells = [raised(cell, margin - REGIONS.margin) for cell, _ in built.regions]
    if widen is None:
        return cells
    pixels = sites_of(built.network).slice("x")
    found = []
    for cell in cells:
        x = built.train.x[built.train.y == cell.label]
        low, high = cell.low.copy(), cell.high.copy()
        low[pixels], high[pixels] = x.min(0) - widen * spread(x), x.max(0) + widen * spread(x)
        found.append(replace(cell, low=low, high=high))
    return found


class Gate:
    """Admission by the cells whose mass is shown, at a total alpha for all of them."""

    def __init__(self, built: Built, cells: list[Cell], alpha: str = ALPHA) -> None:
        """Count the check rows in each cell."""
        self.table = CellTable(built.network, sites_of(built.network), cells, EPS_ACT)
        hits = self.table.inside(built.check.h)
        account = AlphaAccount(Fraction(alpha))
        n = len(built.check.y)
        self.kept = np.array(
            [lower_mass(int(k), n, account.amount(j)) >= TAU for j, k in enumerate(hits.sum(0), 1)]
        )
        self.cells = cells
        self.bad = int((hits.any(1) & built.check.wrong).sum())
        """Among check rows in any cell, kept or not: the kept ones are chosen by these rows"""

    def admits(self, h: np.ndarray) -> np.ndarray:
        """Which points are in a cell that is kept."""
        return np.asarray(self.table.inside(h)[:, self.kept].any(axis=1))


def shares(gate: Gate, rows: Rows) -> dict[str, Any]:
    admitted = gate.admits(rows.h)
    return {
        "coverage": float(admitted.mean()),
        "admitted": int(admitted.sum()),
        "wrong": int((admitted & rows.wrong).sum()),
        "cells": int(gate.kept.sum()),
    }


def coverage_rows(built: Built) -> list[dict[str, Any]]:
    """The family from the largest margin down; delta holds for each of its sets (G2b)."""
    found, worst = [], Fraction(0)
    for margin in sorted(MARGINS, reverse=True):
        gate = Gate(built, family(built, margin))
        risk = upper_risk(gate.bad, len(built.check.y), Fraction(1, 20))
        worst = max(worst, risk)
        row = {"margin": margin} | shares(gate, built.test)
        found.append(row | {"check bad": gate.bad, "delta at alpha 0.05": float(worst)})
    return found


def monitors_at(built: Built, coverage: float) -> dict[str, Any]:
    """Every monitor admits the same number of test rows, those that it finds least strange."""
    cut = sites_of(built.network).cut_slice
    count = round(coverage * len(built.test.y))
    found = {}
    for name, make in MONITORS.items():
        monitor = make().fit(built.train.h[:, cut], built.train.y)
        order = np.argsort(monitor.score(built.test.h[:, cut]), kind="stable")[:count]
        found[name] = int(built.test.wrong[order].sum())
    return found


def attack_rows(built: Built, seed: int) -> list[dict[str, Any]]:
    """The trade-off: cells alone, and with ranges of the input; three attacks on right answers."""
    network, test, right = built.network, built.test, ~built.test.wrong
    last = run(network, projected_ascent(network, test.x, test.y, seed), test.y)
    first = attacked(network, Labelled(test.x, test.y), seed, eps=EPS)
    last_h = last.h[last.wrong & right]
    first_h = run(network, first.x, test.y).h[first.succeeded & right]
    found = []
    for widen in INPUT_RANGES:
        for margin in MARGINS:
            gate = Gate(built, family(built, margin, widen))
            row = {"margin": margin, "input ranges": widen} | shares(gate, test)
            row |= {"attacks": len(last_h), "attacks admitted": int(gate.admits(last_h).sum())}
            row["first points"] = len(first_h)
            row["first points admitted"] = int(gate.admits(first_h).sum())
            if margin in (MARGIN, 1.0):
                row["adaptive"] = adaptive(built, gate)
            found.append(row)
    return found


def adaptive(built: Built, gate: Gate) -> dict[str, int]:
    """An enemy that knows the cells, on the test rows that are answered rightly."""
    network, right = built.network, ~built.test.wrong
    x, y = built.test.x[right], built.test.y[right]
    kept = [cell for cell, keeps in zip(gate.cells, gate.kept, strict=True) if keeps]

    def wrongly_admitted(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
        seen = run(network, points, y[rows])
        return gate.admits(seen.h) & seen.wrong

    return towards_cells(network, sites_of(network), kept, x, y, wrongly_admitted)


def anomaly_rows(built: Built, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Admitted shares: of inputs without meaning, of changed ones, in models of a harmed world."""
    rng, test = np.random.default_rng(seed), built.test
    nothing = np.full(len(test.y), -1)
    found = {
        "uniform noise": admitted_shares(built, rng.uniform(size=test.x.shape), nothing),
        "Gaussian noise 0.25": admitted_shares(built, noisy(test.x, seed), test.y),
        "pixels shuffled": admitted_shares(built, rng.permuted(test.x, axis=1), nothing),
    }
    data = digits_splits(seed).test
    clean, novel = data.y != TARGET, np.isin(data.y, NOVEL_CLASSES)
    harmed = build(seed, NETWORK, "corner")
    triggered_x = triggered("corner", data.x[clean], seed)
    found["corner trigger"] = admitted_shares(harmed, triggered_x, data.y[clean])
    fewer = build(seed, NETWORK, "novel")
    found["novel classes"] = admitted_shares(fewer, data.x[novel], data.y[novel])
    return found


def admitted_shares(built: Built, x: np.ndarray, y: np.ndarray) -> list[dict[str, Any]]:
    rows, found = run(built.network, x, y), []
    for widen in (None, CONJUNCTION):
        for margin in (MARGIN, 1.0):
            gate = Gate(built, family(built, margin, widen))
            admitted = gate.admits(rows.h)
            row = {"input ranges": widen, "margin": margin, "inputs": len(x)}
            row |= {"admitted": float(admitted.mean())}
            row["admitted and wrong"] = float((admitted & rows.wrong).mean())
            found.append(row | {"coverage": float(gate.admits(built.test.h).mean())})
    return found


def measure(seed: int) -> dict[str, Any]:
    built = build(seed, NETWORK)
    gate = Gate(built, family(built, MARGIN))
    quoted = shares(gate, built.test)
    return {
        "seed": seed,
        "seconds": built.seconds,
        "regions": len(built.regions),
        "model wrong": float(built.test.wrong.mean()),
        "quoted": quoted,
        "monitors wrong at that coverage": monitors_at(built, quoted["coverage"]),
        "family": coverage_rows(built),
        "coverage by alpha": {
            alpha: shares(Gate(built, gate.cells, alpha), built.test)["coverage"]
            for alpha in ALPHAS
        },
        "attacks": attack_rows(built, seed),
        "anomalies": anomaly_rows(built, seed),
    }


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def share(rows: Sequence[dict[str, Any]], of: str, among: str) -> float:
    return sum(row[of] for row in rows) / max(1, sum(row[among] for row in rows))


def show(rows: list[dict[str, Any]]) -> None:
    seconds = mean([sum(row["seconds"].values()) for row in rows])
    print(f"{len(rows)} seeds; the model is wrong on {mean([r['model wrong'] for r in rows]):.4f}")
    print(f"{mean([r['regions'] for r in rows]):.0f} regions, {seconds:.0f} s to train and build")
    quoted = [row["quoted"] for row in rows]
    print(
        f"\nmargin {MARGIN}, alpha {ALPHA}: coverage {mean([q['coverage'] for q in quoted]):.3f}, "
        f"wrong {sum(q['wrong'] for q in quoted)} of {sum(q['admitted'] for q in quoted)} = "
        f"{share(quoted, 'wrong', 'admitted'):.4f}"
    )
    admitted = sum(q["admitted"] for q in quoted)
    for name in rows[0]["monitors wrong at that coverage"]:
        wrong = sum(row["monitors wrong at that coverage"][name] for row in rows)
        print(f"  {name:24} wrong {wrong / admitted:.4f} at the same coverage")
    print("\n margin  coverage  wrong    cells  delta at alpha 0.05 (mean)")
    for i, first in enumerate(rows[0]["family"]):
        same = [row["family"][i] for row in rows]
        print(
            f"  {first['margin']:5}  {mean([r['coverage'] for r in same]):.3f}    "
            f"{share(same, 'wrong', 'admitted'):.4f}  {mean([r['cells'] for r in same]):5.0f}  "
            f"{mean([r['delta at alpha 0.05'] for r in same]):.4f}"
        )
    for alpha in ALPHAS:
        covered = mean([row["coverage by alpha"][alpha] for row in rows])
        print(f"  alpha {alpha:6} for all masses: coverage {covered:.3f}")
    print("\n input ranges  margin  coverage  wrong   attacks admitted  first points  adaptive")
    for i, first in enumerate(rows[0]["attacks"]):
        same = [row["attacks"][i] for row in rows]
        known = ""
        if "adaptive" in first:
            aware = [row["adaptive"] for row in same]
            reached = share(aware, "reachable", "rows")
            known = f"{share(aware, 'fooled', 'rows'):.3f} of {reached:.3f} within reach"
        covered = mean([row["coverage"] for row in same])
        print(
            f"  {first['input ranges'] or 'none':>11}  {first['margin']:5}   {covered:.3f}     "
            f"{share(same, 'wrong', 'admitted'):.4f}  "
            f"{share(same, 'attacks admitted', 'attacks'):.3f}             "
            f"{share(same, 'first points admitted', 'first points'):.3f}         {known}"
        )
    print("\n anomaly              input ranges  margin  clean coverage  admitted  and wrong")
    for name in rows[0]["anomalies"]:
        for i, first in enumerate(rows[0]["anomalies"][name]):
            same = [row["anomalies"][name][i] for row in rows]
            print(
                f"  {name:20} {first['input ranges'] or 'none':>11}  {first['margin']:5}    "
                f"{mean([r['coverage'] for r in same]):.3f}         "
                f"{mean([r['admitted'] for r in same]):.4f}    "
                f"{mean([r['admitted and wrong'] for r in same]):.4f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if arguments.results.exists():
        rows = json.loads(arguments.results.read_text())["seeds"]
    for seed in arguments.seeds:
        if any(row["seed"] == seed for row in rows):
            continue
        rows.append(measure(seed))
        rows.sort(key=lambda row: row["seed"])
        text = json.dumps({"numpy": np.__version__, "seeds": rows}, indent=1)
        arguments.results.write_text(text + "\n")
        print(f"seed {seed}: {rows[-1]['quoted']}", flush=True)
    show([row for row in rows if row["seed"] in arguments.seeds])


if __name__ == "__main__":
    main()
