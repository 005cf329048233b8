"""The commands, and how a run ends: exit status, one-line errors, Ctrl-C."""

import shlex
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from ..kernel import UserError, __version__
from . import _output
from ._check import check
from ._circuits import circuits_command
from ._combine import combine
from ._crosscoder import group as crosscoder_group
from ._crosscoder_claim import claim
from ._crosscoder_encode import encode
from ._crosscoder_import import import_command
from ._crosscoder_interactions import interactions
from ._crosscoder_prove import prove as prove_with_crosscoder
from ._crosscoder_train import train as train_crosscoder
from ._crosscoder_view import view
from ._frontier import frontier
from ._gate import group as gate_group
from ._gate_admit import admit, status
from ._gate_build import close, create, record, retract
from ._gate_edits import check_edit_command, safe_interval_command
from ._gate_explain import explain
from ._gate_free import free
from ._gate_generalise import generalise_command
from ._gate_prune import prune
from ._gate_refute import refute
from ._gate_report import report as report_gate
from ._gate_serve import serve
from ._gate_tokens import tokens
from ._gate_train import train_digits
from ._gate_watch import watch
from ._prove import prove
from ._report import report
from ._show import show
from ._sweep import sweep
from ._train import train

app = typer.Typer(
    help="Proved lower bounds on a trained transformer's accuracy, with certificates.",
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (prove, check, show, combine, frontier, report, train, sweep):
    app.command()(command)
app.command("circuits")(circuits_command)
for command in (encode, claim, interactions, view):
    crosscoder_group.command()(command)
crosscoder_group.command("train")(train_crosscoder)
crosscoder_group.command("prove")(prove_with_crosscoder)
crosscoder_group.command("import")(import_command)
app.add_typer(crosscoder_group, name="crosscoder")
for command in (
    create,
    record,
    explain,
    admit,
    free,
    prune,
    refute,
    status,
    watch,
    retract,
    close,
    serve,
    tokens,
):
    gate_group.command()(command)
gate_group.command("safe-interval")(safe_interval_command)
gate_group.command("check-edit")(check_edit_command)
gate_group.command("generalise")(generalise_command)
gate_group.command("report")(report_gate)
gate_group.command("train-digits")(train_digits)
app.add_typer(gate_group, name="gate")


def _print_version(wanted: bool) -> bool:
    if wanted:
        print(__version__)
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Prove, check and show lower bounds on a trained transformer's accuracy."""


def main() -> None:
    """Run the command line: exit 2 with one line for misuse, 130 for Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is escaped, not a traceback after the work.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    try:
        status = app(arguments, prog_name="compactproofs", standalone_mode=False)
    except KeyboardInterrupt:
        status = 130
    except (UserError, OSError) as error:
        _output.print_refusal(str(error))
        return 2
    except (MemoryError, RecursionError) as error:
        _output.print_refusal(f"too large for this machine ({type(error).__name__}: {error})")
        return 2
    except Exception as error:
        # Typer does not export the class of its usage errors; they format themselves.
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()  # type: ignore[attr-defined]
        call = shlex.join(["compactproofs", *arguments])
        _output.print_refusal(f"{message.rstrip('.')} (in: {call}; see --help)")
        return 2
    if status == 130:
        _output.print_refusal("interrupted; no file is half-written")
    return status if isinstance(status, int) else 0
