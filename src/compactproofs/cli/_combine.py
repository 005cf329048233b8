"""``compactproofs combine``: certificates of parts of a task in, one of the whole out."""

import time
from pathlib import Path
from typing import Annotated

import typer

from .. import _proving
from ..kernel import compose, load_model, read_regular_file, verify_certificate
from ..models import resolve_model
from . import _output


def combine(
    parts: Annotated[
        list[Path], typer.Argument(help="Certificates of parts that tile the task, in any order.")
    ],
    model: Annotated[str, typer.Option(help="The bundled model or model directory it is about.")],
    out: Annotated[Path, typer.Option(help="Write the composed certificate here.")],
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Check certificates of parts (max:k=4,v=64,q=0-31, ...) and add them up to the whole task."""
    _proving.check_destination(out, force=force)
    began = time.perf_counter()
    network = load_model(resolve_model(model))
    proofs = []
    with _output.progress("checking parts") as tick:
        for done, part in enumerate(parts):
            tick(done, len(parts))
            verdict, proved = verify_certificate(read_regular_file(part), network)
            if proved is None:
                _output.print_refusal(f"{part}: {verdict.outcome.name}: {verdict.reason}")
                raise typer.Exit(_output.EXIT[verdict.outcome])
            proofs.append(proved)
    composed = compose(proofs)
    _proving.write_certificate(composed, out, force=force)
    seconds = time.perf_counter() - began
    if json:
        fields = _output.claim_json(composed.claim)
        fields |= {"outcome": composed.outcome.name, "parts": len(parts), "certificate": str(out)}
        _output.print_json(fields | {"seconds_check": round(seconds, 3)})
        return
    rows = {"outcome": f"{composed.outcome.name}: {composed.outcome.value}"}
    rows |= _output.describe(composed.claim)
    rows["parts"] = f"{len(parts)}, checked in {seconds:.2f} s"
    rows["certificate"] = str(out)
    _output.print_lines(rows)
