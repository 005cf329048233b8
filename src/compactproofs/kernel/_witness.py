"""What a theorem takes on no trust at all: arrays of choices, found by search, kept in a file.

A theorem is sound for every witness; a poor one gives a weaker bound, one of the wrong form an
error. Each theorem that takes one declares a NamedTuple of arrays, one field per tensor.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._errors import MalformedError
from ._frozen import frozen

Witness = Any
"""A NamedTuple of numpy arrays of type int32 or float64."""


def frozen_witness(witness: Witness) -> Witness:
    """A copy that nobody can change."""
    return type(witness)(*(frozen(array) for array in witness))


def witness_from(kind: type[Any], arrays: Mapping[str, np.ndarray]) -> Witness:
    """The witness of ``kind`` with these tensors; raises MalformedError for other names."""
    if set(arrays) != set(kind._fields):
        strange = min(set(arrays) ^ set(kind._fields))
        raise MalformedError(f"the tensor {strange!r} is missing or unknown")
    return kind(**arrays)


def require_array(
    name: str, array: object, dtype: type[np.generic], shape: tuple[int, ...]
) -> np.ndarray:
    """Refuse an array of another type or shape, or with NaN or infinity."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        found = (
            f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else f"{array!r:.40}"
        )
        raise MalformedError(f"tensor {name} is {found}, not {np.dtype(dtype)} {shape}")
    if not np.isfinite(array).all():
        raise MalformedError(f"tensor {name} holds NaN or infinity")
    return frozen(array)
