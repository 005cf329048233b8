"""``compactproofs prove``: weights in, proved bound and certificate out."""

import re
import shlex
import time
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from .. import _proving
from ..kernel import (
    THEOREMS,
    Model,
    OptionError,
    integer_tables,
    load_network,
    parse_task,
    require_fit,
    require_semantics,
)
from ..models import resolve_model
from . import _output


def prove(
    model: Annotated[str, _output.Model],
    task: Annotated[str, typer.Option(help="As max:k=4,v=64.")],
    theorem: Annotated[str, typer.Option(help=f"One of {', '.join(THEOREMS)}.")] = "additive",
    bins: Annotated[
        int | None,
        typer.Option(help="Slack bins, of theorems that count slack: more, tighter."),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Tokens below the label that windowed and collapsed-subcubic look at."),
    ] = None,
    direct: Annotated[
        str | None, typer.Option(help="Direct-path part of subcubic (default max_diff_exact).")
    ] = None,
    averaging: Annotated[
        str | None, typer.Option(help="Averaging part of subcubic (default mean_query+diff).")
    ] = None,
    attention_error: Annotated[
        str | None,
        typer.Option(help="Attention part of subcubic (default exact_EQKE+max_diff_exact)."),
    ] = None,
    cells: Annotated[
        int | None,
        typer.Option(help="The most cells that a proof by cells or crosscoder-d may have."),
    ] = None,
    relaxed: Annotated[
        int | None, typer.Option(help="MLPs that cells replaces by lines, counted from the last.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Refine additive class by class: FLOPs (2e8) or seconds (5s)."),
    ] = None,
    semantics: Annotated[
        str,
        typer.Option(
            help="real: exact numbers, real exp. float32: right in every float32 evaluation."
        ),
    ] = "real",
    at_least: Annotated[
        str | None, typer.Option(help="Exit 1 if the bound is below this (0.99 or 99/100).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the certificate here.")] = None,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Prove a lower bound on a model's accuracy at a task."""
    require_semantics(semantics)
    wanted = threshold(at_least)
    given = {
        "bins": bins,
        "window": window,
        "cells": cells,
        "relaxed": relaxed,
        "direct": direct,
        "averaging": averaging,
        "attention_error": attention_error,
    }
    options = {name: value for name, value in given.items() if value is not None}
    known = _proving.known_theorem(theorem)
    chosen = known.parse_options(options)
    if budget is not None and theorem != "additive":
        raise OptionError(f"--budget refines the theorem additive alone, not {theorem}")
    if out is not None:
        _proving.check_destination(out, force=force)
    began = time.perf_counter()
    network = load_network(resolve_model(model))
    goal = parse_task(task, parts=True)
    require_fit(goal, network)
    known.about(theorem, network)
    tables = (
        integer_tables(network, semantics)
        if known.from_tables and isinstance(network, Model)
        else None
    )
    if budget is not None and isinstance(network, Model):
        from ..explain.refine import parse_budget, refine

        with _output.progress("refining") as tick:
            witness = refine(network, goal, parse_budget(budget), tick, semantics)
    else:
        with _output.progress("searching") as tick:
            witness = _proving.find_witness(network, goal, theorem, chosen, tick) or None
    found = time.perf_counter()
    with _output.progress(f"proving {theorem}") as tick:
        proved = _proving.prove(network, goal, theorem, options, tick, tables, witness, semantics)
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


def threshold(text: str | None, option: str = "--at-least") -> Fraction | None:
    """The share that an option names, exactly; None if it was not given."""
    if text is None:
        return None
    number = re.fullmatch(r"[0-9]{1,40}(\.[0-9]{0,40}|/0*[1-9][0-9]{0,40})?", text)
    value = Fraction(text) if number else Fraction(-1)
    if not 0 <= value <= 1:
        raise OptionError(f"{option} {text!r} must be a number from 0 to 1, as 0.99 or 99/100")
    return value
