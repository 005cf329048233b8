"""Two checkers on the same certificates: seconds, memory, and whether they agree.

    python benchmarks/checkers.py

Proves with the bundled models, checks each certificate with ``compactproofs check`` and with
``compactproofs_check.py``, run as a copied script without the package. Writes
``results/checkers.json`` and the table in ``docs/checking.md``.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from compactproofs.models import resolve_model

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "checkers.json"
PAGE = ROOT / "docs" / "checking.md"
BEGIN, END = "<!-- made by benchmarks/checkers.py -->", "<!-- end -->"
CASES = [
    ("max-of-4", 4, ["--theorem", "cubic"]),
    ("max-of-4", 4, ["--theorem", "collapsed-subcubic"]),
    ("max-of-4", 4, ["--theorem", "collapsed-cubic"]),
    ("max-of-4", 4, ["--theorem", "windowed"]),
    ("max-of-4", 4, ["--theorem", "additive"]),
    ("max-of-4", 4, ["--theorem", "additive", "--semantics", "float32"]),
    ("max-of-4", 4, ["--theorem", "brute-force"]),
    ("max-of-10", 10, ["--theorem", "additive"]),
    ("max-of-10", 10, ["--theorem", "additive", "--semantics", "float32"]),
    ("max-of-20", 20, ["--theorem", "additive"]),
]


def run(command: list[str]) -> tuple[dict[str, Any], float, int]:
    """The JSON that a command prints, its seconds and its peak memory in MB."""
    measured = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024\n"
        "print(json.dumps([done.returncode, done.stdout, done.stderr, peak]))"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", measured, *command], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - began
    status, out, err, peak = json.loads(done.stdout)
    if status:
        raise SystemExit(f"{command}: {err}")
    return json.loads(out), seconds, peak


def main() -> None:
    rows: list[dict[str, Any]] = []
    compactproofs = str(Path(sys.executable).parent / "compactproofs")
    with tempfile.TemporaryDirectory() as temporary:
        script = Path(temporary) / "compactproofs_check.py"
        script.write_bytes((ROOT / "src" / "compactproofs_check.py").read_bytes())
        for number, (model, k, options) in enumerate(CASES):
            file = str(Path(temporary) / f"{number}.safetensors")
            prove = [compactproofs, "prove", model, "--task", f"max:k={k},v=64", *options, "--json"]
            run([*prove, "--out", file])
            kernel, kernel_s, kernel_mb = run(
                [compactproofs, "check", file, "--model", model, "--json"]
            )
            alone = [sys.executable, "-I", "-S", str(script), file, str(resolve_model(model))]
            other, other_s, other_mb = run([*alone, "--json"])
            agree = all(
                kernel["claim"][name] == other["claim"][name]
                for name in ("correct", "total", "undecided", "unexplained_dimension")
            )
            rows.append(
                {
                    "model": model,
                    "options": " ".join(options)
                    .replace("--theorem ", "")
                    .replace("--semantics ", ""),
                    "correct": kernel["claim"]["correct"],
                    "file_kb": Path(file).stat().st_size // 1024,
                    "kernel_seconds": round(kernel_s, 2),
                    "kernel_mb": kernel_mb,
                    "standalone_seconds": round(other_s, 2),
                    "standalone_mb": other_mb,
                    "agree": agree and kernel["valid"] and other["valid"],
                }
            )
            print(rows[-1], flush=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    table = [
        "| model | theorem | file | `compactproofs check` | `compactproofs-check` | same counts |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        table.append(
            f"| {row['model']} | {row['options']} | {row['file_kb']} kB | "
            f"{row['kernel_seconds']} s, {row['kernel_mb']} MB | {row['standalone_seconds']} s, "
            f"{row['standalone_mb']} MB | {'yes' if row['agree'] else 'NO'} |"
        )
    text = PAGE.read_text()
    start, end = text.index(BEGIN), text.index(END)
    PAGE.write_text(text[:start] + BEGIN + "\n\n" + "\n".join(table) + "\n\n" + text[end:])
    if not all(row["agree"] for row in rows):
        sys.exit("the checkers disagree")


if __name__ == "__main__":
    main()
