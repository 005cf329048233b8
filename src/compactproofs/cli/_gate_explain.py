"""``compactproofs gate explain``: find cells, and measure them on fresh data."""

from pathlib import Path
from typing import Annotated

import typer

from ..kernel import OptionError
from . import _output
from ._gate import GateDirectory, Labelled, OfNetwork, load_subject, open_to_write


def explain(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    mine: Annotated[Path, Labelled],
    fresh: Annotated[Path, Labelled],
    margins: Annotated[
        str,
        typer.Option(help="Evidence that each group of cells must show, most trusted first."),
    ] = "1,0.25",
    cells: Annotated[int, typer.Option(help="Cells of each group, at most.")] = 200,
    rounds: Annotated[
        int, typer.Option(help="Rounds of the discovery of rules, on shards of the fresh data.")
    ] = 3,
    proposals: Annotated[int, typer.Option(help="Rules proposed in a round.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the searches.")] = 0,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Search cells in --mine, freeze what to measure, measure on --fresh, and calibrate.

    --fresh must be drawn like what the gate will judge; neither the network nor anybody may have
    looked at it, and it counts once.
    """
    from ..gate._building import BuildSettings, build_gate
    from ..gate._building import Labelled as Data

    try:
        wanted = tuple(float(margin) for margin in margins.split(","))
    except ValueError:
        raise OptionError(f"--margins {margins}: pass numbers, as 1,0.25") from None
    settings = BuildSettings(
        margins=wanted, cells=cells, rounds=rounds, proposals=proposals, seed=seed
    )
    subject = load_subject(network)
    mined, counted = Data(*subject.labelled(mine)), Data(*subject.labelled(fresh))
    with open_to_write(directory, subject.network) as gate:
        with _output.progress("searching cells") as tick:
            built = build_gate(gate, mined, counted, settings, tick)
        found = gate.status()
        admitted = int(gate.admission.admitted(*gate.activations(counted.inputs)).sum())
    if json:
        _output.print_json(
            {
                "cells": list(built.groups),
                "admitting": built.admitting,
                "groups_chosen": built.chosen,
                "rules": built.rules,
                "fresh": built.fresh,
                "fresh_admitted": admitted,
                "spent": str(found.spent),
            }
        )
        return
    groups = " + ".join(map(str, built.groups))
    rows = {
        "cells": f"{groups}, certified; {built.admitting} of them can admit",
        "measured": f"{built.fresh} fresh inputs, {admitted} of them admitted: an estimate",
    }
    if built.chosen is not None:
        rows["calibrated"] = f"{built.chosen} of {len(built.groups)} groups meet delta"
    if rounds:
        rows["rules"] = f"{built.rules} accepted; they rank what is surprising"
    rows["alpha"] = f"{float(found.spent):.3g} of {float(found.alpha):.3g} spent"
    _output.print_lines(rows)
