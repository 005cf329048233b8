"""Certificates taken apart and put together again, by the documentation of the format alone."""

import hashlib
import json
from typing import Any

import numpy as np
from safetensors.numpy import load, save

KINDS = {"int32": "I32", "int64": "I64", "float64": "F64", "uint8": "U8"}


def claim_of(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["claim"])


def canonical(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def sign(fields: dict[str, Any], tensors: dict[str, np.ndarray]) -> bytes:
    """The file with these contents and the digest that belongs to them, as documented."""
    fields = {name: value for name, value in fields.items() if name != "digest"}
    digest = hashlib.sha256(b"compactproofs certificate 1\n" + canonical(fields).encode())
    for name in sorted(tensors):
        kind = KINDS[tensors[name].dtype.name]
        digest.update(f"\n{name} {kind} {list(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].tobytes())
    fields["digest"] = digest.hexdigest()
    return save(tensors, metadata={"claim": canonical(fields)})


def altered(data: bytes, **changes: Any) -> bytes:
    return sign(claim_of(data) | changes, load(data))
