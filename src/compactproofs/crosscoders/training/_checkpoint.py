"""A run on disk: ``checkpoint.json`` and ``checkpoint.safetensors``, replaced as one.

Nothing is pickled. Numbers are stored as they are, so a run that goes on from here ends as one
that was never stopped.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from .._directory import check_destination, write_directory
from .._errors import CrosscoderError
from .._json import json_bytes, read_object, require_fields, require_version
from .._tensors import open_tensors, tensor_bytes
from ._settings import CrosscoderSettings
from ._sources import ActivationSource

STATE_FILE: Final = "checkpoint.json"
TENSORS_FILE: Final = "checkpoint.safetensors"
METRICS_FILE: Final = "metrics.json"
FORMAT_VERSION: Final = 1

_FREE = ("device", "checkpoint_every")
"""Settings that may differ when a run goes on."""


class Checkpoint(NamedTuple):
    """Steps done, and every tensor of the run by name."""

    step: int
    tensors: dict[str, torch.Tensor]


def require_destination(path: str | os.PathLike[str], *, resume: bool) -> bool:
    """Whether there is a checkpoint to go on from; raises where a run may not write to `path`.

    Raises CrosscoderError for a checkpoint that is there although `resume` is false, and what
    `compactproofs.models.save_model` raises for anything else that is in the way.
    """
    there = (Path(path) / STATE_FILE).exists()
    if there and not resume:
        raise CrosscoderError(
            f"{path} holds a checkpoint; pass --resume (resume=True) to go on from it, or choose "
            "another path"
        )
    names = (STATE_FILE, TENSORS_FILE, METRICS_FILE)
    check_destination(path, "a checkpoint", names, STATE_FILE, force=True)
    return there


def save_checkpoint(
    path: str | os.PathLike[str],
    checkpoint: Checkpoint,
    settings: CrosscoderSettings,
    source: ActivationSource,
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Replace the checkpoint at `path`; after an error or Ctrl-C the one before is still there."""
    stated = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "settings": settings.stated(),
        "source": source.stated(),
    }
    arrays = {name: one.detach().cpu().numpy() for name, one in checkpoint.tensors.items()}
    files = {STATE_FILE: json_bytes(stated), TENSORS_FILE: tensor_bytes(arrays)}
    if metrics is not None:
        files[METRICS_FILE] = json_bytes(metrics)
    write_directory(path, files)


def load_checkpoint(
    path: str | os.PathLike[str], settings: CrosscoderSettings, source: ActivationSource
) -> Checkpoint:
    """Read a checkpoint of the same settings and source, but for the device.

    Raises CrosscoderError, naming the field, for one of others, and for a damaged file.
    """
    file = Path(path) / STATE_FILE
    stated = read_object(file)
    require_version(stated, FORMAT_VERSION)
    require_fields(stated, ("format_version", "step", "settings", "source"))
    for what, ours in (("settings", settings.stated()), ("source", source.stated())):
        theirs = stated[what]
        if not isinstance(theirs, dict):
            raise CrosscoderError(f"{file}: {what} is not an object")
        for name in sorted({*ours, *theirs} - set(_FREE)):
            if ours.get(name) != theirs.get(name):
                raise CrosscoderError(
                    f"{path} is a checkpoint of another run: its {name} is {theirs.get(name)!r}, "
                    f"here it is {ours.get(name)!r}; choose another path"
                )
    step = stated["step"]
    if type(step) is not int or not 0 <= step <= settings.steps:
        raise CrosscoderError(f"{file}: step = {step!r} is not from 0 to {settings.steps}")
    arrays = open_tensors(Path(path) / TENSORS_FILE).arrays
    return Checkpoint(step, {name: torch.tensor(array) for name, array in arrays.items()})


def discard_checkpoint(path: str | os.PathLike[str]) -> None:
    """Delete a checkpoint, if there is one; raises as `require_destination` for anything else."""
    if require_destination(path, resume=True):
        shutil.rmtree(path)


def stored_metrics(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metrics beside the checkpoint of a finished run; raises CrosscoderError without them."""
    return read_object(Path(path) / METRICS_FILE)
