"""How few random cuts isolate a row from the trusted ones."""

from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from .._extras import needed
from ._monitor import checked, fitted


class IsolationForestMonitor:
    """scikit-learn's isolation forest, the sign turned: higher is easier to isolate."""

    def __init__(self, trees: int = 100, seed: int = 0) -> None:
        """``trees`` trees, their cuts drawn from ``seed``."""
        self._trees, self._seed = trees, seed
        self._forest: Any = None

    def fit(
        self, h: Float64[np.ndarray, "m s"], labels: Int[np.ndarray, " m"]
    ) -> "IsolationForestMonitor":
        """Grow the trees; the labels are not used."""
        checked(h, labels, rows=2)
        ensemble = needed("sklearn.ensemble", "the isolation forest")
        self._forest = ensemble.IsolationForest(
            n_estimators=self._trees, random_state=self._seed
        ).fit(h)
        return self

    def score(self, h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """Between 0 and 1. Cost: n trees."""
        forest = fitted(self._forest, self)
        return -forest.score_samples(checked(h, sites=forest.n_features_in_))
