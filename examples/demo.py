"""The main job on bundled models: prove, write certificates, check them apart, draw the result.

Run by ``make demo``; writes to ``out/demo``. The true accuracy of max-of-4 is the exact count of
brute force, which decides every one of its 64^4 sequences; for max-of-10 no one can run all 64^10.
"""

import json
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

import compactproofs as cp
from compactproofs.cli import progress
from compactproofs.report import Bar, proof_figure

OUT = Path("out/demo")
JOBS = (
    ("max-of-4", "max:k=4,v=64", "brute-force"),
    ("max-of-4", "max:k=4,v=64", "additive"),
    ("max-of-10", "max:k=10,v=64", "additive"),
)


class Run(NamedTuple):
    """One proof, its certificate, and the seconds to make and to check it."""

    model: str
    proved: cp.Proved
    certificate: Path
    seconds_prove: float
    seconds_check: float


def run(model: str, task: str, theorem: str) -> Run:
    """Prove in this process, check in another one that sees the model and the file alone."""
    began = time.perf_counter()
    with progress(f"proving {model} by {theorem}") as tick:
        network = cp.load_model(cp.resolve_model(model))
        proved = cp.prove(network, cp.parse_task(task), theorem, tick=tick)
    seconds = time.perf_counter() - began
    path = cp.write_certificate(proved, OUT / f"{model}-{theorem}.safetensors", force=True)
    command = [sys.executable, "-m", "compactproofs", "check", str(path), "--model", model]
    print(f"{model}: {theorem} proved in {seconds:.1f} s; checking {path}", file=sys.stderr)
    result = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, check=True, text=True)
    return Run(model, proved, path, seconds, json.loads(result.stdout)["seconds_check"])


def share_of_truth(one: Run, truth: dict[str, Fraction]) -> str:
    """The bound as a share of the true accuracy, where that is known."""
    if one.model not in truth:
        return "unknown"
    return f"{float(one.proved.claim.bound / truth[one.model]):.6f}"


def main() -> None:
    """Print the table and write the picture."""
    OUT.mkdir(parents=True, exist_ok=True)
    runs = [run(*job) for job in JOBS]
    truth = {one.model: one.proved.claim.bound for one in runs if not one.proved.claim.undecided}
    table = Table(title="Proved lower bounds on accuracy", title_justify="left")
    for heading in ("model", "theorem", "proved", "of true"):
        table.add_column(heading, no_wrap=True)
    for heading in ("FLOPs", "unexplained", "prove s", "check s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in runs:
        claim = one.proved.claim
        table.add_row(
            one.model,
            claim.theorem,
            claim.bound_decimal,
            share_of_truth(one, truth),
            f"{claim.flops:,}",
            f"{claim.unexplained_dimension:,}",
            f"{one.seconds_prove:.1f}",
            f"{one.seconds_check:.1f}",
        )
    Console(width=110).print(table)
    for one in runs:
        claim = one.proved.claim
        print(f"{one.certificate}: accuracy >= {claim.correct}/{claim.total}")
    small = [one for one in runs if one.model == "max-of-4"]
    bars = [
        Bar(claim.theorem, claim.bound, claim.flops)
        for claim in (one.proved.claim for one in small)
    ]
    title = (
        "max-of-4: a trained transformer, proved right on at least this share of all 64^4 inputs"
    )
    figure = proof_figure(title, bars, truth.get("max-of-4"), small[-1].proved.by_class)
    (OUT / "proof.svg").write_text(figure)
    print(f"picture: {OUT / 'proof.svg'}")


if __name__ == "__main__":
    main()
