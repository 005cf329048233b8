"""P(two sites of a layer in given bins) from the weights and the moments of the layer below.

With x of mean m and covariance C, ``z = x W + b`` has mean ``m W + b`` and covariance ``W' C W``.
Taken as Gaussian (given the class, where the moments are), two of them are in a pair of bins with
the probability of a rectangle. Nothing is counted.
"""

from functools import cache

import numpy as np
from jaxtyping import Float, Float64

from ._proposal import LayerBelow

_NODES = 48
_BEYOND = 8.5  # standard deviations; what is farther out has mass below 1e-16


def rectangles(
    rho: Float[np.ndarray, " p"],
    first: Float64[np.ndarray, "p a"],
    second: Float64[np.ndarray, "p b"],
) -> Float64[np.ndarray, "p c d"]:
    """P(bin c of X and bin d of Y), X and Y standard Gaussians of correlation ``rho``.

    ``first`` and ``second`` are the rising inner edges in standard deviations, so that there are
    a + 1 and b + 1 bins. Error about 1e-7, more for abs(rho) above 0.999. Cost: 48 p a b.
    """
    from scipy.special import ndtr

    p = len(rho)
    wide = np.full((p, 1), _BEYOND)
    ends = np.concatenate([-wide, np.clip(first, -_BEYOND, _BEYOND), wide], axis=1)
    nodes, weights = _nodes()
    middle, half = (ends[:, 1:] + ends[:, :-1]) / 2, (ends[:, 1:] - ends[:, :-1]) / 2
    x = middle[:, :, None] + half[:, :, None] * nodes  # [p, c, nodes]
    density = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi) * half[:, :, None] * weights
    rho = np.clip(rho, -0.9999, 0.9999)[:, None, None, None]
    below = ndtr((second[:, None, None] - rho * x[..., None]) / np.sqrt(1 - rho * rho))
    shape = (*x.shape, 1)
    steps = np.diff(np.concatenate([np.zeros(shape), below, np.ones(shape)], axis=3), axis=3)
    return np.einsum("pcn,pcnd->pcd", density, steps)


@cache
def _nodes() -> tuple[Float64[np.ndarray, " q"], Float64[np.ndarray, " q"]]:
    return np.polynomial.legendre.leggauss(_NODES)


def moments(below: LayerBelow) -> tuple[Float64[np.ndarray, "c g"], Float64[np.ndarray, "g g"]]:
    """Mean (by class) and covariance (within classes) of the sites ``x W + b``."""
    return below.mean @ below.W + below.b, below.W.T @ below.cov @ below.W


def pair_tables(
    below: LayerBelow,
    pairs: np.ndarray,
    first: Float64[np.ndarray, "p a"],
    second: Float64[np.ndarray, "p b"],
    slack: float = 0.0,
) -> Float64[np.ndarray, "p c d"]:
    """P(site i in bin c and site j in bin d) for the rows (i, j) of ``pairs`` [p, 2].

    ``first`` and ``second`` are the inner edges of their bins; ``slack`` is added to each
    correlation, towards 1 in Fisher's z.
    """
    mean, cov = moments(below)
    sd = np.sqrt(np.maximum(np.diag(cov), 1e-12))
    i, j = pairs[:, 0], pairs[:, 1]
    rho = np.clip(cov[i, j] / (sd[i] * sd[j]), -0.9999, 0.9999)
    rho = np.tanh(np.arctanh(rho) + slack)
    total = np.zeros((len(pairs), first.shape[1] + 1, second.shape[1] + 1))
    for share, centre in zip(below.shares, mean, strict=True):
        total += share * rectangles(
            rho,
            (first - centre[i][:, None]) / sd[i][:, None],
            (second - centre[j][:, None]) / sd[j][:, None],
        )
    return total


def with_margins(
    tables: Float64[np.ndarray, "p c d"],
    first: Float64[np.ndarray, "p c"],
    second: Float64[np.ndarray, "p d"],
) -> Float64[np.ndarray, "p c d"]:
    """The tables nearest to ``tables`` (least divergence) whose bins have these shares.

    Iterative scaling: the shares of single events are known without a joint count, and the
    Gaussian's own are off where a site is skewed. Cost: 40 passes.
    """
    found = np.maximum(tables, 1e-12)
    for _ in range(40):
        found = found * (first / np.maximum(found.sum(axis=2), 1e-12))[:, :, None]
        found = found * (second / np.maximum(found.sum(axis=1), 1e-12))[:, None, :]
    return found
