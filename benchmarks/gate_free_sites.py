"""Sites that may range jointly: how many of a layer are certified free, per recording.

    python benchmarks/gate_free_sites.py [--seeds 0 1 2 3 4] [--results FILE]

64-32-32-10 networks on digits, cut at the first hidden layer's pre-activations. For each of the
first test images (100, or 40 for the second network): how many of the 32 sites may take any value
between the least and the greatest of the 900 training images, all at once, with the others as
recorded and the answer kept. Every cell is certified by the kernel and then attacked. Writes
``results/gate_free_sites.json`` after every seed (seeds that are there are not made again), then
prints the table.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compactproofs.gate._forward import activations
from compactproofs.gate._irrelevance import FreeingSettings, free_sites
from compactproofs.kernel.gate import SiteGroup, Sites, certify_region
from compactproofs.training._digits import MlpSettings, digits_splits, train_mlp
from gate_attacks import broken

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "gate_free_sites.json"
SEEDS = range(5)
NETWORKS = {
    "plain": MlpSettings(weight_decay=0.0, epochs=60, learning_rate=1e-2),
    "plain, lower rate": MlpSettings(weight_decay=0.0, epochs=60, learning_rate=3e-3),
    "weight decay": MlpSettings(weight_decay=5e-3, epochs=300),
}
SEARCHES = {
    "greedy": FreeingSettings(beam=1, splits=0),
    "slopes and splits": FreeingSettings(),
}
RECORDINGS = {"plain": 100, "plain, lower rate": 40, "weight decay": 100}
CORNERS = 4000


def measure(seed: int, settings: MlpSettings, recordings: int) -> dict[str, Any]:
    splits = digits_splits(seed)
    network = train_mlp(splits.train.x, splits.train.y, replace(settings, seed=seed))
    sites = Sites((SiteGroup("pre1", "pre", network.widths[1]),), "pre1", 1)
    lab = activations(network, sites, splits.train.x).h
    ranges = lab.min(axis=0), lab.max(axis=0)
    tested = activations(network, sites, splits.test.x)
    wrong = float((tested.outputs.argmax(axis=1) != splits.test.y).mean())
    rng = np.random.default_rng(seed)
    counts: dict[str, list[int]] = {name: [] for name in SEARCHES}
    seconds, refuted = dict.fromkeys(SEARCHES, 0.0), 0
    for h, outputs in zip(tested.h[:recordings], tested.outputs[:recordings], strict=True):
        label = int(outputs.argmax())
        for name, search in SEARCHES.items():
            start = time.perf_counter()
            found = free_sites(network, sites, h, label, ranges, search)
            seconds[name] += time.perf_counter() - start
            certify_region(network, sites, found.cell, found.witness)
            counts[name].append(len(found.freed))
            refuted += broken(network, sites, found.cell, CORNERS, rng)
    return {
        "model wrong": wrong,
        "sites": sites.size,
        "never on in training": int((ranges[1] <= 0).sum()),
        "recordings": recordings,
        "free": {name: float(np.mean(values)) for name, values in counts.items()},
        "cells attacked": len(SEARCHES) * recordings,
        "cells refuted": refuted,
        "seconds a recording": {name: value / recordings for name, value in seconds.items()},
    }


def show(rows: list[dict[str, Any]]) -> None:
    for name in NETWORKS:
        same = [row[name] for row in rows if name in row]
        wrong = np.mean([row["model wrong"] for row in same])
        off = np.mean([row["never on in training"] for row in same])
        print(f"{name}: wrong on {wrong:.4f}; {off:.1f} of 32 sites never on in training")
        for search in SEARCHES:
            free = [row["free"][search] for row in same]
            seconds = np.mean([row["seconds a recording"][search] for row in same])
            print(
                f"  {search:18} {np.mean(free):5.2f} free (seeds "
                f"{', '.join(f'{value:.2f}' for value in free)}), {seconds:.2f} s a recording"
            )
        refuted, attacked = (sum(row[f"cells {what}"] for row in same)
                             for what in ("refuted", "attacked"))  # fmt: skip
        print(f"  refuted: {refuted} of {attacked} cells")


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
        found = {name: measure(seed, net, RECORDINGS[name]) for name, net in NETWORKS.items()}
        rows.append({"seed": seed} | found)
        rows.sort(key=lambda row: row["seed"])
        text = json.dumps({"numpy": np.__version__, "seeds": rows}, indent=1)
        arguments.results.write_text(text + "\n")
        print(f"seed {seed} done", flush=True)
    show([row for row in rows if row["seed"] in arguments.seeds])


if __name__ == "__main__":
    main()
