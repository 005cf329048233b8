"""``compactproofs gate safe-interval``, ``check-edit`` and ``generalise``: what may be changed."""

import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import typer
from jaxtyping import Float64

from ..kernel import OptionError, UserError
from ..kernel.gate import answers, safe_interval
from . import _output
from ._gate import GateDirectory, OfNetwork, load_subject, row_of, site_number

if TYPE_CHECKING:
    from ..gate import Gate

OfInput = typer.Option("--input", help="A .safetensors file with x [n, d]; or give --record.")
OfRecord = typer.Option("--record", help="The entry of a record, instead of --input.")
OfRow = typer.Option("--row", help="Which input of the file or record, counted from 0.")
OfLabel = typer.Option("--label", help="The answer to keep (default: the network's; the record's).")


class _Point(NamedTuple):
    gate: "Gate"
    h: Float64[np.ndarray, " s"]
    label: int


def safe_interval_command(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    site: Annotated[str, typer.Option(help="A site of the cut, as pre1[3].")],
    input: Annotated[Path | None, OfInput] = None,
    record: Annotated[str | None, OfRecord] = None,
    row: Annotated[int, OfRow] = 0,
    label: Annotated[int | None, OfLabel] = None,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """How far one activation of an input may be edited: the exact interval that keeps the answer.

    All other activations of the cut stay as they are: such intervals do not combine.
    """
    at = _point(directory, network, input, record, row, label)
    number = site_number(at.gate.sites, site)
    found = safe_interval(at.gate.network, at.gate.sites, at.h, number, at.label)
    if json:
        _output.print_json(
            {
                "site": site,
                "value": float(at.h[number]),
                "label": at.label,
                "low": None if found.low is None else str(found.low),
                "high": None if found.high is None else str(found.high),
                "low_decimal": None if found.low is None else float(found.low),
                "high_decimal": None if found.high is None else float(found.high),
                "open_low": found.open_low,
                "open_high": found.open_high,
                "kinks": found.kinks,
            }
        )
        return
    low = "-inf" if found.low is None else f"{float(found.low):.10g}"
    high = "inf" if found.high is None else f"{float(found.high):.10g}"
    _output.print_lines(
        {
            "site": f"{site} = {at.h[number]:.10g}",
            "safe": f"{low} to {high}, ends excluded: label {at.label} strictly wins in between",
            "beyond": "a tie, at each finite end, exactly",
            "kinks": f"{found.kinks} passed",
        }
    )


def check_edit_command(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    edit: Annotated[
        list[str], typer.Option(help="As pre1[3]=-0.5:2, ends included; as often as needed.")
    ],
    input: Annotated[Path | None, OfInput] = None,
    record: Annotated[str | None, OfRecord] = None,
    row: Annotated[int, OfRow] = 0,
    label: Annotated[int | None, OfLabel] = None,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Whether the answer stays for every value in these ranges, all sites together.

    SAFE is proved, UNSAFE has a witness, UNKNOWN is neither. Exit 0 if it is SAFE, else 1.
    """
    from ..gate._edits import Safety, check_edit

    at = _point(directory, network, input, record, row, label)
    sites = at.gate.sites
    wanted = dict(_edit(text, at.gate) for text in edit)
    if len(wanted) < len(edit):
        raise OptionError("--edit names a site twice: give one range for each")
    found = check_edit(at.gate.network, sites, at.h, wanted, at.label)
    witness = {sites.name(n): value for n, value in (found.witness or {}).items()}
    if json:
        _output.print_json(
            {
                "safety": found.safety.name,
                "says": found.safety.value,
                "label": at.label,
                "witness": {name: str(value) for name, value in witness.items()} or None,
                "margin": None if found.margin is None else float(found.margin),
            }
        )
    else:
        rows = {"edit": f"{found.safety.name}: {found.safety.value}", "label": str(at.label)}
        if witness:
            rows["witness"] = ", ".join(f"{name} = {float(v):.10g}" for name, v in witness.items())
        if found.margin is not None:
            rows["margin"] = f"{float(found.margin):.6g} there"
        _output.print_lines(rows)
    if found.safety is not Safety.SAFE:
        raise typer.Exit(1)


def _point(
    directory: Path,
    network: str,
    given: Path | None,
    record: str | None,
    row: int,
    label: int | None,
) -> _Point:
    from ..gate import Gate
    from ..gate._edits import recorded

    if (given is None) == (record is None):
        raise OptionError("give either --input or --record: an edit is of one known input")
    subject = load_subject(network)
    gate = Gate.open(directory, subject.network)
    if gate.opened.model != subject.network.sha256:
        raise UserError(f"{directory} is about another network: --network {network} has its own")
    if record is not None:
        known = recorded(gate, record, row)
        return _Point(gate, known.h, known.label if label is None else label)
    seen = gate.activations(row_of(subject.inputs(given or Path()), row))
    own = int(answers(seen.outputs)[0])
    if own < 0 and label is None:
        raise UserError(f"{given}, input {row}: the network gives no single answer; pass --label")
    return _Point(gate, seen.h[0], own if label is None else label)


_EDIT = re.compile(r"(.+)=([^:=]+):([^:=]+)")


def _edit(text: str, gate: "Gate") -> tuple[int, tuple[float, float]]:
    match = _EDIT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        low, high = (float(Fraction(match[n])) for n in (2, 3))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise OptionError(f"--edit {text}: write SITE=LOW:HIGH, as pre1[3]=-0.5:2") from None
    return site_number(gate.sites, match[1]), (low, high)
