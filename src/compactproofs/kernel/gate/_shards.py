"""Arrays of a ledger: ``.safetensors`` bytes that are named by their SHA-256."""

import hashlib
from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import Final, final

import numpy as np
from jaxtyping import Shaped

from .._frozen import Immutable, frozen
from .._safetensors import DamagedError, read_tensors

_TYPES: Final = {"F64": "<f8", "I64": "<i8", "I32": "<i4", "I8": "i1"}


@final
class Shard(Immutable):
    """The arrays that some bytes hold: ``sha256`` names exactly these arrays.

    Types float64 (any number but NaN; infinity is no limit), int64, int32 and int8. Raises
    DamagedError for other bytes. Cost: O(bytes).
    """

    __slots__ = ("arrays", "sha256")

    sha256: str
    arrays: Mapping[str, Shaped[np.ndarray, "..."]]

    def __init__(self, data: bytes) -> None:
        """Decode; what is kept cannot be changed."""
        tensors, _ = read_tensors(data)
        arrays: dict[str, Shaped[np.ndarray, "..."]] = {}
        for name, raw in tensors.items():
            if raw.dtype not in _TYPES:
                raise DamagedError(f"{name!r} is of type {raw.dtype}, none of {', '.join(_TYPES)}")
            stored = np.frombuffer(raw.data, _TYPES[raw.dtype], prod(raw.shape))
            values = stored.astype(stored.dtype.newbyteorder("=")).reshape(raw.shape)
            if raw.dtype == "F64" and np.isnan(values).any():
                raise DamagedError(f"{name!r} holds NaN")
            arrays[name] = frozen(values)
        self._assign(sha256=hashlib.sha256(data).hexdigest(), arrays=MappingProxyType(arrays))
