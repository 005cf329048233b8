"""Verdicts and states as what JSON can hold: exact numbers as texts ``p/q``, a float beside."""

from fractions import Fraction
from typing import Any

from ..kernel.gate import Verdict, Warrant
from ._status import GateStatus


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Whether, by which cell and on which warrants; or why not, and which cell was nearest."""
    return {
        "admitted": verdict.admitted,
        "cell": verdict.cell,
        "warrants": {name: _warrant(one) for name, one in verdict.warrants.items()},
        "reasons": list(verdict.reasons),
        "nearest": verdict.nearest,
    }


def status_json(status: GateStatus) -> dict[str, Any]:
    """Every number of a gate's state."""
    return _plain(status._asdict())


def _warrant(warrant: Warrant) -> dict[str, Any]:
    names = (*Warrant.__slots__, *type(warrant).__slots__)
    return {"kind": warrant.kind} | _plain({name: getattr(warrant, name) for name in names})


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Fraction):
            plain[name], plain[f"{name}_decimal"] = str(value), float(value)
        else:
            plain[name] = list(value) if isinstance(value, tuple) else value
    return plain
