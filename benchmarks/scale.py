"""How large a vocabulary can be: bounds, seconds and memory at k=4, d=32 as v grows.

    python benchmarks/scale.py [--v 256 512] [--theorems cubic collapsed-cubic]

Each model is trained here (recipes, not weights, are committed) and proved in a process of its own.
Writes ``results/scale.json``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import compactproofs as cp
from compactproofs.estimate import sample_accuracy

RESULTS = Path(__file__).resolve().parent / "results" / "scale.json"
VOCABULARIES = (128, 256, 512, 1024)
RECIPE = ["--d-model", "32", "--steps", "8000", "--batch", "256"]
THEOREMS: dict[str, list[str]] = {
    "cubic": [],
    "collapsed-subcubic": ["--window", "64", "--bins", "64"],
    "collapsed-cubic": ["--bins", "64"],
    "windowed": ["--window", "64", "--bins", "64"],
}
LIMIT = 600
"""Seconds that a proof may take; a longer one is stopped and said to be."""


def compactproofs(*arguments: str, limit: int | None = None) -> tuple[dict[str, object], int]:
    """The JSON that a command prints, and its peak memory in MB."""
    script = (
        "import resource, sys; from compactproofs.cli import main\n"
        "try: main()\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "
        "file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=limit,
        check=True,
    )
    return json.loads(done.stdout), int(done.stderr.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--v", type=int, nargs="+", default=[128, 256, 512], choices=VOCABULARIES)
    parser.add_argument("--theorems", nargs="+", default=list(THEOREMS), choices=list(THEOREMS))
    wanted = parser.parse_args()
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for v in wanted.v:
        task = f"max:k=4,v={v}"
        with tempfile.TemporaryDirectory() as temporary:
            folder = str(Path(temporary) / "model")
            recipe = ["train", task, *RECIPE, "--out", folder]
            trained, _ = compactproofs(*recipe)
            model = cp.load_model(folder)
            accuracy = sample_accuracy(model, cp.parse_task(task), samples=1_000_000, seed=0)
            for theorem in wanted.theorems:
                row: dict[str, object] = {
                    "v": v,
                    "theorem": theorem,
                    "recipe": "compactproofs " + " ".join(recipe[:-1]) + " model",
                    "seconds_train": trained["seconds_train"],
                    "accuracy_sampled": accuracy.estimate,
                }
                try:
                    options = THEOREMS[theorem]
                    found, peak = compactproofs(
                        "prove", folder, "--task", task, "--theorem", theorem, *options, limit=LIMIT
                    )
                    keep = ("options", "bound_decimal", "flops", "seconds_prove")
                    row |= {name: found[name] for name in keep} | {"peak_mb": peak}
                except subprocess.TimeoutExpired:
                    row["stopped_after_seconds"] = LIMIT
                rows = [r for r in rows if (r["v"], r["theorem"]) != (v, theorem)] + [row]
                rows.sort(key=lambda r: (r["v"], r["theorem"]))
                RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
                print(row, flush=True)


if __name__ == "__main__":
    main()
