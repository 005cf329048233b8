"""What a few principal directions of the trusted rows do not reach."""

from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from .._extras import needed
from ._monitor import checked, fitted


class PrincipalResidual:
    """The squared distance to the span of the leading principal directions."""

    def __init__(self, directions: int = 8) -> None:
        """``directions``, or half as many as sites: with all of them nothing would be left."""
        self._directions = directions
        self._projection: Any = None

    def fit(
        self, h: Float64[np.ndarray, "m s"], labels: Int[np.ndarray, " m"]
    ) -> "PrincipalResidual":
        """Learn the directions; the labels are not used. Cost: m s^2."""
        checked(h, labels, rows=2)
        decomposition = needed("sklearn.decomposition", "the PCA monitor")
        kept = min(self._directions, h.shape[1] // 2, len(h))
        with np.errstate(invalid="ignore"):  # shares of no variance, if all rows are alike
            self._projection = decomposition.PCA(kept).fit(h)
        return self

    def score(self, h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """The squared residual. Cost: n s directions."""
        projection = fitted(self._projection, self)
        checked(h, sites=projection.n_features_in_)
        reached = projection.inverse_transform(projection.transform(h))
        return ((h - reached) ** 2).sum(axis=1)
