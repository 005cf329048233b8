"""Distances to the nearest trusted rows, sites in units of their standard deviation."""

from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from .._extras import needed
from ._monitor import checked, fitted, spread


class NearestNeighbours:
    """The distance to the k-th nearest trusted row."""

    def __init__(self, k: int = 10) -> None:
        """``k`` neighbours, or as many as there are rows."""
        self._k = k
        self._index: Any = None
        self._sd: Float64[np.ndarray, " s"] = np.ones(0)

    def fit(
        self, h: Float64[np.ndarray, "m s"], labels: Int[np.ndarray, " m"]
    ) -> "NearestNeighbours":
        """Keep the rows; the labels are not used."""
        checked(h, labels, rows=2)
        neighbours = needed("sklearn.neighbors", "the kNN monitor")
        self._sd = spread(h)
        k = min(self._k, len(h))
        self._index = neighbours.NearestNeighbors(n_neighbors=k).fit(h / self._sd)
        return self

    def score(self, h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """The distance. Cost: n m s."""
        index = fitted(self._index, self)
        return index.kneighbors(checked(h, sites=len(self._sd)) / self._sd)[0][:, -1]


class LocalOutlier:
    """The local outlier factor: how much thinner the rows lie here than at the neighbours."""

    def __init__(self, k: int = 20) -> None:
        """``k`` neighbours, or all other rows if there are fewer."""
        self._k = k
        self._factor: Any = None
        self._sd: Float64[np.ndarray, " s"] = np.ones(0)

    def fit(self, h: Float64[np.ndarray, "m s"], labels: Int[np.ndarray, " m"]) -> "LocalOutlier":
        """Keep the rows and their densities; the labels are not used. Cost: m^2 s."""
        checked(h, labels, rows=2)
        neighbours = needed("sklearn.neighbors", "the LOF monitor")
        self._sd = spread(h)
        k = min(self._k, len(h) - 1)
        self._factor = neighbours.LocalOutlierFactor(n_neighbors=k, novelty=True)
        self._factor.fit(h / self._sd)
        return self

    def score(self, h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """The factor. Cost: n m s."""
        factor = fitted(self._factor, self)
        return -factor.score_samples(checked(h, sites=len(self._sd)) / self._sd)
