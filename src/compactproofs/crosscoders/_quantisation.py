"""A few levels for the codes of each feature."""

from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Integer

from ._config import require_positive
from ._errors import CrosscoderError

METHODS: Final = ("quantile", "uniform")


def nearest_levels(
    indices: Integer[np.ndarray, " nnz"],
    values: Float32[np.ndarray, " nnz"],
    n_features: int,
    n_levels: int,
    method: str,
) -> tuple[Float32[np.ndarray, "H Q"], Float32[np.ndarray, " nnz"]]:
    """Levels of each feature, and each code replaced by the nearest of its feature.

    See `EncodedDataset.quantised`. Cost: a sort of the codes.
    """
    require_positive("n_levels", n_levels)
    if method not in METHODS:
        raise CrosscoderError(f"method = {method!r} is not one of {', '.join(METHODS)}")
    levels = np.zeros((n_features, n_levels), np.float32)
    replaced = np.empty_like(values)
    order = np.argsort(indices, kind="stable")
    bounds = np.searchsorted(indices[order], np.arange(n_features + 1))
    for feature in range(n_features):
        places = order[bounds[feature] : bounds[feature + 1]]
        if len(places):
            levels[feature], replaced[places] = _quantised(values[places], n_levels, method)
    return levels, replaced


def _quantised(
    codes: Float32[np.ndarray, " n"], n_levels: int, method: str
) -> tuple[Float32[np.ndarray, " Q"], Float32[np.ndarray, " n"]]:
    chosen = np.unique(codes)
    if len(chosen) > n_levels:
        chosen = _spread(codes.astype(np.float64), n_levels, method).astype(np.float32)
    middles = (chosen[1:].astype(np.float64) + chosen[:-1]) / 2
    # A code in the middle goes to the lower level.
    replaced = chosen[np.searchsorted(middles, codes, side="left")]
    used = np.unique(replaced)
    return np.concatenate([used, np.repeat(used[-1:], n_levels - len(used))]), replaced


def _spread(
    codes: Float64[np.ndarray, " n"], n_levels: int, method: str
) -> Float64[np.ndarray, " Q"]:
    shares = (np.arange(n_levels) + 0.5) / n_levels
    if method == "quantile":
        return np.quantile(codes, shares)
    lowest, highest = codes.min(), codes.max()
    return lowest + (highest - lowest) * shares
