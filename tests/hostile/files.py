"""Certificate files put together byte by byte: any header, any tensors, and the digest they need.

``tests/certificates.py`` writes good files with the safetensors library; this writes what that
library would refuse to, by the documentation of the format alone.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from certificates import canonical

KINDS = {
    "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64",
    "float16": "F16", "float32": "F32", "float64": "F64", "bool": "BOOL",
}  # fmt: skip


class Entry(NamedTuple):
    """A tensor as a header may declare it, true or not."""

    kind: Any
    shape: Any
    data: bytes


Entries = Mapping[str, Entry]


def entry(array: np.ndarray) -> Entry:
    """An array as it should lie in a file."""
    plain = np.ascontiguousarray(array)
    return Entry(KINDS[plain.dtype.name], list(np.shape(array)), plain.tobytes())


def entries(tensors: Mapping[str, np.ndarray]) -> dict[str, Entry]:
    return {name: entry(array) for name, array in tensors.items()}


def digest(fields: Mapping[str, Any], tensors: Entries) -> str:
    """The digest as documented, of whatever is there."""
    rest = {name: value for name, value in fields.items() if name != "digest"}
    text = "compactproofs certificate 1\n" + canonical(rest)
    found = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        kind, shape, data = tensors[name]
        found.update(f"\n{name} {kind} {shape}\n".encode("utf-8", "surrogatepass"))
        found.update(data)
    return found.hexdigest()


def with_header(header: str | bytes, body: bytes = b"", *, align: bool = True) -> bytes:
    """Length, header, padding, body."""
    text = header.encode("utf-8", "surrogatepass") if isinstance(header, str) else header
    if align:
        text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def laid_out(
    tensors: Iterable[tuple[str, Entry]], *, ascii_only: bool = True
) -> tuple[list[str], bytes]:
    """The header's items, one text each, and the body; names may repeat."""
    items: list[str] = []
    body = b""
    for name, (kind, shape, data) in tensors:
        fields = {
            "dtype": kind,
            "shape": shape,
            "data_offsets": [len(body), len(body) + len(data)],
        }
        key = json.dumps(name, ensure_ascii=ascii_only)
        items.append(f"{key}:{json.dumps(fields, separators=(',', ':'))}")
        body += data
    return items, body


def signed(
    fields: Mapping[str, Any],
    tensors: Entries,
    *,
    order: Iterable[str] | None = None,
    ascii_only: bool = True,
) -> bytes:
    """A compact file with these contents, in this order, and the digest that belongs to them."""
    named = {"digest": digest(fields, tensors)} | {k: v for k, v in fields.items() if k != "digest"}
    return with_claim_text(canonical(named), tensors, order=order, ascii_only=ascii_only)


def with_claim_text(
    text: str,
    tensors: Entries,
    *,
    order: Iterable[str] | None = None,
    ascii_only: bool = True,
) -> bytes:
    """A file whose claim is this text, letter by letter."""
    names = sorted(tensors) if order is None else list(order)
    items, body = laid_out(((name, tensors[name]) for name in names), ascii_only=ascii_only)
    metadata = f'"__metadata__":{{"claim":{json.dumps(text)}}}'
    return with_header("{" + ",".join([metadata, *items]) + "}", body)


def signed_text(edit: Any, fields: Mapping[str, Any], tensors: Entries) -> bytes:
    """As ``signed``, but ``edit`` may spoil the canonical text of the claim."""
    named = dict(fields) | {"digest": digest(fields, tensors)}
    return with_claim_text(edit(canonical(named)), tensors)


def resigned(data: bytes, at: int) -> bytes:
    """``data`` with a right digest written over the 64 bytes at ``at``, if it can still be read.

    Everything else stays byte for byte as it is.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        fields = json.loads(header.pop("__metadata__")["claim"])
        body = data[8 + length :]
        tensors = {
            name: Entry(t["dtype"], t["shape"], body[slice(*t["data_offsets"])])
            for name, t in header.items()
        }
        found = digest(fields, tensors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return data
    return data[:at] + found.encode() + data[at + 64 :]


def header_of(data: bytes) -> tuple[bytes, bytes]:
    """The header without its padding, and the body."""
    length = int.from_bytes(data[:8], "little")
    return data[8 : 8 + length].rstrip(b" "), data[8 + length :]
