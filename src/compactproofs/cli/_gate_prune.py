"""``compactproofs gate prune``: a smaller network that keeps the answer on one cell."""

from pathlib import Path
from typing import Annotated

import typer

from .. import _proving
from ..kernel import OptionError
from ..kernel.gate import Negligible, ReluNetwork, load_relu_network
from . import _output
from ._gate import GateDirectory, OfNetwork, load_subject


def prune(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    cell: Annotated[
        str | None,
        typer.Option(help="A certified cell, or how its id begins (default: the most probable)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The .safetensors file to write, as --network reads it.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Keep the logits on the cell, not only the answer.")
    ] = False,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Leave out what a certified cell does without: dead, stable, duplicate, negligible units.

    What is left is proved to give the cell's answer on that cell, and on that cell only.
    """
    from safetensors.numpy import save

    from ..gate import Gate
    from ..gate._pruned_chain import chain_of, prune_cell, tensors_of

    if out is not None:
        _proving.check_destination(out, force=force)
    subject = load_subject(network)
    if out is not None and subject.transformer is not None:
        raise OptionError(f"--out {out}: what is left of a transformer's MLP is no plain chain")
    gate = Gate.open(directory, subject.network)
    found = prune_cell(gate, cell, exact=exact)
    pruned = found.pruned
    left = pruned.network if out is None else chain_of(pruned, gate.sites)
    if out is not None:
        _proving.write_file(out, save(tensors_of(left)), force=force)
        left = load_relu_network(out)
    negligible = sum(isinstance(step, Negligible) for step in pruned.steps)
    paths = negligible - len(pruned.duplicates)
    if json:
        _output.print_json(
            {
                "cell": found.cell,
                "label": pruned.cell.label,
                "lower_mass": str(found.mass),
                "dead": found.dead,
                "stable": found.stable,
                "duplicate": len(pruned.duplicates),
                "negligible": paths,
                "logits_kept": pruned.exact,
                "widths_before": list(subject.network.widths),
                "widths": list(left.widths),
                "weights_before": _weights(subject.network),
                "weights": _weights(left),
                "out": None if out is None else str(out),
                "network": left.sha256,
            }
        )
        return
    kept = "the logits are the same numbers" if pruned.exact else "the answer is kept, no logits"
    rows = {
        "cell": f"{found.cell}, of probability at least {float(found.mass):.3g}",
        "dead": f"{found.dead} units give 0 on all of it",
        "stable": f"{found.stable} units pass their number on",
        "duplicate": f"{len(pruned.duplicates)} units that a multiple of another stands in for",
        "negligible": f"{paths} more units that the label is proved without",
        "widths": f"{_widths(subject.network)} -> {_widths(left)}",
        "weights": f"{_weights(subject.network):,} -> {_weights(left):,}",
        "holds": f"on this cell only: {kept}, label {pruned.cell.label}",
    }
    if out is not None:
        rows["written"] = f"{out} (sha256 {left.sha256})"
    _output.print_lines(rows)


def _weights(network: ReluNetwork) -> int:
    return sum(layer.W.size + layer.b.size for layer in network.layers)


def _widths(network: ReluNetwork) -> str:
    return ", ".join(map(str, network.widths))
