"""``compactproofs gate free``: which activations of an input do not matter, jointly and proved."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from jaxtyping import Float64

from ..kernel import UserError
from ..kernel.gate import StreamEntry, answers, certify_region
from . import _output
from ._gate import GateDirectory, Input, OfNetwork, Row, load_subject, open_to_write, row_of

if TYPE_CHECKING:
    from ..gate import Gate


def free(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    input: Annotated[Path, Input],
    row: Annotated[int, Row] = 0,
    mine: Annotated[
        Path | None,
        typer.Option(help="Data that say what values a site takes (default: the gate's stream)."),
    ] = None,
    splits: Annotated[
        int, typer.Option(help="Units to split by sign for more free sites; needs torch if not 0.")
    ] = 0,
    write: Annotated[
        bool, typer.Option("--write", help="Add the cell to the gate as a certified region.")
    ] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Which sites of the cut may have any recorded values, all together, with the answer kept.

    The other sites are attended: the proof needs them where they are. Nothing is stored without
    --write.
    """
    from ..gate import Gate
    from ..gate._irrelevance import FreeingSettings, free_sites

    subject = load_subject(network)
    x = row_of(subject.inputs(input), row)
    opened = open_to_write if write else Gate.open
    with opened(directory, subject.network) as gate:
        if gate.opened.model != subject.network.sha256:
            raise UserError(f"{directory} is about another network: pass its own as --network")
        if write and gate.closed is not None:
            raise UserError(f"{directory}: nothing is stored, the gate is closed: {gate.closed}")
        seen = gate.activations(x)
        label = int(answers(seen.outputs)[0])
        if label < 0:
            raise UserError(f"{input}, input {row}: the network gives no single answer to keep")
        h = _recorded(gate) if mine is None else gate.activations(subject.inputs(mine)).h
        h = h[np.isfinite(h).all(axis=1)]
        if not len(h):
            raise UserError(f"{directory} has counted no data: pass some as --mine")
        settings = FreeingSettings(splits=splits, steps=FreeingSettings.steps if splits else 0)
        ends = h.min(axis=0), h.max(axis=0)
        sites = gate.sites
        found = free_sites(gate.network, sites, seen.h[0], label, ends, settings)
        margin = certify_region(gate.network, sites, found.cell, found.witness).margin
        if write:
            gate.add_region(found.cell, found.witness)
    cut = range(sites.cut_slice.start, sites.cut_slice.stop)
    freed = [sites.name(n) for n in cut if n in set(found.freed.tolist())]
    attended = [sites.name(n) for n in cut if n not in set(found.freed.tolist())]
    if json:
        _output.print_json(
            {
                "label": label,
                "free": freed,
                "attended": attended,
                "margin": margin,
                "recorded": len(h),
                "cell": found.cell.id,
                "stored": write,
            }
        )
        return
    rows = {
        "free": f"{len(freed)} of {len(cut)}, jointly: {', '.join(freed) or 'none'}",
        "attended": f"{len(attended)}: {', '.join(attended) or 'none'}",
        "PROVED": f"label {label} wins by at least {margin:.4g}, whatever values of {len(h)} "
        "recordings the free sites have",
        "cell": found.cell.id,
    }
    if write:
        rows["stored"] = "as a certified region; it admits once its mass and risk are counted"
    _output.print_lines(rows)


def _recorded(gate: "Gate") -> Float64[np.ndarray, "n s"]:
    """The data of the stream, those that were not retracted."""
    named = [entry.shard for _, entry in gate.history.living(StreamEntry)]
    shards = [shard for name in named if (shard := gate.ledger.shards.get(name)) is not None]
    none = np.zeros((0, gate.sites.size))
    return np.concatenate([none, *(shard.arrays["h"] for shard in shards)])
