"""A gate on disk: a directory that only grows.

    gate.json            {"format": "compactproofs-gate-1", "opened": id of the first line}
    ledger.jsonl         one canonical JSON object a line, {"body": entry, "id": .., "prev": ..}
    shards/SHA.safetensors   arrays that entries name by the SHA-256 of their file
    lock                 held (flock) by the one writer, whose process id it contains

``id`` is the SHA-256 of ``{"body": .., "prev": ..}`` as canonical JSON (keys sorted, no spaces,
ASCII), ``prev`` the id of the line before, 64 zeros in the first line. Exact numbers are texts
``"p/q"``; what each entry says is in ``kernel.gate``. Entries are never changed: a retraction is
one more line.

Writing is crash-safe: a shard is complete before a line names it, and lines are flushed to disk
before ``append`` returns. A half-written last line is what an interrupted append leaves: opening
warns, ends at the last whole line, and the next append cuts the rest off. Damage anywhere else
refuses to open. Readers take no lock.
"""

import fcntl
import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Shaped
from safetensors.numpy import save

from ..kernel import MalformedError, UserError, read_regular_file
from ..kernel._safetensors import DamagedError, read_json
from ..kernel.gate import START, Entry, Line, Opened, Shard, canonical_json

_FORMAT = "compactproofs-gate-1"
Arrays = Mapping[str, Shaped[np.ndarray, "..."]]


class LedgerWarning(UserWarning):
    """The ledger is usable, and something about it is worth knowing."""


class ShardFiles:
    """The shards of a directory, read when first asked for."""

    def __init__(self, directory: Path) -> None:
        """directory: the one that holds ``SHA.safetensors`` files."""
        self._directory = directory
        self._known: dict[str, Shard] = {}

    def get(self, sha256: str, /) -> Shard | None:
        """The shard of this name; None if there is no file that is what its name says."""
        if sha256 not in self._known:
            if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
                return None
            try:
                shard = Shard(read_regular_file(self._file(sha256)))
            except (OSError, DamagedError):
                return None
            if shard.sha256 != sha256:
                return None
            self._known[sha256] = shard
        return self._known[sha256]

    def add(self, data: bytes) -> Shard:
        """Store the bytes under their name, complete or not at all."""
        shard = Shard(data)
        file = self._file(shard.sha256)
        if shard.sha256 not in self._known or not file.exists():
            _write_whole(file, data)
            self._known[shard.sha256] = shard
        return shard

    def _file(self, sha256: str) -> Path:
        return self._directory / f"{sha256}.safetensors"


def encode_arrays(arrays: Arrays) -> bytes:
    """The ``.safetensors`` bytes of a shard; the same arrays give the same bytes."""
    return save({name: np.ascontiguousarray(values) for name, values in sorted(arrays.items())})


def shard_name(arrays: Arrays) -> str:
    """What an entry calls these arrays."""
    return hashlib.sha256(encode_arrays(arrays)).hexdigest()


class Ledger:
    """The lines and shards of a gate's directory; one writer, any number of readers."""

    def __init__(self, path: Path, lock: int | None) -> None:
        """Read the ledger; use ``create`` or ``open``."""
        self.path = path
        self.shards = ShardFiles(path / "shards")
        self._lock = lock
        self.lines, self._size = _read_lines(path)

    @classmethod
    def create(cls, path: Path | str, opened: Opened) -> "Ledger":
        """Make the directory with its first entry, open for writing; it must not hold a gate."""
        path, lock = Path(path), None
        line = Line.after(START, opened)
        try:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise UserError(f"{path} exists and is not an empty directory: give a new path")
            (path / "shards").mkdir(parents=True)
            lock = _take_lock(path)
            _write_whole(path / "ledger.jsonl", line.to_json())
            about = {"format": _FORMAT, "opened": line.id}
            _write_whole(path / "gate.json", canonical_json(about).encode() + b"\n")
        except OSError as error:
            _release(lock)
            raise UserError(f"{path}: no gate can be made there ({error.strerror})") from None
        return cls(path, lock)

    @classmethod
    def open(cls, path: Path | str, *, write: bool = False) -> "Ledger":
        """Open a gate's directory.

        Raises UserError if there is none or another writer has it, MalformedError naming the line
        if the ledger is damaged. Warns (LedgerWarning) of a half-written last line.
        """
        path = Path(path)
        if not (path / "gate.json").is_file():
            raise UserError(f"{path} holds no gate.json: give a gate's directory")
        lock = _take_lock(path) if write else None
        try:
            return cls(path, lock)
        except BaseException:
            _release(lock)
            raise

    @property
    def writable(self) -> bool:
        """Whether this process holds the lock."""
        return self._lock is not None

    def append(
        self,
        items: Iterable[tuple[Entry, Arrays | None]],
        check: Callable[[list[Line]], None] | None = None,
    ) -> list[Line]:
        """Add entries with the arrays that they name, flushed to disk when it returns.

        What it raises, it raises before the first is written; a crash may leave the first ones.
        An entry's ``shard`` must be ``shard_name`` of its arrays. check: called with the lines
        before they are written; what it raises stops that. Raises UserError if the ledger is open
        for reading. Cost: one flush to disk, and one for each new shard.
        """
        if self._lock is None:
            raise UserError(f"{self.path} is open for reading: open it with write=True to add")
        prev, added = self.lines[-1].id, []
        for entry, arrays in items:
            named = getattr(entry, "shard", None)
            if arrays is not None and self.shards.add(encode_arrays(arrays)).sha256 != named:
                raise UserError(f"the arrays of {type(entry).__name__} are not those that it names")
            if arrays is None and named is not None and self.shards.get(named) is None:
                raise UserError(f"{type(entry).__name__} names arrays that were never stored")
            try:  # what cannot be read back must not be written
                added.append(Line.from_json(Line.after(prev, entry).to_json()))
            except DamagedError as error:
                raise UserError(f"nothing was added: {error}") from None
            prev = added[-1].id
        if check is not None:
            check(added)
        text = b"".join(line.to_json() for line in added)
        with open(self.path / "ledger.jsonl", "r+b") as file:
            file.truncate(self._size)  # of what an interrupted append left
            file.seek(self._size)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._size += len(text)
        self.lines.extend(added)
        return added

    def release(self) -> None:
        """Give the lock back; the ledger can still be read."""
        _release(self._lock)
        self._lock = None

    def __enter__(self) -> "Ledger":
        """Nothing to do."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the lock back."""
        self.release()


def _read_lines(path: Path) -> tuple[list[Line], int]:
    """The lines, and how many bytes they take."""
    file = path / "ledger.jsonl"
    try:
        about: Any = read_json(read_regular_file(path / "gate.json"))
        data = read_regular_file(file)
    except (OSError, DamagedError) as error:
        raise MalformedError(f"{path}: the gate cannot be read: {error}") from None
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise MalformedError(f"{path / 'gate.json'} is not of the format {_FORMAT}")
    whole, _, rest = data.rpartition(b"\n")
    size = len(data) - len(rest)
    lines: list[Line] = []
    prev = START
    for number, text in enumerate(whole.split(b"\n") if size else [], 1):
        try:
            line = Line.from_json(text + b"\n")
            if line.prev != prev:
                raise DamagedError("it does not continue the line before")
        except DamagedError as error:
            raise MalformedError(
                f"{file}, line {number} is damaged: {error}; restore the file, or cut it before "
                "this line"
            ) from None
        lines.append(line)
        prev = line.id
    if not lines or lines[0].id != about.get("opened"):
        raise MalformedError(f"{file} does not begin with the entry that gate.json names")
    if rest:
        warnings.warn(
            f"{file}: the last line is half-written (an interrupted append) and is left out",
            LedgerWarning,
            stacklevel=4,
        )
    return lines, size


def _take_lock(path: Path) -> int:
    file = path / "lock"
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UserError(f"{file}: cannot be locked ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise UserError(
            f"{file} is held by another writer (process {holder}): end it, or open for reading"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _release(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _write_whole(file: Path, data: bytes) -> None:
    """Complete and on disk under its name, or not there."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
