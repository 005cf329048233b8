"""``compactproofs gate tokens``: the classes that a certificate proves right are a gate."""

import json as json_module
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from jaxtyping import Int64

from ..kernel import (
    ClassGate,
    MalformedError,
    Model,
    Outcome,
    Proved,
    Task,
    Transformer,
    class_gate,
    cubic_gate,
    load_network,
    parse_task,
    read_regular_file,
    verify_certificate,
    verify_tables,
)
from ..models import resolve_model
from . import _output
from ._gate import read_arrays


def tokens(
    certificate: Annotated[Path, typer.Argument(help="A certificate file.")],
    model: Annotated[str, typer.Option(help="The bundled model or model directory it is about.")],
    task: Annotated[str, typer.Option(help="As max:k=4,v=64.")],
    input: Annotated[
        Path | None,
        typer.Option(
            help="Sequences to judge: a JSON list of tokens a line, or .safetensors with tokens."
        ),
    ] = None,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Admit the token sequences of the classes that a certificate proves right as a whole.

    An admitted sequence is answered rightly: no measurement is involved. Exit 1 if one is refused.
    """
    data = read_regular_file(certificate)
    network, goal = load_network(resolve_model(model)), parse_task(task)
    given = None if input is None else _read_tokens(input)
    with _output.progress("checking") as tick:
        verdict, proved = verify_certificate(data, network, goal, tick)
    if proved is None:
        _output.print_refusal(f"{certificate}: {verdict.outcome.name}: {verdict.reason}")
        raise typer.Exit(_output.EXIT[verdict.outcome])
    gate = _gate(proved, network, goal)
    bound = proved.claim.bound
    admitted = None if given is None else gate.admitted(given)
    if json:
        _output.print_json(
            {
                "model_sha256": gate.model_sha256,
                "task": goal.name,
                "theorem": proved.claim.theorem,
                "bound": f"{bound.numerator}/{bound.denominator}",
                "coverage": f"{gate.coverage.numerator}/{gate.coverage.denominator}",
                "coverage_decimal": float(gate.coverage),
                "coverage_is_the_bound": gate.coverage == bound,
                "admitted": None if admitted is None else admitted.tolist(),
            }
        )
    else:
        _output.print_lines(_lines(gate, proved, verdict.outcome))
        for row, one in zip(
            () if given is None else given.tolist(), () if admitted is None else admitted.tolist(),
            strict=True,
        ):  # fmt: skip
            print(f"{'ADMITTED' if one else 'REFUSED '}  {' '.join(map(str, row))}")
    if admitted is not None and not admitted.all():
        raise typer.Exit(1)


def _lines(gate: ClassGate, proved: Proved, outcome: Outcome) -> dict[str, str]:
    claim, share = proved.claim, gate.coverage
    same = (
        "the bound itself: every sequence that is proved right is in a cell"
        if share == claim.bound
        else f"below the bound {claim.bound_decimal}...: what is counted singly is in no cell"
    )
    return {
        "outcome": f"{outcome.name}: {outcome.value}",
        "model": f"sha256 {gate.model_sha256}",
        "task": f"{claim.task}, {claim.total:,} sequences",
        "theorem": claim.theorem,
        "coverage": f"{share.numerator}/{share.denominator} = {float(share):.10f}, {same}",
        "wrong": "0 of the admitted sequences, by the theorem",
    }


def _gate(proved: Proved, network: Model | Transformer, goal: Task) -> ClassGate:
    """The cubic theorem's cells are finer than classes, but not in its certificate."""
    if proved.claim.theorem != "cubic" or proved.tables is None or not isinstance(network, Model):
        return class_gate(proved, goal)
    return cubic_gate(verify_tables(network, proved.tables, proved.claim.semantics), goal)


def _read_tokens(path: Path) -> Int64[np.ndarray, "n k"]:
    if path.suffix == ".safetensors":
        arrays = read_arrays(path)
        found = arrays.get("tokens")
        if found is None or found.ndim != 2 or not np.issubdtype(found.dtype, np.integer):
            raise MalformedError(f"{path} has no integers tokens [n, k]")
        return found.astype(np.int64)
    rows: list[list[int]] = []
    for number, line in enumerate(read_regular_file(path).decode("utf-8", "replace").splitlines()):
        if not line.strip():
            continue
        try:
            row = json_module.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, list) or any(type(t) is not int or abs(t) >> 62 for t in row):
            raise MalformedError(f"{path}, line {number + 1}: not a JSON list of whole numbers")
        if rows and len(row) != len(rows[0]):
            raise MalformedError(
                f"{path}, line {number + 1}: {len(row)} tokens, where line 1 has {len(rows[0])}"
            )
        rows.append(row)
    if not rows:
        raise MalformedError(f"{path} holds no sequence: write a JSON list of tokens a line")
    return np.array(rows, dtype=np.int64)
