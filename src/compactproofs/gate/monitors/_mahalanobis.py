"""Distances in units of the covariance: plain, relative to independent sites, class by class."""

from typing import Final

import numpy as np
from jaxtyping import Float64, Int

from .._extras import needed
from ._monitor import checked, fitted, spread

_FLOOR: Final = 1e-5
"""Of the mean variance, added to every site's: constant sites leave the covariance singular."""


class Mahalanobis:
    """``(h - mean)^T covariance^-1 (h - mean)``, the covariance with a small floor.

    The floor keeps it invertible with constant sites or fewer rows than sites. (Shrinkage by
    Ledoit and Wolf does so too, and separates worse: directions of least variance tell most.)
    """

    def __init__(self) -> None:
        """Not fitted yet."""
        self._mean: Float64[np.ndarray, " s"] | None = None
        self._precision: Float64[np.ndarray, "s s"] = np.zeros((0, 0))

    def fit(self, h: Float64[np.ndarray, "m s"], labels: Int[np.ndarray, " m"]) -> "Mahalanobis":
        """Learn mean and covariance; the labels are not used. Cost: m s^2."""
        checked(h, labels, rows=2)
        self._mean = h.mean(axis=0)
        self._precision = _precision(h - self._mean)
        return self

    def score(self, h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """The squared distance. Cost: n s^2."""
        mean = fitted(self._mean, self)
        return _squared(checked(h, sites=len(mean)) - mean, self._precision)


class RelativeMahalanobis:
    """The squared distance less that of independent sites: what the correlations alone dislike."""

    def __init__(self) -> None:
        """Not fitted yet."""
        self._joint = Mahalanobis()
        self._alone: tuple[Float64[np.ndarray, " s"], Float64[np.ndarray, " s"]] | None = None

    def fit(
        self, h: Float64[np.ndarray, "m s"], labels: Int[np.ndarray, " m"]
    ) -> "RelativeMahalanobis":
        """Learn both; the labels are not used. Cost: m s^2."""
        self._joint.fit(h, labels)
        self._alone = h.mean(axis=0), spread(h)
        return self

    def score(self, h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """The difference of squared distances; may be negative. Cost: n s^2."""
        mean, sd = fitted(self._alone, self)
        return self._joint.score(h) - (((h - mean) / sd) ** 2).sum(axis=1)


class ClassMahalanobis:
    """The squared distance to the nearest class mean, one covariance within classes for all."""

    def __init__(self) -> None:
        """Not fitted yet."""
        self._means: Float64[np.ndarray, "c s"] | None = None
        self._precision: Float64[np.ndarray, "s s"] = np.zeros((0, 0))

    def fit(
        self, h: Float64[np.ndarray, "m s"], labels: Int[np.ndarray, " m"]
    ) -> "ClassMahalanobis":
        """Learn the class means and the covariance around them. Cost: m s^2."""
        checked(h, labels, rows=2)
        classes, index = np.unique(labels, return_inverse=True)
        self._means = np.stack([h[labels == c].mean(axis=0) for c in classes])
        self._precision = _precision(h - self._means[index])
        return self

    def score(self, h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """The least squared distance. Cost: n c s^2."""
        means = fitted(self._means, self)
        checked(h, sites=means.shape[1])
        return np.min([_squared(h - mean, self._precision) for mean in means], axis=0)


def _precision(deviations: Float64[np.ndarray, "m s"]) -> Float64[np.ndarray, "s s"]:
    estimators = needed("sklearn.covariance", "a Mahalanobis monitor")
    covariance = estimators.empirical_covariance(deviations, assume_centered=True)
    floor = _FLOOR * float((spread(deviations) ** 2).mean())
    return np.linalg.inv(covariance + floor * np.eye(len(covariance)))


def _squared(
    deviations: Float64[np.ndarray, "n s"], precision: Float64[np.ndarray, "s s"]
) -> Float64[np.ndarray, " n"]:
    return ((deviations @ precision) * deviations).sum(axis=1)
