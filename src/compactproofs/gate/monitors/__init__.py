"""Monitors that the gate is compared with: how strange an input's activations look, no more.

A monitor's number is PRESUMED: it ranks inputs and never admits one. Each is a few lines around
scikit-learn or torch (the extras ``gate`` and ``train``), loaded when it is fitted.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ._forest import IsolationForestMonitor as IsolationForestMonitor
from ._mahalanobis import ClassMahalanobis as ClassMahalanobis
from ._mahalanobis import Mahalanobis as Mahalanobis
from ._mahalanobis import RelativeMahalanobis as RelativeMahalanobis
from ._monitor import Monitor as Monitor
from ._monitor import MonitorError as MonitorError
from ._neighbours import LocalOutlier as LocalOutlier
from ._neighbours import NearestNeighbours as NearestNeighbours
from ._reconstruction import PrincipalResidual as PrincipalResidual
from ._vae import VariationalResidual as VariationalResidual

MONITORS: Final[Mapping[str, Callable[[], Monitor]]] = MappingProxyType(
    {
        "mahalanobis": Mahalanobis,
        "relative_mahalanobis": RelativeMahalanobis,
        "class_mahalanobis": ClassMahalanobis,
        "knn": NearestNeighbours,
        "lof": LocalOutlier,
        "vae": VariationalResidual,
        "pca_residual": PrincipalResidual,
        "isolation_forest": IsolationForestMonitor,
    }
)
"""Every monitor at its default settings, by name."""
