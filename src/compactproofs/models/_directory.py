"""Writing a model directory: ``config.json`` and ``model.safetensors``, whole or not at all."""

import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from numpy.typing import ArrayLike
from safetensors.numpy import save

CONFIG_FILE = "config.json"
TENSORS_FILE = "model.safetensors"

# What the format can store, byte for byte, from numpy.
_STORED = frozenset(
    np.dtype(code)
    for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
)


@runtime_checkable
class TorchTensor(Protocol):
    """The part of a torch tensor that is used here, so that torch need not be imported."""

    @property
    def dtype(self) -> object:
        """Its element type, such as ``torch.bfloat16``."""
        ...

    def detach(self) -> "TorchTensor":
        """The same numbers, outside the graph of gradients."""
        ...

    def cpu(self) -> "TorchTensor":
        """The same numbers in host memory."""
        ...

    def float(self) -> "TorchTensor":
        """The numbers in float32."""
        ...

    def numpy(self) -> Shaped[np.ndarray, "..."]:
        """The numbers as an array, where numpy has the element type."""
        ...


def save_model(
    path: str | os.PathLike[str],
    config: Mapping[str, object],
    tensors: Mapping[str, ArrayLike | TorchTensor],
    *,
    force: bool = False,
) -> Path:
    """Write a model directory and return its path.

    config: fields under TransformerLens names, such as ``vars(model.cfg)``; torch dtypes and
    devices are stored as text ("float32", "cuda:0").
    tensors: arrays of any shape, or torch tensors, under TransformerLens names, such as
    ``model.state_dict()``; shapes, values and dtypes are kept, except that bfloat16 and 8-bit
    floats, which numpy lacks, are widened to float32, which holds the same values.

    Everything is written to a temporary directory beside `path` which is then renamed, so an
    error or Ctrl-C leaves nothing behind (only a power cut between two renames could leave a
    replaced directory under its temporary name). Equal inputs give equal bytes.

    Raises what `check_destination` raises, and ValueError naming a field that is not JSON or a
    tensor that is not an array of numbers.
    Cost: three copies of the tensors in memory.
    """
    check_destination(path, force=force)
    text = _config_text(config)
    arrays = {name: _stored(name, tensor) for name, tensor in tensors.items()}
    if not arrays:
        raise ValueError("save_model: tensors is empty; give at least one array")
    target = Path(os.path.abspath(path))
    with replacing(target) as fresh:
        (fresh / CONFIG_FILE).write_text(text, encoding="utf-8")
        # Not save_file: it makes a file that only its owner can read.
        (fresh / TENSORS_FILE).write_bytes(save(arrays))
    return Path(path)


def check_destination(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raise unless `save_model` may write to `path`; call it before a long run.

    Raises FileExistsError when something is there and `force` was not given, or when `force`
    would delete anything but an empty directory or one that holds a model and nothing else;
    NotADirectoryError when a parent is a file.
    """
    check_directory(
        path, "a model directory", (CONFIG_FILE, TENSORS_FILE), CONFIG_FILE, force=force
    )


def check_directory(
    path: str | os.PathLike[str], kind: str, names: Collection[str], marker: str, *, force: bool
) -> None:
    """`check_destination` for any kind of directory that is written whole.

    kind: what is written, for messages; names: the files that such a directory may hold;
    marker: the one that it must hold to be taken for one.
    """
    target = Path(os.path.abspath(path))
    for parent in target.parents:
        if os.path.lexists(parent):
            if not parent.is_dir():
                raise NotADirectoryError(f"cannot write {path}: {parent} is not a directory")
            break
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise FileExistsError(f"{path} exists and is not a directory; choose another path")
    held = {entry.name for entry in target.iterdir()}
    foreign = sorted(held - set(names))
    if foreign or (held and marker not in held):
        named = f"it holds {foreign[0]!r}" if foreign else f"it has no {marker}"
        raise FileExistsError(
            f"{path} exists and is more than {kind} ({named}), so it is never overwritten; "
            "choose another path"
        )
    if not force:
        raise FileExistsError(f"{path} exists; pass --force (force=True) to replace it")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a fresh directory beside `target` that takes its place if the block succeeds."""
    created = _create_parents(target)
    token = secrets.token_hex(8)
    fresh = target.with_name(f".{target.name}.{token}.new")
    old = target.with_name(f".{target.name}.{token}.old")
    try:
        fresh.mkdir()
        yield fresh
        if target.exists():
            os.rename(target, old)
        os.rename(fresh, target)
    except BaseException:
        if old.exists() and not target.exists():
            os.rename(old, target)
        shutil.rmtree(fresh, ignore_errors=True)
        for parent in created:
            if not any(parent.iterdir()):
                parent.rmdir()
        raise
    finally:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def _create_parents(target: Path) -> list[Path]:
    # Remembered, innermost first, so that a failure can take them away again.
    missing = [parent for parent in target.parents if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(exist_ok=True)
    return missing


def _config_text(config: Mapping[str, object]) -> str:
    fields: dict[str, object] = {}
    for name, value in config.items():
        try:
            fields[name] = json.loads(json.dumps(value, allow_nan=False, default=_plain))
        except (TypeError, ValueError, RecursionError):
            raise ValueError(
                f"config field {name!r} is {_shortened(value)}, which JSON cannot hold; "
                "convert or drop it"
            ) from None
    return json.dumps(fields, indent=2) + "\n"


def _plain(value: object) -> object:
    """What JSON stores for the few foreign types that a TransformerLens config holds."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value).__module__ == "torch" and type(value).__name__ in ("dtype", "device"):
        return str(value).removeprefix("torch.")
    raise TypeError(type(value).__name__)


def _stored(name: str, tensor: object) -> Shaped[np.ndarray, "..."]:
    if name == "__metadata__":
        raise ValueError("tensor name '__metadata__' is reserved by safetensors; rename it")
    try:
        array = np.asarray(_to_numpy(tensor) if isinstance(tensor, TorchTensor) else tensor)
    except (AttributeError, TypeError, ValueError, RuntimeError) as failed:
        reason = str(failed).splitlines()[0] if str(failed) else type(failed).__name__
        raise ValueError(f"tensor {name!r} does not become a numpy array: {reason}") from None
    native = array.dtype.newbyteorder("=")
    if native not in _STORED:
        raise ValueError(
            f"tensor {name!r} has dtype {array.dtype}, which a model file cannot hold; "
            "convert it to float32 or float64"
        )
    # Always a copy: safetensors writes the buffer as it lies, whatever the strides say.
    return np.array(array, dtype=native, order="C", copy=True)


def _to_numpy(tensor: TorchTensor) -> Shaped[np.ndarray, "..."]:
    on_host = tensor.detach().cpu()
    if str(on_host.dtype).startswith(("torch.bfloat16", "torch.float8")):
        on_host = on_host.float()
    return on_host.numpy()


def _shortened(value: object) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."
