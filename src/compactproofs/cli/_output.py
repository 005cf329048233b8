"""What every command shares: results on stdout, progress and prose on stderr, and options."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from ..kernel import Claim, Outcome, Tick, no_tick

Json = typer.Option("--json", help="Print one JSON object on stdout; nothing else.")
Model = typer.Argument(help="A bundled model (max-of-4, ...) or a model directory.")
Force = typer.Option("--force", help="Replace an output that exists.")


@contextmanager
def progress(what: str) -> Iterator[Tick]:
    """A progress bar on stderr, silent when that is not a terminal."""
    if not sys.stderr.isatty():
        yield no_tick
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def print_json(result: Mapping[str, Any]) -> None:
    """One JSON object, on one line."""
    print(json.dumps(result))


def print_lines(rows: Mapping[str, str]) -> None:
    """Aligned ``name  value`` lines."""
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {printable(value)}")


def printable(text: str) -> str:
    """The text on one line, without what could move a cursor or be taken for other text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


_SEMANTICS = {
    "real": "real numbers; ties count as wrong",
    "float32": "every float32 evaluation, in any order of summation; exp within 2^-16; ties count "
    "as wrong",
}


def describe(claim: Claim) -> dict[str, str]:
    """The claim in words, a line each."""
    options = ", ".join(f"{name}={value}" for name, value in claim.options)
    return {
        "claim": f"accuracy >= {claim.correct}/{claim.total} = {claim.bound_decimal}...",
        "model": f"sha256 {claim.model_sha256}",
        "task": f"{claim.task}, {claim.distribution} over all its {claim.total:,} sequences",
        "semantics": _SEMANTICS.get(claim.semantics, claim.semantics),
        "theorem": claim.theorem + (f" ({options})" if options else ""),
        "undecided": f"{claim.undecided:,} sequences proved neither right nor wrong",
        "length": f"{claim.flops:,} FLOPs; unexplained dimension {claim.unexplained_dimension:,}",
    }


def claim_json(claim: Claim) -> dict[str, Any]:
    """The claim with exact integers as decimal strings and the bound as ``p/q``."""
    return {
        "theorem": claim.theorem,
        "options": dict(claim.options),
        "semantics": claim.semantics,
        "task": claim.task,
        "distribution": claim.distribution,
        "metric": claim.metric,
        "correct": str(claim.correct),
        "total": str(claim.total),
        "undecided": str(claim.undecided),
        "bound": f"{claim.bound.numerator}/{claim.bound.denominator}",
        "bound_decimal": claim.bound_decimal,
        "flops": str(claim.flops),
        "radius_flops": str(claim.radius_flops),
        "unexplained_dimension": str(claim.unexplained_dimension),
        "model_sha256": claim.model_sha256,
        "task_sha256": claim.task_sha256,
        "kernel": claim.kernel,
    }


def print_refusal(message: str) -> None:
    """One line on stderr, of a length that can be read."""
    line = printable(" ".join(message.split()))
    print("compactproofs: " + (line if len(line) <= 1000 else line[:999] + "~"), file=sys.stderr)


EXIT = {
    Outcome.PROVED: 0,
    Outcome.VACUOUS: 0,
    Outcome.REJECTED: 1,
    Outcome.MALFORMED: 2,
    Outcome.MISMATCH: 2,
}
"""Exit status by outcome."""
