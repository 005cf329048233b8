"""Every figure that README and docs quote about proving and checking, measured on this machine.

Run by ``make bench``. Each row is one command in a process of its own: seconds by the clock, peak
memory of the process, and what it printed. Writes ``results/first_proof.json`` and the page
``docs/benchmarks.md`` made from it.

    python benchmarks/first_proof.py [--fresh-clone]

``--fresh-clone`` also clones the repository into an empty directory and times ``make demo`` there.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import compactproofs as cp
from compactproofs.estimate import sample_accuracy

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "first_proof.json"
PAGE = ROOT / "docs" / "benchmarks.md"
SAMPLES = 4_000_000
MODELS = {
    "max-of-4": "max:k=4,v=64",
    "max-of-4-undertrained": "max:k=4,v=64",
    "max-of-10": "max:k=10,v=64",
    "max-of-20": "max:k=20,v=64",
}


def measure(arguments: list[str], *, program: str = "compactproofs") -> dict[str, Any]:
    """Run one command of the package; its clock seconds, peak memory in MB and output."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", program, *arguments], stdout=subprocess.PIPE)
    if process.stdout is None:
        raise RuntimeError("no pipe")
    output = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{arguments} ended with {process.returncode}")
    return {
        "command": "compactproofs " + " ".join(arguments),
        "seconds": round(time.perf_counter() - began, 2),
        "peak_mb": round(usage.ru_maxrss / 1024),
        "output": json.loads(output) if "--json" in arguments else None,
    }


def start_up() -> list[dict[str, Any]]:
    """The best of five runs of what must answer at once."""
    rows = []
    for arguments in (["--help"], ["check", "--help"], ["show", "--help"]):
        runs = [measure(arguments) for _ in range(5)]
        rows.append(min(runs, key=lambda run: run["seconds"]))
    return rows


def proofs(folder: Path) -> list[dict[str, Any]]:
    """Prove and check every bundled model; brute force where it ends."""
    rows = []
    for model, task in MODELS.items():
        for theorem in ("additive", "brute-force") if "k=4" in task else ("additive",):
            out = f"{model}-{theorem}.safetensors"
            print(f"{model}: {theorem}", file=sys.stderr)
            prove = measure(
                ["prove", model, "--task", task, "--theorem", theorem]
                + ["--out", str(folder / out), "--json"]
            )
            check = measure(["check", str(folder / out), "--model", model, "--json"])
            for row in (prove, check):
                row["command"] = row["command"].replace(f"{folder}/", "")
            size = (folder / out).stat().st_size
            prove["output"]["certificate"] = out
            rows.append({"model": model, "prove": prove, "check": check, "certificate_bytes": size})
    return rows


def sampled() -> list[dict[str, Any]]:
    """Estimates, not proofs: what the proved bounds are compared with where none can enumerate."""
    rows = []
    for name, task in MODELS.items():
        print(f"{name}: sampling", file=sys.stderr)
        model = cp.load_model(cp.resolve_model(name))
        found = sample_accuracy(model, cp.parse_task(task), samples=SAMPLES, seed=1)
        rows.append({"model": name, "seed": 1, **asdict(found)})
    return rows


def training(folder: Path) -> dict[str, Any]:
    """The published recipe for k = 4, one core."""
    out = folder / "trained"
    row = measure(["train", "max:k=4,v=64", "--seed", "0", "--out", str(out), "--json"])
    row["command"] = row["command"].replace(f"{folder}/", "")
    row["output"]["model"] = out.name
    return row


def fresh_clone(folder: Path) -> dict[str, Any]:
    """``make demo`` in an empty directory, installs included."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    began = time.perf_counter()
    subprocess.run(["make", "demo"], cwd=clone, check=True, stdout=sys.stderr)
    return {"command": "git clone ...; make demo", "seconds": round(time.perf_counter() - began, 1)}


def page(results: dict[str, Any]) -> str:
    """The Markdown page of the results."""
    truth = {
        row["model"]: int(row["prove"]["output"]["correct"])
        for row in results["proofs"]
        if row["prove"]["output"]["undecided"] == "0"
    }
    machine = results["machine"]
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench` (`benchmarks/first_proof.py`) on {machine['cores']} cores,"
        f" {machine['processor']}, Python {machine['python']}. Seconds are those of the whole"
        " command, start-up included; peak memory is that of its process.",
        "",
        "| model | theorem | proved accuracy | of the true | FLOPs | unexplained dimension |"
        " prove s | MB | check s | MB | file kB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in results["proofs"]:
        made, check = row["prove"], row["check"]
        claim = made["output"]
        share = (
            f"{int(claim['correct']) / truth[row['model']]:.6f}" if row["model"] in truth else "-"
        )
        lines.append(
            f"| {row['model']} | {claim['theorem']} | {claim['bound_decimal']} | {share} |"
            f" {int(claim['flops']):,} | {int(claim['unexplained_dimension']):,} |"
            f" {made['seconds']} | {made['peak_mb']} | {check['seconds']} | {check['peak_mb']} |"
            f" {row['certificate_bytes'] // 1000} |"
        )
    lines += ["", "Exact counts:", ""]
    for row in results["proofs"]:
        claim = row["prove"]["output"]
        lines.append(
            f"- {row['model']}, {claim['theorem']}: {claim['correct']} of {claim['total']} right,"
            f" {claim['undecided']} undecided"
        )
    lines += [
        "",
        "Estimates, not proofs: sampled accuracy with an exact 95 % confidence interval.",
        "",
        "| model | sampled accuracy | from | to | sequences |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['model']} | {row['estimate']:.6f} | {row['low']:.6f} | {row['high']:.6f} |"
        f" {row['samples']:,} |"
        for row in results["sampled"]
    ]
    lines += ["", "| command | seconds | peak MB |", "| --- | --- | --- |"]
    for row in [*results["start_up"], results["training"]]:
        lines.append(f"| `{row['command']}` | {row['seconds']} | {row['peak_mb']} |")
    if results.get("fresh_clone"):
        clone = results["fresh_clone"]
        lines.append(f"| `{clone['command']}` | {clone['seconds']} | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write the JSON, then the page made from it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh-clone", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        results: dict[str, Any] = {
            "machine": {
                "cores": os.cpu_count(),
                "processor": platform.processor() or platform.machine(),
                "python": platform.python_version(),
            },
            "start_up": start_up(),
            "training": training(folder),
            "proofs": proofs(folder),
            "sampled": sampled(),
            "fresh_clone": fresh_clone(folder) if wanted.fresh_clone else None,
        }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
