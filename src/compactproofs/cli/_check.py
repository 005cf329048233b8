"""``compactproofs check``: does a certificate hold for this model?"""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from ..kernel import check as decide
from ..kernel import load_network, no_tick, parse_task, read_regular_file
from ..models import resolve_model
from . import _output


def check(
    certificate: Annotated[Path, typer.Argument(help="A certificate file.")],
    model: Annotated[str, typer.Option(help="The bundled model or model directory it is about.")],
    task: Annotated[
        str | None, typer.Option(help="Refuse a certificate about any other task.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print nothing if it holds; the exit status says it.")
    ] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Check a certificate against a model: exit 0 if it holds, 1 if not, 2 if it does not apply."""
    began = time.perf_counter()
    data = read_regular_file(certificate)
    network = load_network(resolve_model(model))
    goal = None if task is None else parse_task(task, parts=True)
    with nullcontext(no_tick) if quiet else _output.progress("checking") as tick:
        verdict = decide(data, network, goal, tick)
    seconds = time.perf_counter() - began
    if json:
        claim = None if verdict.claim is None else _output.claim_json(verdict.claim)
        _output.print_json(
            {
                "outcome": verdict.outcome.name,
                "reason": verdict.reason,
                "valid": verdict.valid,
                "claim": claim,
                "seconds_check": round(seconds, 3),
            }
        )
    elif verdict.valid and verdict.claim is not None and not quiet:
        rows = {"outcome": f"{verdict.outcome.name}: {verdict.reason}"}
        rows |= _output.describe(verdict.claim)
        rows["seconds"] = f"{seconds:.2f} to check"
        _output.print_lines(rows)
    if not verdict.valid:
        _output.print_refusal(f"{certificate}: {verdict.outcome.name}: {verdict.reason}")
        raise typer.Exit(_output.EXIT[verdict.outcome])
