"""Features that interact, put into groups."""

import warnings
from enum import Enum

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from ..kernel import UserError
from ._errors import CrosscoderError


class MissingClusteringError(UserError):
    """The clustering library is not installed."""


class Method(Enum):
    """How groups are found; the estimators of scikit-learn by the same name."""

    AFFINITY_PROPAGATION = "affinity-propagation"
    """It finds the number of groups, and a member of each that stands for it."""
    SPECTRAL = "spectral"
    """As many groups as asked for."""


def clusters(
    of_pairs: Shaped[np.ndarray, "..."],
    method: Method = Method.AFFINITY_PROPAGATION,
    number: int | None = None,
    seed: int = 0,
) -> Int64[np.ndarray, " H"]:
    """The group of each feature, numbered from 0 by size; -1 if it never interacts.

    of_pairs: `Interactions.of_pairs` [H, H]. number: of groups, for ``spectral``
    alone; seed: of what is drawn, so that equal calls give equal groups.

    Interactions span orders of magnitude, so the similarity of two features is the logarithm of
    theirs, in units of the median of the pairs that interact.
    Raises CrosscoderError for a number that does not fit or a search that does not end;
    MissingClusteringError where scikit-learn is missing. Cost: O(H^2) numbers a step, O(H^3).
    """
    own = np.array(of_pairs, dtype=np.float64)
    if own.ndim != 2 or len(own) != own.shape[1] or not ((own >= 0) & np.isfinite(own)).all():
        raise CrosscoderError(
            f"interactions {own.shape} must be a square matrix of numbers, none negative"
        )
    np.fill_diagonal(own, 0.0)
    alive = np.flatnonzero(own.any(axis=1))
    found = np.full(len(own), -1, dtype=np.int64)
    fits = number is not None and 1 <= number <= len(alive)
    if (method is Method.SPECTRAL and not fits) or (method is not Method.SPECTRAL and number):
        raise CrosscoderError(
            f"number = {number} of groups: spectral needs one from 1 to the {len(alive)} features "
            "that interact, affinity-propagation finds its own"
        )
    if len(alive) < 2:
        return found
    similarity = np.log1p(own / np.median(own[own > 0]))[np.ix_(alive, alive)]
    labels = _labels(similarity, method, number, seed)
    # The largest group first, the one with the first feature among equals.
    kinds, first, size = np.unique(labels, return_index=True, return_counts=True)
    place = np.empty(kinds.max() + 1, dtype=np.int64)
    place[kinds[np.lexsort((first, -size))]] = np.arange(len(kinds))
    found[alive] = place[labels]
    return found


def _labels(
    similarity: Float64[np.ndarray, "h h"], method: Method, number: int | None, seed: int
) -> Int64[np.ndarray, " h"]:
    try:
        from sklearn.cluster import AffinityPropagation, SpectralClustering
        from sklearn.exceptions import ConvergenceWarning
    except ImportError:
        raise MissingClusteringError(
            "groups of features need scikit-learn: pip install 'compactproofs[gate]'"
        ) from None
    with warnings.catch_warnings():
        if method is Method.SPECTRAL:
            # Groups that do not touch each other are no trouble here.
            warnings.filterwarnings("ignore", message="Graph is not fully connected")
            estimator = SpectralClustering(number or 2, affinity="precomputed", random_state=seed)
            return np.asarray(estimator.fit_predict(similarity), dtype=np.int64)
        warnings.simplefilter("ignore", ConvergenceWarning)
        for damping in (0.5, 0.7, 0.9, 0.97):
            estimator = AffinityPropagation(
                affinity="precomputed", damping=damping, max_iter=2000, random_state=seed
            )
            labels = np.asarray(estimator.fit_predict(similarity), dtype=np.int64)
            if labels.min() >= 0:
                return labels
    raise CrosscoderError(
        "affinity propagation found no groups that stay: use method spectral with a number"
    )
