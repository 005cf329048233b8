"""``compactproofs crosscoder import``: crosscoders of other tools, in our format."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ..crosscoders import (
    Crosscoder,
    CrosscoderError,
    check_crosscoder_destination,
    import_ckkissane,
    import_clt,
    import_crosscode,
    import_dictionary_learning,
    save_crosscoder,
    site_of,
)
from ..kernel import UserError
from . import _output

_IMPORTERS: dict[str, Callable[..., Crosscoder]] = {
    "ckkissane": import_ckkissane,
    "crosscode": import_crosscode,
    "dictionary-learning": import_dictionary_learning,
    "circuit-tracer": import_clt,
}


def import_command(
    source: Annotated[Path, typer.Argument(help="The directory that the other tool wrote.")],
    out: Annotated[Path, typer.Option(help="The crosscoder directory to write.")],
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(_IMPORTERS)}.")],
    sites: Annotated[
        str | None,
        typer.Option(help="The sites, separated by commas, where the files do not name them."),
    ] = None,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Read a crosscoder of another tool, without ever unpickling code, and write it in ours."""
    if form not in _IMPORTERS:
        raise CrosscoderError(f"unknown format {form!r}: known are {', '.join(_IMPORTERS)}")
    check_crosscoder_destination(out, force=force)
    named = None if sites is None else [site_of(name.strip()) for name in sites.split(",")]
    if named is None and form == "dictionary-learning":
        raise CrosscoderError(
            "dictionary-learning files do not name their sites: pass --sites, as "
            "--sites blocks.0.hook_resid_mid,blocks.0.hook_resid_post"
        )
    try:
        crosscoder = _IMPORTERS[form](source, sites=named)
    except ImportError as error:
        raise UserError(str(error)) from None
    save_crosscoder(out, crosscoder, force=force)
    config = crosscoder.config
    if json:
        _output.print_json(
            {
                "crosscoder": str(out),
                "sha256": crosscoder.sha256,
                "architecture": config.architecture,
                "sites": [site.name for site in config.sites],
                "d_in": config.d_in[0],
                "d_sae": config.d_sae,
            }
        )
        return
    _output.print_lines(
        {
            "crosscoder": f"{out} (sha256 {crosscoder.sha256})",
            "form": f"{config.architecture}, {config.d_sae} features, "
            f"{len(config.sites)} sites of width {config.d_in[0]}",
        }
    )
