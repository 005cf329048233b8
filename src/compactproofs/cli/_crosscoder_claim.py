"""``compactproofs crosscoder claim``: the accuracy a crosscoder claims, and its radii."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from ..crosscoders import claim_of, inputs_of
from . import _output
from ._crosscoder import Active, CrosscoderDirectory, Limit, OfModel, OfTask, Seed, load


def claim(
    crosscoder: Annotated[Path, CrosscoderDirectory],
    model: Annotated[str, OfModel],
    task: Annotated[str, OfTask],
    active: Annotated[int | None, Active] = None,
    limit: Annotated[int, Limit] = 1 << 20,
    seed: Annotated[int, Seed] = 0,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """What accuracy reading the answer off the reconstruction gives. Not a bound: see prove."""
    own, net, goal = load(crosscoder, model, task)
    tokens, labels = inputs_of(goal, limit, seed)
    found = claim_of(net, own, tokens, labels, active=active)
    every = len(tokens) == goal.total
    if json:
        _output.print_json(
            asdict(found)
            | {
                "claimed_accuracy": found.claimed_accuracy,
                "accuracy": found.accuracy,
                "all_sequences": every,
            }
        )
        return
    rows = {
        "claimed": f"{found.claimed:,} of {found.inputs:,} = {found.claimed_accuracy:.6f}, by the "
        "reconstruction (not a bound)",
        "model": f"{found.right:,} of {found.inputs:,} = {found.accuracy:.6f}; both agree on "
        f"{found.agree:,}",
        "inputs": "all sequences of the task" if every else f"a sample of {goal.total:,} sequences",
        "active": f"{found.active_mean:.2f} features an input",
        "ball": f"embedding within {found.ball_radius_mean:.4g} of its decode on average, "
        f"{found.ball_radius_max:.4g} at most",
    }
    for site in found.sites:
        rows[site.site.removeprefix("blocks.").replace("hook_", "")] = (
            f"FVU {site.fvu:.4%}; radius {site.radius_mean:.4g} on average, {site.radius_max:.4g} "
            "at most"
        )
    _output.print_lines(rows)
