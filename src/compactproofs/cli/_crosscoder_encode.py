"""``compactproofs crosscoder encode``: which features every input fires."""

import time
from pathlib import Path
from typing import Annotated

import typer

from ..crosscoders import check_encoded_destination, encode_task, inputs_of, save_encoded
from . import _output
from ._crosscoder import Active, CrosscoderDirectory, Limit, OfModel, OfTask, Seed, load


def encode(
    crosscoder: Annotated[Path, CrosscoderDirectory],
    model: Annotated[str, OfModel],
    task: Annotated[str, OfTask],
    out: Annotated[Path, typer.Option(help="The directory to write (safetensors and JSON).")],
    active: Annotated[int | None, Active] = None,
    levels: Annotated[
        int | None, typer.Option(help="Round the codes of each feature to so many levels.")
    ] = None,
    limit: Annotated[int, Limit] = 1 << 20,
    seed: Annotated[int, Seed] = 0,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Encode the inputs of a task: compressed rows of features, with tokens and labels."""
    check_encoded_destination(out, force=force)
    own, net, goal = load(crosscoder, model, task)
    began = time.perf_counter()
    tokens, labels = inputs_of(goal, limit, seed)
    encoded = encode_task(net, own, tokens, labels, task=goal.name, active=active)
    if levels is not None:
        encoded = encoded.quantised(levels)
    save_encoded(out, encoded, force=force)
    seconds = time.perf_counter() - began
    written = sum(file.stat().st_size for file in out.iterdir())
    frequency = encoded.firing_frequency()
    active_now = encoded.active()
    if json:
        _output.print_json(
            {
                "encoded": str(out),
                "inputs": len(encoded),
                "sequences": len(tokens),
                "all_sequences": len(tokens) == goal.total,
                "features": encoded.d_sae,
                "features_that_fire": int((frequency > 0).sum()),
                "active_mean": float(active_now.mean()),
                "active_max": int(active_now.max()),
                "bytes": written,
                "seconds": round(seconds, 3),
            }
        )
        return
    share = "all" if len(tokens) == goal.total else f"a sample of {goal.total:,}"
    _output.print_lines(
        {
            "encoded": f"{out} ({written:,} bytes)",
            "inputs": f"{len(encoded):,} positions of {len(tokens):,} sequences ({share})",
            "features": f"{int((frequency > 0).sum())} of {encoded.d_sae} fire",
            "active": f"{active_now.mean():.2f} features a position, at most {active_now.max()}",
            "seconds": f"{seconds:.1f}",
        }
    )
