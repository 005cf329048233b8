"""``compactproofs show``: what a certificate says, without believing it."""

from pathlib import Path
from typing import Annotated

import typer

from ..kernel import MalformedError, decode_certificate, read_regular_file
from . import _output


def show(
    certificate: Annotated[Path, typer.Argument(help="A certificate file.")],
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Print what a certificate claims. Nothing is checked: for that, use check."""
    try:
        claim, tables, witness, parts = decode_certificate(read_regular_file(certificate))
    except MalformedError as error:
        raise MalformedError(f"{certificate}: MALFORMED: {error}") from None
    tensors = {} if tables is None else tables._asdict()
    if witness is not None:
        tensors |= witness._asdict()
    shapes = {name: list(array.shape) for name, array in tensors.items()}
    shapes |= {f"part.{n}": [len(part)] for n, part in enumerate(parts)}
    if json:
        _output.print_json({"checked": False, "claim": _output.claim_json(claim), "tables": shapes})
        return
    rows = {"outcome": "NOT CHECKED: this is only what the file says"}
    rows |= _output.describe(claim)
    rows["kernel"] = claim.kernel
    rows["tables"] = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    _output.print_lines(rows)
