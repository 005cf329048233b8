"""``compactproofs gate generalise``: from one recorded number to a rule."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _output
from ._gate import (
    GateDirectory,
    Labelled,
    OfNetwork,
    fraction,
    load_subject,
    open_to_write,
    site_number,
)

if TYPE_CHECKING:
    from ..gate._generalise import ConstantRule, Generalisation


def generalise_command(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    site: Annotated[str, typer.Option(help="A site, as pre1[3].")],
    mine: Annotated[Path, Labelled],
    fresh: Annotated[Path, Labelled],
    alpha: Annotated[
        str | None,
        typer.Option(
            help="Of the bound on leaving the range (default 1/1000; with --write the next share "
            "of the gate's alpha)."
        ),
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Store it: the range is frozen, then --fresh is observed (it counts once), then "
            "counted; what is proved becomes notes and regions.",
        ),
    ] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """What may be said of a site in place of recorded numbers, and on which cells.

    The range is that of --mine; --fresh says how often it is left. Nothing is stored without
    --write.
    """
    from ..gate import Gate
    from ..gate._generalise import generalise

    subject = load_subject(network)
    share = None if alpha is None else fraction("alpha", alpha)
    stored: dict[str, Any] | None = None
    if write:
        from ..gate._generalise_store import generalise_and_store

        x = subject.inputs(fresh)
        labels = subject.labels(fresh, len(x))
        with open_to_write(directory, subject.network) as gate:
            lab, later = gate.activations(subject.inputs(mine)).h, gate.activations(x)
            number = site_number(gate.sites, site)
            cells = len(gate.admission.obligations.certificates) if gate.closed is None else 0
            added = generalise_and_store(gate, number, lab, later, labels, share)
        found = added.found
        stored = {"rule": added.rule, "notes": added.notes, "regions": added.regions}
    else:
        gate = Gate.open(directory, subject.network)
        lab, later = (gate.activations(subject.inputs(file)).h for file in (mine, fresh))
        obligations = gate.admission.obligations
        held = {name: obligations.cells[name] for name in obligations.certificates}
        number, cells = site_number(gate.sites, site), len(held)
        level = Fraction(1, 1000) if share is None else share
        found = generalise(gate.network, gate.sites, held, number, lab, later, level)
    if json:
        _output.print_json(_as_json(site, cells, found) | ({"stored": stored} if stored else {}))
    else:
        _output.print_lines(_lines(site, cells, found, stored))


def _as_json(site: str, cells: int, found: "Generalisation") -> dict[str, Any]:
    return {
        "site": site,
        "cells": cells,
        "constant": None if found.constant is None else _constant(found.constant),
        "dead": list(found.dead),
        "stable": list(found.stable),
        "irrelevant": list(found.irrelevant),
    }


def _constant(rule: "ConstantRule") -> dict[str, Any]:
    return {
        "low": rule.low,
        "high": rule.high,
        "outside": rule.outside,
        "fresh": rule.fresh,
        "at_most": str(rule.at_most),
        "at_most_decimal": float(rule.at_most),
        "alpha": str(rule.alpha),
    }


def _lines(
    site: str, cells: int, found: "Generalisation", stored: dict[str, Any] | None
) -> dict[str, str]:
    rows, rule = {"site": site}, found.constant
    if rule is not None:
        rows["MEASURED"] = (
            f"in {rule.low:.6g} .. {rule.high:.6g}; outside with probability at most "
            f"{float(rule.at_most):.3g} ({rule.outside} of {rule.fresh} fresh; alpha "
            f"{float(rule.alpha):.3g})"
        )
    rows["PROVED"] = (
        f"of {cells} certified cells: dead on {len(found.dead)}, stable on "
        f"{len(found.stable)}, irrelevant on {len(found.irrelevant)} (one site at a time)"
    )
    if stored is not None:
        rows["stored"] = (
            f"rule {stored['rule'][:12]}, counted; {stored['notes']} notes, {stored['regions']} "
            "new regions"
        )
    return rows
