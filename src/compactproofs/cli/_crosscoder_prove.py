"""``compactproofs crosscoder prove``: from a trained crosscoder to a proved bound."""

import shlex
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .. import _proving
from ..crosscoders import Crosscoder, CrosscoderError, claim_of, inputs_of
from ..crosscoders.proofs import CELLS, Found
from ..crosscoders.slack import slack_of
from ..crosscoders.telescoping import telescoping_witness
from ..crosscoders.tighten import Step, tighten
from ..kernel import (
    THEOREMS,
    OptionError,
    Proved,
    Task,
    Tick,
    Transformer,
    brute_force_flops,
)
from . import _output
from ._crosscoder import CrosscoderDirectory, OfModel, OfTask, load
from ._crosscoder_proof import BY_CODES, CodeSettings, slack_json, slack_lines
from ._prove import threshold

_THEOREMS = ("crosscoder-a", "crosscoder-b", "crosscoder-c", "crosscoder-d")


def prove(
    crosscoder: Annotated[Path, CrosscoderDirectory],
    model: Annotated[str, OfModel],
    task: Annotated[str, OfTask],
    theorem: Annotated[str, typer.Option(help=f"One of {', '.join(_THEOREMS)}.")] = "crosscoder-c",
    active: Annotated[int, typer.Option("--k", help="Features of an input at most.")] = 4,
    extra: Annotated[
        int, typer.Option(help="Features more, where that makes the bound better (b and c).")
    ] = 0,
    levels: Annotated[int, typer.Option(help="Activation values of a feature.")] = 64,
    cells: Annotated[
        str, typer.Option(help=f"What tells cells apart (b and c): {', '.join(CELLS)}.")
    ] = "label",
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Of b: static tables alone, no cells, no signs of neurons."),
    ] = False,
    enumerate_rest: Annotated[
        bool,
        typer.Option("--enumerate", help="Decide what is left by a forward pass each (b and c)."),
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            help="Of b and c: split cells, merge features and in the end enumerate, until this "
            "share is proved (0.999)."
        ),
    ] = None,
    breakdown: Annotated[
        bool,
        typer.Option(help="Of b and c: say where the bound falls short (takes as long again)."),
    ] = True,
    at_least: Annotated[
        str | None, typer.Option(help="Exit 1 if the bound is below this (0.99 or 99/100).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the certificate here.")] = None,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Prove a lower bound on the accuracy, beside the accuracy that the crosscoder claims."""
    if theorem not in _THEOREMS:
        raise OptionError(f"unknown theorem {theorem!r}: known are {', '.join(_THEOREMS)}")
    if cells not in CELLS:
        raise CrosscoderError(f"cells = {cells!r}: known are {', '.join(CELLS)}")
    for name, value, least in (("--k", active, 1), ("--extra", extra, 0), ("--levels", levels, 1)):
        if value < least:
            raise OptionError(f"{name} {value} must be at least {least}")
    wanted, goal_bound = threshold(at_least), threshold(target, "--target")
    if goal_bound is not None and theorem not in BY_CODES:
        raise OptionError(f"--target is for {' and '.join(BY_CODES)}, not for {theorem}")
    if out is not None:
        _proving.check_destination(out, force=force)
    own, net, goal = load(crosscoder, model, task)
    began = time.perf_counter()
    tokens, labels = inputs_of(goal, 1 << 17)
    claim = claim_of(net, own, tokens, labels, active=min(active, own.config.d_sae))
    found = time.perf_counter()
    codes: Found | None = None
    steps: tuple[Step, ...] = ()
    with _output.progress(f"searching {theorem}") as tick:
        if theorem in BY_CODES:
            settings = CodeSettings(active, extra, levels, cells, plain, enumerate_rest)
            codes = settings.found(theorem, net, goal, own)
            if goal_bound is not None:
                tightened = tighten(codes, target=float(goal_bound), tick=tick)
                codes, steps = tightened.found, tightened.steps
            run = codes.prove
        elif theorem == "crosscoder-a":
            run = _telescoped(net, goal, own, active, levels, tick)
        else:
            run = _by_predicates(net, goal, own, tick)
    searched = time.perf_counter()
    with _output.progress(f"proving {theorem}") as tick:
        proved = run(tick)
    ended = time.perf_counter()
    slack = None if codes is None or not breakdown else slack_of(codes)
    if out is not None:
        _proving.write_certificate(proved, out, force=force)
    longest = brute_force_flops(net, goal)
    every = len(tokens) == goal.total
    if json:
        _output.print_json(
            _output.claim_json(proved.claim)
            | {
                "outcome": proved.outcome.name,
                "claimed_accuracy": claim.claimed_accuracy,
                "model_accuracy": claim.accuracy,
                "accuracies_of_all_sequences": every,
                "brute_force_flops": str(longest),
                "shorter_than_brute_force": longest / max(1, proved.claim.flops),
                "at_least": at_least,
                "steps": [asdict(step) | {"gain_per_flop": step.gain_per_flop} for step in steps],
                "slack": None if slack is None else slack_json(slack),
                "seconds_search": round(searched - found, 3),
                "seconds_verify": round(ended - searched, 3),
                "certificate": None if out is None else str(out),
            }
        )
    else:
        rows = {"outcome": f"{proved.outcome.name}: {proved.outcome.value}"}
        rows |= _output.describe(proved.claim)
        of = "all sequences" if every else f"a sample of {len(tokens):,}"
        rows["claimed"] = f"{claim.claimed_accuracy:.6f} by the reconstruction, on {of} (no bound)"
        rows["model"] = f"{claim.accuracy:.6f} on {of}; " + rows["model"]
        ratio = longest / max(1, proved.claim.flops)
        rows["length"] += f"; brute force {longest:,}, {ratio:.3g} times as many"
        for number, step in enumerate(steps, 1):
            rows[f"step {number}"] = (
                f"{step.action} ({step.detail}): {step.before:,} -> {step.after:,} inputs, "
                f"{step.flops_after - step.flops_before:+,} FLOPs"
                + ("" if step.kept else "; undone")
            )
        if slack is not None:
            rows |= slack_lines(slack)
        rows["seconds"] = (
            f"{ended - began:.2f} in all, {searched - found:.2f} to search, "
            f"{ended - searched:.2f} to verify"
        )
        if out is not None:
            check = shlex.join(["compactproofs", "check", str(out), "--model", model])
            rows["certificate"] = f"{out}; to check it: {check}"
        _output.print_lines(rows)
    if wanted is not None and proved.claim.bound < wanted:
        _output.print_refusal(
            f"the bound {proved.claim.bound_decimal} is below --at-least {at_least}"
        )
        raise typer.Exit(1)


def _telescoped(
    net: Transformer, task: Task, own: Crosscoder, active: int, levels: int, tick: Tick
) -> Callable[[Tick], Proved]:
    witness = telescoping_witness(net, task, own, active=active, levels=levels, tick=tick)
    return lambda again: _proving.prove(net, task, "crosscoder-a", tick=again, witness=witness)


def _by_predicates(
    net: Transformer, task: Task, own: Crosscoder, tick: Tick
) -> Callable[[Tick], Proved]:
    from ..crosscoders.predicates import questions_of
    from ..explain.cells import find_cells

    options = THEOREMS["crosscoder-d"].parse_options({})
    questions = questions_of(net, task, own)
    witness = find_cells(net, task, options, tick, questions=questions)
    return lambda again: _proving.prove(net, task, "crosscoder-d", tick=again, witness=witness)
