"""Edits of one activation: decided exactly, beside what setting it to 0 says.

    python benchmarks/gate_edits.py [--seeds 5] [--inputs 447] [--weight-decay 0]

Digits networks 64-32-32-10, cut behind the first ReLU; the lab range of a neuron is what it had on
the training images, and the label is the network's answer. For every test input and neuron: does
the answer survive 0, and does it survive every value of the lab range (``check_edit``, exact)?
Then for every input: do all neurons that are free one by one stay free together (400 random
corners), and of each two of them? What is called safe is tried on a grid, what is called unsafe is
evaluated exactly. Writes ``results/gate_edits.json``; exits with 1 if anything safe is not.
"""

import argparse
import json
import sys
import time
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from compactproofs.gate._edits import EditSettings, Safety, check_edit
from compactproofs.gate._forward import activations
from compactproofs.gate._suffix import Suffix
from compactproofs.kernel.gate import ReluNetwork, SiteGroup, Sites, exact_margins
from compactproofs.training._digits import MlpSettings, digits_splits, train_mlp

RESULTS = Path(__file__).resolve().parent / "results" / "gate_edits.json"
CORNERS = 400
GRID = 33
PAIR_INPUTS = 60
SEARCHED = 60


def margins_of(suffix: Suffix, points: np.ndarray, label: int) -> np.ndarray:
    """The least margin at each point, in float64."""
    logits = suffix.forward(points)[1]
    margins = logits[:, label, None] - logits
    margins[:, label] = np.inf
    return margins.min(axis=1)


def exactly(network: ReluNetwork, sites: Sites, point: np.ndarray, label: int) -> Fraction:
    return min(exact_margins(network, sites, [Fraction(v) for v in point.tolist()], label))


def survives(
    network: ReluNetwork, sites: Sites, suffix: Suffix, points: np.ndarray, label: int
) -> np.ndarray:
    """Whether the label wins at each point; exactly where float64 is not sure."""
    margins = margins_of(suffix, points, label)
    wins = margins > 0
    for near in np.flatnonzero(np.abs(margins) < 1e-6):
        wins[near] = exactly(network, sites, points[near], label) > 0
    return wins


def pairs_unsafe(
    suffix: Suffix, h: np.ndarray, label: int, free: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[int, int]:
    """Of each two free neurons, whether some joint setting loses: corners and a grid of 5 x 5."""
    pairs = np.array(list(combinations(free.tolist(), 2))).reshape(-1, 2)
    parts = np.stack(np.meshgrid(*[np.linspace(0, 1, 5)] * 2), axis=-1).reshape(-1, 2)
    points = np.tile(h, (len(pairs), len(parts), 1))
    rows = np.arange(len(pairs))[:, None]
    for side in (0, 1):
        site = pairs[:, side]
        values = low[site, None] + parts[None, :, side] * (high - low)[site, None]
        points[rows, np.arange(len(parts))[None], site[:, None]] = values
    worst = margins_of(suffix, points.reshape(-1, len(h)), label).reshape(len(pairs), -1)
    return int((worst <= -1e-9).any(axis=1).sum()), len(pairs)


def of_seed(seed: int, inputs: int, weight_decay: float) -> dict[str, Any]:
    splits = digits_splits(seed)
    settings = MlpSettings(weight_decay=weight_decay, seed=seed)
    network = train_mlp(splits.train.x, splits.train.y, settings)
    width = network.widths[1]
    sites = Sites((SiteGroup("post1", "post", width),), "post1", 1)
    suffix = Suffix(network, sites)
    lab = activations(network, sites, splits.train.x).h
    low, high = lab.min(axis=0), lab.max(axis=0)
    h, outputs = activations(network, sites, splits.test.x[:inputs])
    labels = outputs.argmax(axis=1)
    rng = np.random.default_rng(seed)
    count = dict.fromkeys(
        "pairs zero_safe safe ablation_wrong zero_unsafe_but_range_safe inputs joint_unsafe free "
        "joint_pairs joint_pairs_unsafe false_safe false_unsafe unknown".split(),
        0,
    )
    seconds = 0.0
    for number, (point, label) in enumerate(zip(h, labels.tolist(), strict=True)):
        zeroed = np.where(np.eye(width, dtype=bool), 0.0, point)
        zero_safe = survives(network, sites, suffix, zeroed, label)
        start = time.perf_counter()
        checks = [
            check_edit(network, sites, point, {site: (float(low[site]), float(high[site]))}, label)
            for site in range(width)
        ]
        seconds += time.perf_counter() - start
        safe = np.array([check.safety is Safety.SAFE for check in checks])
        for site, check in enumerate(checks):
            count["unknown"] += check.safety is Safety.UNKNOWN
            if check.witness is not None:
                value = check.witness[site]
                inside = Fraction(float(low[site])) <= value <= Fraction(float(high[site]))
                count["false_unsafe"] += check.margin is None or check.margin > 0 or not inside
        grid = np.tile(point, (width, GRID, 1))
        steps = np.linspace(0.0, 1.0, GRID)
        grid[np.arange(width)[:, None], np.arange(GRID), np.arange(width)[:, None]] = np.clip(
            low[:, None] + steps * (high - low)[:, None], low[:, None], high[:, None]
        )
        wins = survives(network, sites, suffix, grid.reshape(-1, width), label)
        count["false_safe"] += int((safe & ~wins.reshape(width, GRID).all(axis=1)).sum())
        count["pairs"] += width
        count["zero_safe"] += int(zero_safe.sum())
        count["safe"] += int(safe.sum())
        count["ablation_wrong"] += int((zero_safe & ~safe).sum())
        count["zero_unsafe_but_range_safe"] += int((~zero_safe & safe).sum())
        free = np.flatnonzero(safe)
        corners = np.tile(point, (CORNERS, 1))
        corners[:, free] = np.where(rng.random((CORNERS, len(free))) < 0.5, low[free], high[free])
        worst = corners[margins_of(suffix, corners, label).argmin()]
        count["inputs"] += 1
        count["free"] += len(free)
        count["joint_unsafe"] += exactly(network, sites, worst, label) <= 0
        if number < PAIR_INPUTS:
            unsafe, pairs = pairs_unsafe(suffix, point, label, free, low, high)
            count["joint_pairs"] += pairs
            count["joint_pairs_unsafe"] += unsafe
    several = of_several(network, sites, h, labels, low, high, rng)
    wrong = float((labels != splits.test.y[:inputs]).mean())
    return {
        "seed": seed,
        "model_error": wrong,
        **{name: int(value) for name, value in count.items()},
        "ms_per_site": 1000 * seconds / count["pairs"],
        "several": several,
    }


def of_several(
    network: ReluNetwork,
    sites: Sites,
    h: np.ndarray,
    labels: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Edits of several neurons over their whole lab range: how often each answer."""
    found: dict[str, Any] = {}
    for size in (2, 4, 8):
        tally = dict.fromkeys((safety.name for safety in Safety), 0)
        start = time.perf_counter()
        for _ in range(SEARCHED):
            row = int(rng.integers(0, len(h)))
            chosen = rng.permutation(len(low))[:size].tolist()
            edit = {site: (float(low[site]), float(high[site])) for site in chosen}
            settings = EditSettings(splits=(0, 2, 4, 6))
            check = check_edit(network, sites, h[row], edit, int(labels[row]), settings)
            tally[check.safety.name] += 1
        seconds = time.perf_counter() - start
        found[str(size)] = tally | {"ms": 1000 * seconds / SEARCHED}
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--inputs", type=int, default=447)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        rows.append(of_seed(seed, arguments.inputs, arguments.weight_decay))
        print(json.dumps(rows[-1]), flush=True)
    shares = {}
    for name, part, whole in (
        ("survive zeroing", "zero_safe", "pairs"),
        ("provably any lab value", "safe", "pairs"),
        ("zeroing wrongly safe", "ablation_wrong", "pairs"),
        ("inputs with a joint setting that changes the class", "joint_unsafe", "inputs"),
        ("individually safe pairs jointly unsafe", "joint_pairs_unsafe", "joint_pairs"),
        ("individually free neurons of an input", "free", "inputs"),
    ):
        values = [row[part] / row[whole] for row in rows]
        shares[name] = {"mean": float(np.mean(values)), "sd": float(np.std(values))}
        print(f"{name}: {np.mean(values):.4f} +- {np.std(values):.4f}")
    false_safe = sum(row["false_safe"] for row in rows)
    false_unsafe = sum(row["false_unsafe"] for row in rows)
    print(f"false safe: {false_safe}, false unsafe: {false_unsafe}")
    result = {
        "network": "64-32-32-10, cut post1",
        "weight_decay": arguments.weight_decay,
        "shares": shares,
        "false_safe": false_safe,
        "false_unsafe": false_unsafe,
        "seeds": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return int(bool(false_safe or false_unsafe))


if __name__ == "__main__":
    sys.exit(main())
