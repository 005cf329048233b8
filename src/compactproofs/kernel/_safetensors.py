"""Reading ``.safetensors`` bytes exactly: nothing duplicated, nothing hidden, nothing rounded.

The safetensors library checks the layout (offsets, sizes, no gaps), but silently keeps the last of
duplicate keys and has no numpy type for bfloat16: the raw header is scanned here, and every float
format is decoded to the float64 number of the same value.
"""

import json
from typing import Any, NamedTuple

import numpy as np
import safetensors
from jaxtyping import Float64, Integer

from ._errors import one_line

_MAX_HEADER = 10_000_000


class RawTensor(NamedTuple):
    """A tensor as stored: format name (``F32``, ...), shape, little-endian bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class DamagedError(Exception):
    """The bytes are not one well-formed file; the message says what is wrong, without a name."""

    def __init__(self, message: str) -> None:
        """Keep the message as one printable line."""
        super().__init__(one_line(message))


def read_json(text: str | bytes) -> Any:
    """Parse JSON strictly: UTF-8, no duplicate keys, no NaN, infinity or bottomless nesting."""
    try:
        if isinstance(text, bytes):  # json would guess among encodings
            text = text.decode("utf-8")
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except RecursionError:
        raise DamagedError("JSON nested too deeply") from None
    except ValueError as error:  # includes UnicodeDecodeError and JSONDecodeError
        raise DamagedError(f"not valid JSON ({error})") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise DamagedError(f"the key {name!r} occurs twice")
        result[name] = value
    return result


def _no_constant(name: str) -> Any:
    raise DamagedError(f"{name} is not a JSON number")


def read_tensors(data: bytes) -> tuple[dict[str, RawTensor], dict[str, str]]:
    """The tensors of a ``.safetensors`` file and its metadata; raises ``DamagedError``."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, _MAX_HEADER):
        raise DamagedError(f"{len(data)} bytes are too few, or the header is too long")
    header = read_json(data[8 : 8 + length])
    if not isinstance(header, dict):
        raise DamagedError("the header is not a JSON object")
    try:
        stored = safetensors.deserialize(data)
    except (safetensors.SafetensorError, ValueError, OverflowError) as error:
        raise DamagedError(f"not a safetensors file ({error})") from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise DamagedError("the metadata is not a JSON object")
    for name, fields in header.items():
        if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
            raise DamagedError(f"the header entry {name!r} is not a tensor's")
        # numpy refuses what the format allows: many axes, or an empty one beside a huge one.
        if len(fields["shape"]) > 8 or any(size >= 1 << 31 for size in fields["shape"]):
            raise DamagedError(f"the shape of {name!r} is out of range")
    tensors = {
        name: RawTensor(entry["dtype"], tuple(entry["shape"]), bytes(entry["data"]))
        for name, entry in stored
    }
    if set(tensors) != set(header):
        raise DamagedError("the header and the tensors do not match")
    return tensors, metadata


def require_compact_header(data: bytes) -> None:
    """Refuse a header with any byte that says nothing, except the padding of the format."""
    header = data[8 : 8 + int.from_bytes(data[:8], "little")].decode("ascii", "replace")
    compact = json.dumps(read_json(header), separators=(",", ":"))
    if header.rstrip(" ") != compact or len(header) - len(compact) > 7:
        raise DamagedError("the header holds stray bytes")


def decode_floats(raw: RawTensor) -> Float64[np.ndarray, "..."]:
    """The exact values as float64: every float16, bfloat16 and float32 number is one."""
    if raw.dtype == "BF16":
        # A bfloat16 number is the upper half of a float32.
        bits = np.frombuffer(raw.data, "<u2").astype("<u4") << 16
        values = bits.view("<f4")
    elif raw.dtype in ("F16", "F32", "F64"):
        values = np.frombuffer(raw.data, {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[raw.dtype])
    else:
        raise DamagedError(f"type {raw.dtype} is not one of F16, BF16, F32, F64")
    if not np.isfinite(values).all():
        raise DamagedError("it holds NaN or infinity")
    return values.astype(np.float64).reshape(raw.shape)


_INTEGERS = {"I32": "<i4", "I64": "<i8", "U8": "u1"}


def decode_integers(raw: RawTensor, dtype: str) -> Integer[np.ndarray, "..."]:
    """The integers of a tensor stored as exactly ``dtype`` (``I32``, ``I64`` or ``U8``)."""
    if raw.dtype != dtype:
        raise DamagedError(f"type {raw.dtype} is not {dtype}")
    return np.frombuffer(raw.data, _INTEGERS[dtype]).reshape(raw.shape)
