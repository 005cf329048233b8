"""``compactproofs gate refute``: an audit by attack."""

from pathlib import Path
from typing import Annotated

import typer

from ..kernel import OptionError
from . import _output
from ._gate import GateDirectory, OfNetwork, load_subject


def refute(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    input: Annotated[
        Path | None,
        typer.Option(help="Data that the gate has not counted: its intervals are held to them."),
    ] = None,
    points: Annotated[int, typer.Option(help="Random points of each cell.")] = 1000,
    starts: Annotated[int, typer.Option(help="Gradient attacks on each cell.")] = 64,
    steps: Annotated[int, typer.Option(help="Steps of an attack.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the attacks.")] = 0,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Attack every certificate of a gate, and its intervals by fresh data.

    Exit 0 if nothing is found, 1 if something is refuted. Finding nothing proves nothing.
    """
    from ..gate import Gate
    from ..gate._refute import RefuteSettings
    from ..gate._refute import refute as attack

    for name, value in (("points", points), ("starts", starts), ("steps", steps)):
        if value < 1:
            raise OptionError(f"--{name} {value}: pass 1 or more")
    subject = load_subject(network)
    gate = Gate.open(directory, subject.network)
    fresh = labels = None
    if input is not None:
        x = subject.inputs(input)
        fresh, labels = gate.activations(x), subject.labels(input, len(x))
    settings = RefuteSettings(points=points, starts=starts, steps=steps, seed=seed)
    with _output.progress("attacking"):
        found = attack(gate, fresh, labels, settings)
    obligations = gate.admission.obligations
    certificates, intervals = len(obligations.certificates), len(obligations.measurements)
    if json:
        _output.print_json(
            {
                "certificates": certificates,
                "intervals": None
                if fresh is None
                else len(gate.admission.obligations.measurements),
                "findings": [
                    {
                        "about": one.about,
                        "what": one.what,
                        "point": one.point and [str(value) for value in one.point],
                    }
                    for one in found
                ],
            }
        )
    else:
        rows = {"attacked": f"{certificates} certificates"}
        if fresh is not None:
            rows["counted"] = f"{intervals} intervals"
        rows["refuted"] = f"{len(found)}" if found else "nothing, which proves nothing"
        _output.print_lines(rows)
        for one in found:
            print(f"{one.about[:12]}  {_output.printable(one.what)}")
    if found:
        raise typer.Exit(1)
