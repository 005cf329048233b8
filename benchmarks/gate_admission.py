"""What an admission costs: digits, a cut of 32 sites, 100 certified cells.

python benchmarks/gate_admission.py [--seed N]

Writes ``results/gate_admission.json``: seconds to build the gate, to open it again with every
certificate replayed, for one input (median of 300) and for a batch of 1,000; by the clock, and in
CPU time, which other work on the machine does not lengthen.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from compactproofs.gate import BuildSettings, Gate, Labelled, activations, build_gate
from compactproofs.kernel.gate import SiteGroup, Sites
from compactproofs.training._digits import MlpSettings, digits_splits, train_mlp

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "gate_admission.json"
CELLS = 100


def milliseconds(work: Callable[[], object], times: int) -> dict[str, float]:
    """Medians over some runs."""
    clock, cpu = [], []
    for _ in range(times):
        began, cpu_began = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - began)
        cpu.append(time.process_time() - cpu_began)
    return {
        "clock": round(1e3 * statistics.median(clock), 3),
        "cpu": round(1e3 * statistics.median(cpu), 3),
    }


def measured(seed: int) -> dict[str, Any]:
    """One gate, built and timed."""
    splits = digits_splits(seed)
    network = train_mlp(splits.train.x, splits.train.y, MlpSettings(seed=seed))
    sites = Sites((SiteGroup("pre1", "pre", 32),), cut="pre1", layer=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gate"
        began = time.perf_counter()
        with Gate.create(path, network, sites, delta="1/20", alpha="1/100") as gate:
            settings = BuildSettings(margins=(0.5,), cells=CELLS)
            built = build_gate(gate, Labelled(*splits.train), Labelled(*splits.check), settings)
        build_seconds = time.perf_counter() - began
        began = time.perf_counter()
        with Gate.open(path, network) as gate:
            closed = gate.closed
            open_seconds = time.perf_counter() - began
            x = np.resize(splits.test.x, (1000, 64))
            runs = [activations(network, sites, x[n : n + 1]) for n in range(300)]
            whole = activations(network, sites, x)
            queue = iter(runs)
            one = milliseconds(lambda: gate.admission.admitted(*next(queue)), len(runs))
            inputs = iter(x)
            run_too = milliseconds(lambda: gate.admit(next(inputs)), 300)
            refused = iter(x)
            words = milliseconds(lambda: gate.admit(next(refused)).reasons, 300)
            batch = milliseconds(lambda: gate.admission.admitted(*whole), 20)
            verdicts = milliseconds(lambda: [v.admitted for v in gate.admit_batch(x)], 5)
            share = float(gate.admission.admitted(*whole).mean())
    return {
        "seed": seed,
        "cells": built.groups[0],
        "admitting": built.admitting,
        "closed": closed,
        "seconds_to_build": round(build_seconds, 2),
        "seconds_to_open": round(open_seconds, 2),
        "ms_one_input": one,
        "ms_one_input_with_its_forward_pass": run_too,
        "ms_one_input_with_reasons": words,
        "ms_batch_of_1000": batch,
        "ms_batch_of_1000_all_verdicts_read": verdicts,
        "share_admitted": round(share, 4),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=0)
    row = measured(arguments.parse_args().seed)
    print(json.dumps(row, indent=1))
    RESULTS.write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
