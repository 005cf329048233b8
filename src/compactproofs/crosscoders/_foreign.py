"""Reading the files of other tools: tensors of torch, settings in JSON or YAML."""

import importlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Shaped

from ..kernel import read_regular_file
from ..kernel._safetensors import DamagedError, read_json
from ..models import TorchTensor
from ..models._directory import _to_numpy
from ._errors import CrosscoderError
from ._tensors import open_tensors

Tensors = dict[str, Shaped[np.ndarray, "..."]]

_MAX_SETTINGS: Final = 1 << 24  # bytes
# What is read without PyYAML: lines on which all versions of YAML agree.
_LINE: Final = re.compile(
    r'(?P<name>[A-Za-z_]\w*): +(?:"(?P<quoted>[^"\\]*)"|(?P<plain>[^\s"]+)) *'
)
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]*)")
_REAL: Final = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_WORD: Final = re.compile(r"[A-Za-z][\w./-]*")
_SPECIAL: Final = frozenset("true false yes no on off y n null".split())


def read_foreign_tensors(file: Path) -> Tensors:
    """The tensors of a ``.safetensors`` or ``.pt`` file, float16 and bfloat16 as float32.

    A ``.pt`` file is read by torch with ``weights_only=True``, so nothing in it is executed.
    Raises ImportError when torch is needed and missing, CrosscoderError for anything but tensors.
    """
    stored = open_tensors(file).arrays if file.suffix == ".safetensors" else _torch_file(file)
    return {name: _widened(array) for name, array in stored.items()}


def _widened(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    return np.array(array, np.float32) if array.dtype == np.float16 else array


def _torch_file(file: Path) -> Tensors:
    try:
        torch = importlib.import_module("torch")
    except ImportError as missing:
        raise ImportError(
            f"reading {file} needs torch, which is not installed: "
            "pip install 'compactproofs[train]'"
        ) from missing
    if not os.path.isfile(file):
        raise CrosscoderError(f"{file}: is missing or not a regular file")
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for bytes that it does not know
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CrosscoderError(f"{file}: torch refuses it as a file of weights ({reason})") from None
    if not isinstance(stored, Mapping):
        raise CrosscoderError(f"{file}: holds {type(stored).__name__}, not tensors by name")
    tensors: Tensors = {}
    for name, tensor in stored.items():
        if not isinstance(name, str) or not isinstance(tensor, TorchTensor):
            raise CrosscoderError(f"{file}: {name!r} is {type(tensor).__name__}, not a tensor")
        tensors[name] = np.asarray(_to_numpy(tensor))
    return tensors


def take(
    tensors: Tensors, shapes: Mapping[str, str], optional: Collection[str] = ()
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The tensors named in `shapes`, whose axes are letters: one letter, one size.

    Raises CrosscoderError for one that is missing (unless `optional`), unknown, or whose shape
    contradicts the others'.
    """
    for name in tensors:
        if name not in shapes:
            raise CrosscoderError(f"tensor {name!r} is unknown and could change the function")
    sizes: dict[str, int] = {}
    for name, axes in shapes.items():
        if name not in tensors:
            if name in optional:
                continue
            raise CrosscoderError(f"tensor {name!r} is missing")
        shape = tensors[name].shape
        letters = axes.split()
        if len(shape) != len(letters) or any(
            sizes.setdefault(letter, size) != size
            for letter, size in zip(letters, shape, strict=True)
        ):
            raise CrosscoderError(
                f"tensor {name!r} has shape {shape}, not [{', '.join(letters)}] with {sizes}"
            )
    return dict(tensors)


def read_settings(file: Path) -> dict[str, Any]:
    """The mapping in a JSON or YAML file; raises CrosscoderError, naming the file.

    Flat YAML (``name: value`` on every line) is read here; any other needs PyYAML, and raises
    ImportError, naming the way out, without it. Tags are not obeyed, except the one of tuples.
    """
    try:
        text = read_regular_file(file, _MAX_SETTINGS).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CrosscoderError(f"{file}: cannot be read as text ({error})") from None
    try:
        settings = read_json(text)
    except DamagedError as damage:
        if file.suffix == ".json":
            raise CrosscoderError(f"{file}: {damage}") from None
        settings = _flat(text)
        if settings is None:
            settings = _nested(file, text)
    if not isinstance(settings, dict):
        raise CrosscoderError(f"{file}: is not a mapping of settings")
    return settings


def flat_yaml(settings: Mapping[str, str]) -> bytes:
    """The text of a flat YAML file; the values are quoted as JSON strings, which YAML reads."""
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items()).encode()


def _flat(text: str) -> dict[str, Any] | None:
    """The settings of flat YAML, or None where a line is anything else."""
    settings: dict[str, Any] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#") or line == "---":
            continue
        found = _LINE.fullmatch(line)
        if found is None or found["name"] in settings:
            return None
        plain = found["plain"]
        if plain is None:
            settings[found["name"]] = found["quoted"]
        elif plain in ("true", "false"):
            settings[found["name"]] = plain == "true"
        elif _INTEGER.fullmatch(plain):
            settings[found["name"]] = int(plain)
        elif _REAL.fullmatch(plain):
            settings[found["name"]] = float(plain)
        elif _WORD.fullmatch(plain) and plain.lower() not in _SPECIAL:
            settings[found["name"]] = plain
        else:
            return None
    return settings


def _nested(file: Path, text: str) -> object:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as missing:
        raise ImportError(
            f"reading {file} needs PyYAML, which is not installed: pip install pyyaml "
            "(or write the same settings as JSON into that file)"
        ) from missing

    class Loader(yaml.SafeLoader):
        """Safe, and takes the tuples that other tools write for lists."""

    Loader.add_constructor(
        "tag:yaml.org,2002:python/tuple", lambda loader, node: loader.construct_sequence(node)
    )
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise CrosscoderError(f"{file}: not valid YAML ({error})") from None
