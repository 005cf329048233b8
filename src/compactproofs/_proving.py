"""Composing the kernel into what users call: prove, write a certificate, check one.

Nothing here is trusted: it finds the integer tables, and the kernel verifies them.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .explain import find_witness
from .kernel import (
    THEOREMS,
    IntegerTables,
    Model,
    OptionError,
    Proved,
    Task,
    Theorem,
    Tick,
    Transformer,
    Verdict,
    VerifiedTables,
    Witness,
    check,
    encode_certificate,
    integer_tables,
    no_tick,
    read_regular_file,
    require_fit,
    require_semantics,
    verify_tables,
    witness_from,
)


def prove(
    model: Model | Transformer,
    task: Task,
    theorem: str = "additive",
    options: Mapping[str, int | str] | None = None,
    tick: Tick = no_tick,
    tables: IntegerTables | VerifiedTables | None = None,
    witness: Mapping[str, np.ndarray] | None = None,
    semantics: str = "real",
) -> Proved:
    """Prove a lower bound on the accuracy of ``model`` at ``task``.

    theorem: a name of ``kernel.THEOREMS``. options: its options by name, such as ``{"bins": 256}``.
    tick: called with the work done and the work in all; may raise to stop.
    tables: the tables to count from; found here if not given. The kernel verifies them either way.
    witness: the theorem's own tensors by name; searched for here if it cannot do without.
    semantics: ``real``, the function over the real numbers; or ``float32``, any evaluation in
    float32 (docs/theory.md section 5).

    Raises UserError: OptionError for an unknown theorem or option, TaskError if the task does not
    fit the model, EnclosureError if the weights leave float64's range, SemanticsError if float32
    semantics does not cover them.
    Cost: that of the theorem; see its docstring.
    """
    known = known_theorem(theorem)
    require_fit(task, model)
    chosen = known.parse_options(dict(options or {}))
    require_semantics(semantics)
    proof, net = known.about(theorem, model)
    if semantics != "real" and not (known.from_tables and net is None):
        raise OptionError(
            f"the theorem {theorem} goes back to the weights and has no semantics {semantics}: "
            "use another theorem, as additive or collapsed-subcubic"
        )
    if net is not None:
        found = find_witness(net, task, theorem, chosen, tick) if witness is None else witness
        taken = _typed(theorem, known, found) if found else None
        return proof(net, task, chosen, tick, taken)
    if isinstance(model, Transformer):
        raise OptionError(f"the theorem {theorem} is not about this model")
    if not known.from_tables:
        found = find_witness(model, task, theorem, chosen) if witness is None else witness
        return known.prove(model, task, chosen, tick, _typed(theorem, known, found))
    taken = None if witness is None else _typed(theorem, known, witness)
    about = (model.sha256, semantics)
    if not isinstance(tables, VerifiedTables) or (tables.model_sha256, tables.semantics) != about:
        claimed = tables.claimed if isinstance(tables, VerifiedTables) else tables
        claimed = integer_tables(model, semantics) if claimed is None else claimed
        tables = verify_tables(model, claimed, semantics)
    return known.prove(tables, task, chosen, tick, taken)


def _typed(name: str, theorem: Theorem, arrays: Mapping[str, np.ndarray]) -> Witness:
    if theorem.witness is None:
        raise OptionError(f"the theorem {name} takes no witness")
    return witness_from(theorem.witness, arrays)


def known_theorem(name: str) -> Theorem:
    """The theorem of that name; OptionError with the names there are."""
    known = THEOREMS.get(name)
    if known is None:
        raise OptionError(f"unknown theorem {name!r}: known are {', '.join(THEOREMS)}")
    return known


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
    path: str | os.PathLike[str],
    model: Model | Transformer,
    task: Task | None = None,
    tick: Tick = no_tick,
) -> Verdict:
    """Check a certificate file against ``model``, and against ``task`` if given.

    Returns a verdict whatever the file holds; raises OSError if it cannot be read.
    """
    return check(read_regular_file(Path(path)), model, task, tick)
