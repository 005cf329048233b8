"""G4 on the bundled models: the coverage of a theorem's gate beside the theorem's bound.

python benchmarks/gate_classes.py [--samples N]

Writes ``results/gate_classes.json``. The samples only look for an admitted sequence that the model
gets wrong; the theorem says that there is none.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import compactproofs as cp
from compactproofs import kernel
from compactproofs.estimate import last_position_logits

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "gate_classes.json"
MODELS = ("max-of-4", "max-of-4-undertrained", "max-of-10", "max-of-20")
BATCH = 4096


def rows(name: str, samples: int) -> list[dict[str, Any]]:
    """Both gates of one model."""
    model = cp.load_model(str(cp.resolve_model(name)))
    task = cp.parse_task(f"max:k={model.n_ctx},v={model.d_vocab}")
    tables = kernel.verify_tables(model, kernel.integer_tables(model))
    effort = np.full((task.v, model.d_vocab_out), -1, dtype=np.int32)
    witness = kernel.EffortWitness(effort, np.zeros((0, 6), dtype=np.int32))
    began = time.process_time()
    proved = kernel.additive(tables, task, kernel.AdditiveOptions(), witness=witness)
    additive = kernel.class_gate(proved, task)
    middle = time.process_time()
    cubic = kernel.cubic_gate(tables, task)
    ended = time.process_time()
    bound = kernel.cubic(tables, task, kernel.CubicOptions()).claim.bound
    made: list[dict[str, Any]] = []
    for theorem, gate, its_bound, seconds in (
        ("additive without counting", additive, proved.claim.bound, middle - began),
        ("cubic", cubic, bound, ended - middle),
    ):
        rng = np.random.default_rng(0)
        admitted = wrong = 0
        for _ in range(0, samples, BATCH):
            tokens = rng.integers(0, task.v, (BATCH, task.k))
            inside = tokens[gate.admitted(tokens)]
            answers = last_position_logits(model, inside).argmax(axis=1)
            admitted += len(inside)
            wrong += int((answers != task.labels(inside)).sum())
        made.append(
            {
                "model": name,
                "theorem": theorem,
                "coverage": str(gate.coverage),
                "coverage_decimal": float(gate.coverage),
                "equals_the_bound": gate.coverage == its_bound,
                "sampled": -(-samples // BATCH) * BATCH,
                "sampled_admitted": admitted,
                "sampled_admitted_wrong": wrong,
                "cpu_seconds_to_build": round(seconds, 2),
            }
        )
    return made


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--samples", type=int, default=200_000)
    samples = arguments.parse_args().samples
    found = [row for name in MODELS for row in rows(name, samples)]
    for row in found:
        print(json.dumps(row))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
