"""What all monitors share: the protocol, and the refusal of unusable activations."""

from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import Float64, Int

from compactproofs.kernel import UserError

_T = TypeVar("_T")


class MonitorError(UserError):
    """Activations that a monitor cannot use, or a monitor used before its fit."""


class Monitor(Protocol):
    """A score of strangeness, learned from clean activations."""

    def fit(self, h: Float64[np.ndarray, "m s"], labels: Int[np.ndarray, " m"]) -> "Monitor":
        """Learn from trusted rows and their labels; raises MonitorError."""
        ...

    def score(self, h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """Higher is stranger; PRESUMED, so that it ranks and never admits. Raises MonitorError."""
        ...


def checked(
    h: Float64[np.ndarray, "n s"],
    labels: Int[np.ndarray, "..."] | None = None,
    sites: int | None = None,
    rows: int = 0,
) -> Float64[np.ndarray, "n s"]:
    """``h`` as it is, if a monitor can use it.

    Raises MonitorError for NaN or infinity, fewer than ``rows`` rows, labels that do not fit, or
    another number of sites than ``sites``.
    """
    if h.ndim != 2 or h.shape[1] == 0:
        raise MonitorError(
            f"activations of shape {h.shape}: pass one row an input, one column a site"
        )
    if not np.isfinite(h).all():
        row, site = np.argwhere(~np.isfinite(h))[0].tolist()
        raise MonitorError(
            f"activation [{row}, {site}] is {h[row, site]}: monitors need finite numbers, so leave "
            "such inputs out (the gate refuses them anyway)"
        )
    if len(h) < rows:
        raise MonitorError(f"{len(h)} rows to learn from: a monitor needs at least {rows}")
    if labels is not None and labels.shape != (len(h),):
        raise MonitorError(
            f"labels of shape {labels.shape} for {len(h)} rows: pass one label a row"
        )
    if sites is not None and h.shape[1] != sites:
        raise MonitorError(
            f"activations of {h.shape[1]} sites, but the monitor was fitted on {sites}: pass the "
            "same sites"
        )
    return h


def fitted(value: _T | None, caller: object) -> _T:
    """``value``, or MonitorError if ``caller`` was not fitted yet."""
    if value is None:
        raise MonitorError(f"{type(caller).__name__} was not fitted: call fit(h, labels) first")
    return value


def spread(h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " s"]:
    """Standard deviations of the sites; a constant site gets a thousandth of the typical one.

    Without a floor such a site would be divided by 0; ignoring it would hide that it moved.
    """
    sd = h.std(axis=0)
    typical = float(sd.mean())
    return np.maximum(sd, 1e-3 * typical if typical > 0 else 1.0)
