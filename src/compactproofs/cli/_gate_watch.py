"""``compactproofs gate watch``: close a gate when what arrives is not like what was counted."""

from pathlib import Path
from typing import Annotated

import typer

from . import _output
from ._gate import (
    GateDirectory,
    Input,
    Labelled,
    OfNetwork,
    fraction,
    load_subject,
    open_to_write,
)


def watch(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    mine: Annotated[Path, Labelled],
    input: Annotated[Path, Input],
    alpha: Annotated[str, typer.Option(help="Probability of a false alarm, ever.")] = "1/1000",
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Test whether inputs are exchangeable with the counted data; close the gate if they are not.

    Every call goes on where the last one stopped: pass each input once, in the order of their
    arrival. Exit 1 once the test has fired.
    """
    from ..gate._watch import watch as watch_inputs

    subject = load_subject(network)
    mined, arrived = subject.inputs(mine), subject.inputs(input)
    level = fraction("alpha", alpha)
    with open_to_write(directory, subject.network) as gate:
        found = watch_inputs(gate, gate.activations(mined), gate.activations(arrived), level)
    if json:
        _output.print_json(found._asdict() | {"alpha": str(level)})
    else:
        _output.print_lines(
            {
                "watched": f"{found.seen} inputs, beside {found.reference} that were counted",
                "evidence": f"{found.wealth:.4g} of {float(1 / level):.4g} that close the gate",
                "gate": "CLOSED: the test has fired" if found.fired else "as it was",
            }
        )
    if found.fired:
        raise typer.Exit(1)
