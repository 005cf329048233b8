"""``compactproofs prove``: weights in, proved bound and certificate out."""

import re
import shlex
import time
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from .. import _proving
from ..kernel import OptionError, integer_tables, load_model, parse_task, require_fit
from ..models import resolve_model
from . import _output

_SEMANTICS = ("real",)


def prove(
    model: Annotated[str, _output.Model],
    task: Annotated[str, typer.Option(help="As max:k=4,v=64.")],
    theorem: Annotated[str, typer.Option(help="additive or brute-force.")] = "additive",
    bins: Annotated[
        int | None, typer.Option(help="Slack bins of additive (default 128): more, tighter.")
    ] = None,
    semantics: Annotated[str, typer.Option(help="real: exact numbers, real exp.")] = "real",
    at_least: Annotated[
        str | None, typer.Option(help="Exit 1 if the bound is below this (0.99 or 99/100).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the certificate here.")] = None,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Prove a lower bound on a model's accuracy at a task."""
    if semantics not in _SEMANTICS:
        raise OptionError(
            f"semantics {semantics!r} is not built yet: use --semantics {' or '.join(_SEMANTICS)}"
        )
    wanted = _threshold(at_least)
    if out is not None:
        _proving.check_destination(out, force=force)
    began = time.perf_counter()
    network = load_model(resolve_model(model))
    goal = parse_task(task)
    require_fit(goal, network)
    tables = integer_tables(network)
    found = time.perf_counter()
    options = {} if bins is None else {"bins": bins}
    with _output.progress(f"proving {theorem}") as tick:
        proved = _proving.prove(network, goal, theorem, options, tick, tables)
    ended = time.perf_counter()
    if out is not None:
        _proving.write_certificate(proved, out, force=force)
    claim = proved.claim
    if json:
        _output.print_json(
            _output.claim_json(claim)
            | {
                "outcome": proved.outcome.name,
                "at_least": at_least,
                "seconds_prove": round(ended - began, 3),
                "seconds_verify": round(ended - found, 3),
                "certificate": None if out is None else str(out),
            }
        )
    else:
        rows = {"outcome": f"{proved.outcome.name}: {proved.outcome.value}"}
        rows |= _output.describe(claim)
        rows["seconds"] = f"{ended - began:.2f} to prove, {ended - found:.2f} of them to verify"
        if out is not None:
            check = shlex.join(["compactproofs", "check", str(out), "--model", model])
            rows["certificate"] = f"{out}; to check it: {check}"
        _output.print_lines(rows)
    if wanted is not None and claim.bound < wanted:
        _output.print_refusal(f"the bound {claim.bound_decimal} is below --at-least {at_least}")
        raise typer.Exit(1)


def _threshold(text: str | None) -> Fraction | None:
    if text is None:
        return None
    number = re.fullmatch(r"[0-9]{1,40}(\.[0-9]{0,40}|/0*[1-9][0-9]{0,40})?", text)
    value = Fraction(text) if number else Fraction(-1)
    if not 0 <= value <= 1:
        raise OptionError(f"--at-least {text!r} must be a number from 0 to 1, as 0.99 or 99/100")
    return value
