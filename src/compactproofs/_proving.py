"""Composing the kernel into what users call: prove, write a certificate, check one.

Nothing here is trusted: it finds the integer tables, and the kernel verifies them.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from .kernel import (
    THEOREMS,
    IntegerTables,
    Model,
    OptionError,
    Proved,
    Task,
    Tick,
    Verdict,
    check,
    encode_certificate,
    integer_tables,
    no_tick,
    read_regular_file,
    require_fit,
    verify_tables,
)


def prove(
    model: Model,
    task: Task,
    theorem: str = "additive",
    options: Mapping[str, int] | None = None,
    tick: Tick = no_tick,
    tables: IntegerTables | None = None,
) -> Proved:
    """Prove a lower bound on the accuracy of ``model`` at ``task``.

    theorem: a name of ``kernel.THEOREMS``. options: its options by name, such as ``{"bins": 256}``.
    tick: called with the work done and the work in all; may raise to stop.
    tables: the witness to count from; found here if not given. The kernel verifies it either way.

    Raises UserError: OptionError for an unknown theorem or option, TaskError if the task does not
    fit the model, EnclosureError if the weights leave float64's range.
    Cost: that of the theorem; see its docstring.
    """
    known = THEOREMS.get(theorem)
    if known is None:
        raise OptionError(f"unknown theorem {theorem!r}: known are {', '.join(THEOREMS)}")
    require_fit(task, model)
    chosen = known.parse_options(dict(options or {}))
    witness = integer_tables(model) if tables is None else tables
    return known.prove(verify_tables(model, witness), task, chosen, tick)


def check_destination(path: Path, *, force: bool = False) -> None:
    """Refuse, before any work, a file that exists (without force) or cannot be written."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; name a file to write")
    exists = os.path.lexists(path)
    if exists and not (path.is_file() and not path.is_symlink()):
        raise OSError(f"{path} is not a regular file; name another one")
    if exists and not force:
        raise FileExistsError(f"{path} exists; pass --force to replace it, or another name")
    if not path.parent.is_dir():
        raise NotADirectoryError(f"cannot write {path}: {path.parent} is not a directory")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: the directory {path.parent} is not writable")


def write_file(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write ``data`` under a temporary name, then rename: whole or not at all."""
    check_destination(path, force=force)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_certificate(proved: Proved, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the certificate of a proof, whole or not at all; equal proofs give equal bytes.

    Raises FileExistsError without ``force`` if ``path`` exists.
    """
    path = Path(path)
    write_file(path, encode_certificate(proved), force=force)
    return path


def check_certificate(
    path: str | os.PathLike[str], model: Model, task: Task | None = None, tick: Tick = no_tick
) -> Verdict:
    """Check a certificate file against ``model``, and against ``task`` if given.

    Returns a verdict whatever the file holds; raises OSError if it cannot be read.
    """
    return check(read_regular_file(Path(path)), model, task, tick)
