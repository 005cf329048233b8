"""``compactproofs gate create``, ``record``, ``retract`` and ``close``: what a person decides."""

from pathlib import Path
from typing import Annotated

import typer

from ..kernel import OptionError
from . import _output
from ._gate import GateDirectory, Input, OfNetwork, fraction, load_subject, open_to_write, sites_of


def create(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    cut: Annotated[
        str | None,
        typer.Option(
            help="Where what is proved begins: input, pre1, post1, pre2, ... "
            "(default pre1; input for a model directory)."
        ),
    ] = None,
    sites: Annotated[
        str, typer.Option(help="Further groups to watch, as input,post1; the cut is always one.")
    ] = "",
    alpha: Annotated[
        str, typer.Option(help="All measurements together may err with this probability.")
    ] = "1/1000",
    tau: Annotated[str, typer.Option(help="Least lower probability of a cell.")] = "1/100000",
    rho: Annotated[
        str | None, typer.Option(help="Largest upper risk of each cell by itself.")
    ] = None,
    delta: Annotated[
        str | None,
        typer.Option(help="Largest P(admitted and bad) of a calibrated family (default 0.05)."),
    ] = None,
    eps: Annotated[
        float, typer.Option(help="How far an activation may be from what is measured.")
    ] = 0.0,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Make a gate that knows nothing and admits nothing."""
    from ..gate import Gate

    subject = load_subject(network)
    if rho is None and delta is None:
        delta = "1/20"
    chosen = cut or ("pre1" if subject.transformer is None else "input")
    with Gate.create(
        directory,
        subject.network,
        sites_of(subject.network, chosen, sites),
        alpha=fraction("alpha", alpha),
        tau=fraction("tau", tau),
        rho=None if rho is None else fraction("rho", rho),
        delta=None if delta is None else fraction("delta", delta),
        eps_act=eps,
    ) as gate:
        opened = gate.opened
    watched = ", ".join(f"{one.name} ({one.size})" for one in opened.sites.groups)
    if json:
        _output.print_json(
            {
                "gate": str(directory),
                "network": opened.model,
                "sites": opened.sites.sha256,
                "cut": opened.sites.cut,
                "alpha": str(opened.alpha),
                "tau": str(opened.tau),
                "rho": opened.rho and str(opened.rho),
                "delta": opened.delta and str(opened.delta),
                "eps": eps,
            }
        )
    else:
        _output.print_lines(
            {
                "gate": f"{directory}, empty: it admits nothing",
                "network": f"sha256 {opened.model}",
                "sites": f"{watched}; cut at {opened.sites.cut}",
                "alpha": f"{opened.alpha}, of all that is measured",
            }
        )


def record(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    input: Annotated[Path, Input],
    signer: Annotated[str, typer.Option(help="Who vouches for these inputs and labels.")],
    row: Annotated[
        list[int] | None, typer.Option(help="Only this input, as often as needed (default: all).")
    ] = None,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Sign inputs: their exact activations are admitted while the answer is the label.

    Labels are those of the file, or else the network's answers.
    """
    subject = load_subject(network)
    x = subject.inputs(input)
    labels = subject.labels(input, len(x))
    rows = list(dict.fromkeys(row or range(len(x))))
    if any(not 0 <= number < len(x) for number in rows):
        raise OptionError(f"--row {max(rows, key=abs)}: the file has inputs 0 to {len(x) - 1}")
    with open_to_write(directory, subject.network) as gate:
        entry = gate.record(x[rows], None if labels is None else labels[rows], signer=signer)
    if json:
        _output.print_json({"entry": entry, "records": len(rows), "signer": signer})
    else:
        _output.print_lines({"recorded": f"{len(rows)} inputs, signed by {signer}", "entry": entry})


def retract(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    entry: Annotated[str, typer.Option(help="The entry, or the cell, to take back.")],
    reason: Annotated[str, typer.Option(help="Why; it stays in the ledger.")],
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Take an entry back, with all that rests on it; nothing is admitted by it any more."""
    with open_to_write(directory, load_subject(network).network) as gate:
        alive = sum(gate.history.alive)
        gate.retract(entry, reason)
        # The retraction itself is one entry more.
        fallen = alive + 1 - sum(gate.history.alive)
    if json:
        _output.print_json({"entry": entry, "retracted": fallen})
    else:
        print(f"retracted: {fallen} entries")


def close(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    reason: Annotated[str, typer.Option(help="Why; every refusal will say it.")],
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Close a gate for good: it admits nothing any more."""
    with open_to_write(directory, load_subject(network).network) as gate:
        entry = gate.close(reason)
    if json:
        _output.print_json({"entry": entry, "closed": reason})
    else:
        print(f"closed: {_output.printable(reason)}")
