"""``compactproofs gate admit`` and ``status``: the verdicts, and what they rest on."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from . import _output
from ._gate import GateDirectory, Input, OfNetwork, load_subject


def admit(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    input: Annotated[Path, Input],
    show: Annotated[int, typer.Option(help="Inputs to print, after the sums.")] = 5,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Judge inputs: exit 0 if all are admitted, 1 if one is refused."""
    from ..gate import Gate
    from ..gate._as_json import verdict_json
    from ..kernel.gate import answers as answers_of

    subject = load_subject(network)
    x = subject.inputs(input)
    labels = subject.labels(input, len(x))
    gate = Gate.open(directory, subject.network)
    seen = gate.activations(x)
    verdicts, answers = list(gate.admit_batch(seen)), answers_of(seen.outputs)
    admitted = sum(verdict.admitted for verdict in verdicts)
    wrong = None
    if labels is not None:
        bad = (answers != labels).tolist()
        wrong = sum(v.admitted and b for v, b in zip(verdicts, bad, strict=True))
    if json:
        _output.print_json(
            {
                "inputs": len(verdicts),
                "admitted": admitted,
                "wrong_admitted": wrong,
                "closed": gate.closed,
                "head": gate.ledger.lines[-1].id,
                "verdicts": [
                    verdict_json(verdict) | {"answer": answer}
                    for verdict, answer in zip(verdicts, answers.tolist(), strict=True)
                ],
            }
        )
    else:
        kinds = Counter(one.kind for verdict in verdicts for one in verdict.warrants.values())
        rows = {"admitted": f"{admitted} of {len(verdicts)} ({admitted / len(verdicts):.1%})"}
        if wrong is not None:
            rows["wrong"] = f"{wrong} of the admitted have another label than the answer"
        if kinds:
            rows["warrants"] = ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items()))
        if gate.closed is not None:
            rows["closed"] = gate.closed
        _output.print_lines(rows)
        for number, (verdict, answer) in enumerate(zip(verdicts, answers.tolist(), strict=True)):
            if number >= show:
                break
            head, *more = str(verdict).splitlines()
            print(f"\ninput {number}, answer {answer}: {_output.printable(head)}")
            for line in more:
                print(f"  {_output.printable(line)}")
    if admitted < len(verdicts):
        raise typer.Exit(1)


def status(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Verify the whole ledger, and say what it holds."""
    from ..gate import Gate
    from ..gate._as_json import status_json

    gate = Gate.open(directory, load_subject(network).network)
    found, opened = gate.status(), gate.opened
    if json:
        about = {"gate": str(directory), "head": gate.ledger.lines[-1].id, "cut": gate.sites.cut}
        _output.print_json(about | status_json(found))
        return
    limits = [
        f"{name} {value}" for name, value in (("rho", opened.rho), ("delta", opened.delta)) if value
    ]
    _output.print_lines(
        {
            "gate": "open" if found.closed is None else f"CLOSED: {found.closed}",
            "cut": gate.sites.cut,
            "ledger": f"{found.entries} entries, head {gate.ledger.lines[-1].id}",
            "warrants": ", ".join(f"{kind} {n}" for kind, n in found.warrants.items()),
            "cells": f"{found.cells}, of which {found.admitting} can admit",
            "rules": f"{found.rules}, of which {found.pending} wait for data; "
            f"{found.refused} refused, {found.retracted} entries retracted",
            "data": f"{found.stream} observed",
            "alpha": f"{float(found.spent):.3g} of {float(found.alpha):.3g} spent",
            "limits": f"tau {opened.tau}, {', '.join(limits)}",
        }
    )
