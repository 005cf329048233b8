"""Activations on disk: shards of ``[n, L, d]`` that are read by memory map.

A store is a directory of ``shard_00000.safetensors``, ... (tensor ``activations``) and
``index.json``. Every shard but the last has ``shard_rows`` rows. A shard and the index are each
written under a temporary name and renamed, the shard first: what the index names is whole.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from jaxtyping import Float, Float32, Integer, Shaped

from ._config import Site, require_digest, require_positive, require_sites
from ._errors import CrosscoderError, located
from ._json import json_bytes, read_object, require_fields, require_version, sites_from
from ._tensors import open_tensors, tensor_bytes

INDEX_FILE: Final = "index.json"
FORMAT_VERSION: Final = 1
STORE_TYPES: Final = ("float32", "float16")

_TENSOR: Final = "activations"
# Maps that are kept open; each holds a file descriptor, of which a process often has 1024.
_MOST_OPEN: Final = 256


@final
@dataclass(frozen=True)
class StoreSettings:
    """What a store holds; the fields of its ``index.json``, beside the number of rows.

    sites: in the order of the axis L; d: width of each; model_sha256: digest of the model, empty if
    unknown; dtype: one of `STORE_TYPES`; shard_rows: rows of a shard; shuffle_seed: seed of the
    order in which whoever wrote the store visited the inputs, None if in their own order.

    Raises CrosscoderError naming the field and its value.
    """

    sites: tuple[Site, ...]
    d: int
    model_sha256: str = ""
    dtype: str = "float32"
    shard_rows: int = 65_536
    shuffle_seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no store can hold."""
        object.__setattr__(self, "sites", tuple(self.sites))
        require_sites("sites", self.sites)
        require_positive("d", self.d)
        require_positive("shard_rows", self.shard_rows)
        require_digest("model_sha256", self.model_sha256)
        if self.dtype not in STORE_TYPES:
            raise CrosscoderError(f"dtype = {self.dtype!r} is not one of {', '.join(STORE_TYPES)}")
        if self.shuffle_seed is not None and type(self.shuffle_seed) is not int:
            raise CrosscoderError(
                f"shuffle_seed = {self.shuffle_seed!r} must be an integer or None"
            )


@final
class ActivationWriter:
    """Writes a store; a context manager that finishes it unless an exception leaves the block.

    A directory with an unfinished store of the same settings is continued: `rows` is the number
    that are safely stored, and the caller goes on from there. A finished one is refused, and so is
    one of other settings. Rows that do not fill a shard are written by `finish` alone, so after
    Ctrl-C they must be given again.
    """

    def __init__(self, path: str | os.PathLike[str], settings: StoreSettings) -> None:
        """Make the directory, or continue in it; raises CrosscoderError with its name and why."""
        self.path: Final = Path(path)
        self.settings: Final = settings
        self._waiting: list[Float[np.ndarray, "n L d"]] = []
        self._shards = 0
        self._finished = False
        if not (self.path / INDEX_FILE).exists():
            _require_free(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            self._write_index(0, complete=False)
            return
        index = _read_index(self.path)
        if index.settings != settings:
            raise CrosscoderError(
                f"{path} holds a store of other settings "
                f"({_difference(index.settings, settings)}); choose another path"
            )
        if index.complete:
            raise CrosscoderError(f"{path} holds a finished store; read it, or choose another path")
        self._shards = _whole_shards(self.path, index)
        for left_over in self.path.glob(".*.part"):
            left_over.unlink()

    @property
    def rows(self) -> int:
        """Rows that are safely stored, those of an earlier run included."""
        return self._shards * self.settings.shard_rows

    def write(self, acts: Shaped[np.ndarray, "..."]) -> None:
        """Append rows `acts` [n, L, d], in raw units.

        Raises CrosscoderError, naming the row, for NaN or what the store's dtype cannot hold.
        """
        if self._finished:
            raise CrosscoderError(f"{self.path}: the store is finished; nothing can be added")
        acts = np.asarray(acts)
        shape = (len(self.settings.sites), self.settings.d)
        if acts.ndim != 3 or acts.shape[1:] != shape or acts.dtype.kind != "f":
            raise CrosscoderError(
                f"activations are {acts.dtype} {acts.shape}, "
                f"not floats [n, L={shape[0]}, d={shape[1]}]"
            )
        with np.errstate(over="ignore"):
            kept = np.array(acts, self.settings.dtype)
        _require_finite(kept, self.settings, self.rows + sum(map(len, self._waiting)))
        self._waiting.append(kept)
        if sum(map(len, self._waiting)) >= self.settings.shard_rows:
            self._write_full_shards()

    def finish(self) -> None:
        """Write the rows that remain and mark the store as finished."""
        if self._finished:
            return
        rest = self._joined()
        if len(rest):
            self._write_shard(rest)
        self._write_index(self.rows + len(rest), complete=True)
        self._waiting, self._finished = [], True

    def __enter__(self) -> "ActivationWriter":
        """The writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finish after success; after an exception leave whole shards, to be continued."""
        if kind is None:
            self.finish()

    def _joined(self) -> Float[np.ndarray, "n L d"]:
        shape = (0, len(self.settings.sites), self.settings.d)
        return np.concatenate([np.empty(shape, self.settings.dtype), *self._waiting])

    def _write_full_shards(self) -> None:
        rows, size = self._joined(), self.settings.shard_rows
        while len(rows) >= size:
            self._write_shard(rows[:size])
            rows = rows[size:]
            self._waiting, self._shards = [rows], self._shards + 1
            self._write_index(self.rows, complete=False)

    def _write_shard(self, rows: Float[np.ndarray, "n L d"]) -> None:
        _replace(_shard_file(self.path, self._shards), tensor_bytes({_TENSOR: rows}))

    def _write_index(self, total: int, *, complete: bool) -> None:
        stated: dict[str, Any] = {"format_version": FORMAT_VERSION, **asdict(self.settings)}
        stated |= {"total": total, "complete": complete}
        _replace(self.path / INDEX_FILE, json_bytes(stated))


@final
class ActivationStore:
    """A finished store, read by memory map: only the rows that are asked for are read."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sites: Sequence[Site] | None = None,
        model_sha256: str | None = None,
    ) -> None:
        """Open a store, and refuse one of other `sites` or of another model, where those are given.

        Raises CrosscoderError, naming the directory, for one that is missing, malformed, unfinished
        or without one of its shards.
        """
        self.path: Final = Path(path)
        index = _read_index(self.path)
        self.settings: Final = index.settings
        self._total: Final = index.total
        self._maps: dict[int, Float[np.ndarray, "n L d"]] = {}
        if not index.complete:
            raise CrosscoderError(
                f"{path} is unfinished ({index.total} rows so far); "
                "continue it with ActivationWriter"
            )
        if sites is not None and tuple(sites) != self.settings.sites:
            raise CrosscoderError(
                f"{path} holds the sites {', '.join(s.name for s in self.settings.sites)}, "
                f"not {', '.join(s.name for s in sites)}"
            )
        if model_sha256 is not None and model_sha256 != self.settings.model_sha256:
            raise CrosscoderError(
                f"{path} holds activations of the model {self.settings.model_sha256 or 'unknown'}, "
                f"not {model_sha256 or 'unknown'}"
            )
        for shard in range(-(-self._total // self.settings.shard_rows)):
            self._map(shard)

    def __len__(self) -> int:
        """Rows."""
        return self._total

    def read(
        self, indices: Integer[np.ndarray, " n"] | Sequence[int]
    ) -> Float32[np.ndarray, "n L d"]:
        """The rows of these indices, in their order, in raw units.

        Raises CrosscoderError for an index outside, and naming the row for NaN.
        """
        wanted = np.asarray(indices, np.int64)
        outside = (wanted < 0) | (wanted >= self._total)
        if outside.any():
            raise CrosscoderError(
                f"{self.path}: row {wanted[outside][0]} is not one of its {self._total}"
            )
        result = np.empty((len(wanted), len(self.settings.sites), self.settings.d), np.float32)
        shards, rows = np.divmod(wanted, self.settings.shard_rows)
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            # In the order of the file, which is how a disk likes to be read.
            here = here[np.argsort(rows[here], kind="stable")]
            result[here] = self._map(int(shard))[rows[here]]
        if not np.isfinite(result).all():
            bad = int(np.argmin(np.isfinite(result).all(axis=(1, 2))))
            raise CrosscoderError(f"{self.path}: row {wanted[bad]} holds NaN or infinity")
        return result

    def batches(self, size: int, seed: int | None = None) -> Iterator[Float32[np.ndarray, "n L d"]]:
        """All rows once, `size` at a time (the last batch may be smaller).

        seed: of a permutation of all rows, which costs 8 bytes of memory a row; None: their order.
        """
        require_positive("size", size)
        order = None if seed is None else np.random.default_rng(seed).permutation(self._total)
        for begin in range(0, self._total, size):
            end = min(begin + size, self._total)
            yield self.read(np.arange(begin, end) if order is None else order[begin:end])

    def _map(self, shard: int) -> Float[np.ndarray, "n L d"]:
        if shard not in self._maps:
            if len(self._maps) >= _MOST_OPEN:
                self._maps.pop(next(iter(self._maps)))
            rows = min(self.settings.shard_rows, self._total - shard * self.settings.shard_rows)
            self._maps[shard] = _open_shard(self.path, shard, self.settings, rows)
        return self._maps[shard]


@dataclass(frozen=True)
class _Index:
    settings: StoreSettings
    total: int
    complete: bool


def _read_index(path: Path) -> _Index:
    stated = read_object(path / INDEX_FILE)
    with located(path / INDEX_FILE):
        require_version(stated, FORMAT_VERSION)
        names = [field for field in StoreSettings.__dataclass_fields__]
        require_fields(stated, ("format_version", "total", "complete", *names))
        settings: dict[str, Any] = {name: stated[name] for name in names}
        settings["sites"] = sites_from("sites", settings["sites"])
        total, complete = stated["total"], stated["complete"]
        if type(total) is not int or total < 0 or type(complete) is not bool:
            raise CrosscoderError(f"total = {total!r} or complete = {complete!r} is out of range")
        return _Index(StoreSettings(**settings), total, complete)


def _require_free(path: Path) -> None:
    if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
        raise CrosscoderError(f"{path} exists and is no activation store; choose another path")


def _whole_shards(path: Path, index: _Index) -> int:
    """How many shards from the first on are whole; a power cut can leave one that is not."""
    for shard in range(index.total // index.settings.shard_rows):
        try:
            _open_shard(path, shard, index.settings, index.settings.shard_rows)
        except CrosscoderError:
            return shard
    return index.total // index.settings.shard_rows


def _open_shard(
    path: Path, shard: int, settings: StoreSettings, rows: int
) -> Float[np.ndarray, "n L d"]:
    file = _shard_file(path, shard)
    arrays = open_tensors(file).arrays
    shape = (rows, len(settings.sites), settings.d)
    found = arrays.get(_TENSOR)
    if len(arrays) != 1 or found is None or (found.dtype, found.shape) != (settings.dtype, shape):
        raise CrosscoderError(f"{file}: does not hold {_TENSOR} of {settings.dtype} {shape} alone")
    return found


def _shard_file(path: Path, shard: int) -> Path:
    return path / f"shard_{shard:05d}.safetensors"


def _replace(file: Path, content: bytes) -> None:
    temporary = file.with_name(f".{file.name}.part")
    try:
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            # Before the rename, or a power cut could leave the name without the data.
            os.fsync(handle.fileno())
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _require_finite(kept: Float[np.ndarray, "n L d"], settings: StoreSettings, before: int) -> None:
    if np.isfinite(kept).all():
        return
    row, site, _ = np.argwhere(~np.isfinite(kept))[0]
    raise CrosscoderError(
        f"activations of row {before + row} at {settings.sites[site].name} hold NaN, infinity or a "
        f"number beyond {settings.dtype}"
    )


def _difference(one: StoreSettings, other: StoreSettings) -> str:
    name = next(n for n, value in vars(one).items() if value != getattr(other, n))
    return f"{name}: {getattr(one, name)!r}, not {getattr(other, name)!r}"
