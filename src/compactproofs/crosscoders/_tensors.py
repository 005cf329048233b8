"""Reading ``.safetensors`` files by memory map, and writing them.

As in the kernel's reader, nothing is duplicated or hidden: the header is scanned strictly and the
tensors must tile the rest of the file. Unlike it, data are not read before they are used.
"""

import mmap
import os
import stat
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Shaped
from safetensors.numpy import save

from ..kernel._safetensors import DamagedError, read_json
from ._errors import CrosscoderError

_MAX_HEADER: Final = 10_000_000
_TYPES: Final = {
    "BOOL": "u1",
    "I8": "i1",
    "U8": "u1",
    "I16": "<i2",
    "U16": "<u2",
    "BF16": "<u2",
    "F16": "<f2",
    "I32": "<i4",
    "U32": "<u4",
    "F32": "<f4",
    "I64": "<i8",
    "U64": "<u8",
    "F64": "<f8",
}


class StoredTensors(NamedTuple):
    """The tensors of a file by name, read-only and mapped from it, and its metadata."""

    arrays: dict[str, Shaped[np.ndarray, "..."]]
    metadata: dict[str, str]


def open_tensors(path: Path) -> StoredTensors:
    """Map a ``.safetensors`` file; bfloat16 and bool are copied, the first as float32.

    Raises CrosscoderError, naming the file, for one that is missing, cut short or malformed.
    """
    try:
        return _mapped(path)
    except DamagedError as damage:
        raise CrosscoderError(f"{path}: {damage}; it is damaged or no safetensors file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CrosscoderError(f"{path}: cannot be read ({reason})") from None


def tensor_bytes(
    tensors: Mapping[str, Shaped[np.ndarray, "..."]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a ``.safetensors`` file; equal tensors give equal bytes."""
    # The library writes the buffer as it lies, whatever the strides say.
    whole = {name: np.array(array, order="C") for name, array in tensors.items()}
    return save(whole, None if metadata is None else dict(metadata))


def _mapped(path: Path) -> StoredTensors:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("not a regular file")
        if found.st_size < 8:
            raise DamagedError(f"{found.st_size} bytes are too few")
        data = np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), np.uint8)
    finally:
        os.close(descriptor)
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > min(len(data) - 8, _MAX_HEADER):
        raise DamagedError(f"a header of {length} bytes does not fit")
    header = read_json(data[8 : 8 + length].tobytes())
    if not isinstance(header, dict):
        raise DamagedError("the header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    texts = [*metadata, *metadata.values()] if isinstance(metadata, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise DamagedError("the metadata is not an object of texts")
    body = data[8 + length :]
    _require_tiles(header, len(body))
    return StoredTensors({name: _array(body, entry) for name, entry in header.items()}, metadata)


def _require_tiles(header: dict[str, Any], size: int) -> None:
    """Refuse tensors that overlap, leave a gap, or do not have the size of their shape."""
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise DamagedError(f"the header entry {name!r} is not a tensor's")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _TYPES:
            raise DamagedError(f"the type {entry['dtype']!r} of {name!r} is not supported")
        if not _are_sizes(entry["shape"]) or not _are_sizes(entry["data_offsets"]):
            raise DamagedError(f"the shape or the place of {name!r} is out of range")
        if len(entry["data_offsets"]) != 2:
            raise DamagedError(f"{name!r} needs two offsets")
    reached = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        length = np.dtype(_TYPES[entry["dtype"]]).itemsize * prod(entry["shape"])
        if begin != reached or end - begin != length:
            raise DamagedError(f"the data of {name!r} are not where or as long as they should be")
        reached = end
    if reached != size:
        raise DamagedError(f"{size} bytes of data are not the {reached} of the tensors")


def _are_sizes(values: object) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= 8
        and all(type(value) is int and 0 <= value < 1 << 48 for value in values)
    )


def _array(body: Shaped[np.ndarray, " bytes"], entry: dict[str, Any]) -> Shaped[np.ndarray, "..."]:
    begin, end = entry["data_offsets"]
    array = body[begin:end].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
    if entry["dtype"] == "BF16":
        # A bfloat16 number is the upper half of a float32.
        return (array.astype("<u4") << 16).view("<f4")
    if entry["dtype"] == "BOOL":
        if array.size and array.max() > 1:
            raise DamagedError("a truth value is neither 0 nor 1")
        return array.astype(np.bool_)
    return array
