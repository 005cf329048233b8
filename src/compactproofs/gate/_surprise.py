"""The ladder of explanations as scores: how surprised each leaves one by an input, in nats.

From the bottom: every bin independent; a tree of pairwise rules; the class as common cause; linear
rules, each site against all others; linear rules within the class. The surprise left falls as the
explanation gets better, and what stays surprising under a good one is worth a refusal.

All of it is PRESUMED: the scores rank inputs and never admit one.

Notation: m rows to learn from, n rows, s sites, c the class that the network answers.
"""

from typing import Final, Protocol

import numpy as np
from jaxtyping import Float64, Int

from ._bin_forest import PresumptionError as PresumptionError
from ._bin_forest import PresumptiveModel as PresumptiveModel
from ._bin_forest import pairwise_tree as pairwise_tree
from .monitors._monitor import MonitorError, checked, fitted, spread

_BINS: Final = 6
_SHRINKAGE: Final = 0.1
"""Weight of the covariance within all classes in that of one class, which has few rows."""
_FLOOR: Final = 1e-5
"""Of the mean variance, added to every site's: no linear rule is presumed to be exact."""
_MARGIN_WEIGHT: Final = 2.0
"""Of the margin's surprise beside a layer's; chosen on models that no figure is quoted for."""
_TAIL: Final = 0.1


class Rung(Protocol):
    """One explanation of the sites of a layer."""

    def fit(self, h: Float64[np.ndarray, "m s"], classes: Int[np.ndarray, " m"]) -> "Rung":
        """Learn from trusted rows; raises MonitorError."""
        ...

    def surprise(
        self, h: Float64[np.ndarray, "n s"], classes: Int[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        """-log of the presumed likelihood, nats; ``classes`` are the network's answers."""
        ...


class BinRules:
    """Bins of equal mass, and two for values beyond all trusted ones, explained by a forest.

    ``rules``: "none" (independence), "pairs" (the best tree), or "class" (the class as the common
    cause of all sites).
    """

    def __init__(self, rules: str) -> None:
        """Raises MonitorError for other rules."""
        if rules not in ("none", "pairs", "class"):
            raise MonitorError(f"rules {rules!r}: pass 'none', 'pairs' or 'class'")
        self._rules = rules
        self._model: PresumptiveModel | None = None
        self._edges: Float64[np.ndarray, "b s"] = np.zeros((0, 0))
        self._classes: Int[np.ndarray, " c"] = np.zeros(0, dtype=np.int64)

    def fit(self, h: Float64[np.ndarray, "m s"], classes: Int[np.ndarray, " m"]) -> "BinRules":
        """Place the bins and count. Cost: m s, for pairs m (8 s)^2."""
        checked(h, classes, rows=1)
        inner = np.quantile(h, np.arange(1, _BINS) / _BINS, axis=0)
        below, above = np.nextafter(h.min(axis=0), -np.inf), h.max(axis=0)
        self._edges = np.concatenate([below[None], inner, above[None]])
        self._classes = np.unique(classes)
        sizes = [_BINS + 2] * h.shape[1]
        if self._rules != "class":
            model = PresumptiveModel.independent(self._codes(h), tuple(sizes))
            self._model = pairwise_tree(model) if self._rules == "pairs" else model
            return self
        columns = np.column_stack([self._class_codes(classes), self._codes(h)])
        model = PresumptiveModel.independent(columns, (len(self._classes) + 1, *sizes))
        for site in range(1, len(sizes) + 1):
            model = model.add_rule(0, site)
        self._model = model
        return self

    def surprise(
        self, h: Float64[np.ndarray, "n s"], classes: Int[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        """Of the bins; with "class", of the class and the bins."""
        model = fitted(self._model, self)
        codes = self._codes(checked(h, classes, sites=self._edges.shape[1]))
        if self._rules == "class":
            codes = np.column_stack([self._class_codes(classes), codes])
        return -model.log_likelihood(codes)

    def _codes(self, h: Float64[np.ndarray, "n s"]) -> Int[np.ndarray, "n s"]:
        return (h[:, None] > self._edges[None]).sum(axis=1)

    def _class_codes(self, classes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Classes that were never seen share the last code."""
        place = np.searchsorted(self._classes, classes)
        known = np.isin(classes, self._classes)
        return np.where(known, place, len(self._classes))


class LinearRules:
    """Each site against its linear prediction from all the others: Gaussian residuals, added up.

    The sum counts a shared cause once for every site that it moves, so it is a pseudo-likelihood.
    """

    def __init__(self) -> None:
        """Not fitted yet."""
        self._mean: Float64[np.ndarray, " s"] | None = None
        self._residual: Float64[np.ndarray, "s s"] = np.zeros((0, 0))
        self._log_sd: float = 0.0

    def fit(self, h: Float64[np.ndarray, "m s"], classes: Int[np.ndarray, " m"]) -> "LinearRules":
        """Learn all s rules at once, from one inverse. Cost: m s^2."""
        checked(h, classes, rows=2)
        self._mean = h.mean(axis=0)
        deviations = h - self._mean
        precision = np.linalg.inv(_with_floor(deviations.T @ deviations / len(h), deviations))
        # Row i of the precision over its diagonal entry is the rule of site i, whose residual has
        # one over that entry as its variance.
        scale = np.sqrt(np.diag(precision))
        self._residual = precision / scale
        self._log_sd = float(-np.log(scale).sum())
        return self

    def surprise(
        self, h: Float64[np.ndarray, "n s"], classes: Int[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        """Of the residuals. Cost: n s^2."""
        mean = fitted(self._mean, self)
        residuals = (checked(h, classes, sites=len(mean)) - mean) @ self._residual
        constant = self._log_sd + 0.5 * len(mean) * np.log(2 * np.pi)
        return 0.5 * (residuals**2).sum(axis=1) + constant


class ClassLinearRules:
    """Linear rules within the class, each site given those before it: a Gaussian a class.

    Here the residuals are independent, so that their surprises add up to that of the whole layer.
    """

    def __init__(self) -> None:
        """Not fitted yet."""
        self._means: dict[int, Float64[np.ndarray, " s"]] = {}
        self._factors: dict[int, Float64[np.ndarray, "s s"]] = {}

    def fit(
        self, h: Float64[np.ndarray, "m s"], classes: Int[np.ndarray, " m"]
    ) -> "ClassLinearRules":
        """Learn the rules of each class; one with under three rows uses those of all.

        Cost: m s^2.
        """
        checked(h, classes, rows=2)
        found = np.unique(classes).tolist()
        inside = np.concatenate([h[classes == c] - h[classes == c].mean(axis=0) for c in found])
        pooled = inside.T @ inside / len(inside)
        self._means, self._factors = {}, {}
        for c in found:
            rows = h[classes == c]
            self._means[c] = rows.mean(axis=0)
            covariance = pooled
            if len(rows) > 2:
                own = np.cov(rows, rowvar=False).reshape(pooled.shape)
                covariance = (1 - _SHRINKAGE) * own + _SHRINKAGE * pooled
            covariance = _with_floor(covariance, inside)
            # Row i of the inverse Cholesky factor predicts site i from the earlier ones.
            self._factors[c] = np.linalg.inv(np.linalg.cholesky(covariance))
        return self

    def surprise(
        self, h: Float64[np.ndarray, "n s"], classes: Int[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        """Of the layer given the class; a class that was never seen is as surprising as can be.

        Cost: n s^2.
        """
        if not self._means:
            raise MonitorError(f"{type(self).__name__} was not fitted: call fit(h, classes) first")
        sites = len(next(iter(self._means.values())))
        checked(h, classes, sites=sites)
        total = np.full(len(h), np.inf)
        for c, factor in self._factors.items():
            rows = classes == c
            residuals = (h[rows] - self._means[c]) @ factor.T
            constant = 0.5 * sites * np.log(2 * np.pi) - np.log(np.diag(factor)).sum()
            total[rows] = 0.5 * (residuals**2).sum(axis=1) + constant
        return total


class Tail:
    """A score as surprise: -log of the share of clean held-out inputs with at least that score.

    Among the highest tenth the shares run out; there the tail is presumed exponential, so that
    scores beyond all clean ones still have an order.
    """

    def __init__(self, clean: Float64[np.ndarray, " m"]) -> None:
        """Of clean held-out scores; raises MonitorError for none, or for NaN."""
        if not len(clean) or np.isnan(clean).any():
            raise MonitorError(f"{len(clean)} clean scores, NaN among them or none: pass numbers")
        self._sorted = np.sort(clean)
        self._start = float(np.quantile(self._sorted, 1 - _TAIL, method="lower"))
        finite = self._sorted[np.isfinite(self._sorted)]
        beyond = finite[finite > self._start] - self._start
        self._scale = float(beyond.mean()) if len(beyond) else 0.0

    def surprise(self, scores: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Nats; never falls as the score rises."""
        below = np.searchsorted(self._sorted, scores, side="left")
        shares = (len(self._sorted) - below + 1) / (len(self._sorted) + 1)
        if self._scale == 0.0:
            return -np.log(shares)
        excess = np.maximum(scores - self._start, 0.0) / self._scale
        return np.where(excess > 0, excess - np.log(_TAIL), -np.log(shares))


class ExplainedSurprise:
    """A monitor: what the class, the linear rules within it, and its margin leave unexplained.

        sum over layers of -log p(layer | class)  +  2 x surprise of the logit margin,

    in nats, the class being the network's answer. ``layers`` and ``logits`` say where they are
    among the sites. Needs ``calibrate`` on held-out clean rows before it scores: margins of rows
    that the network was trained on are too wide.
    """

    def __init__(self, layers: tuple[slice, ...], logits: slice) -> None:
        """Not fitted yet."""
        self._layers, self._logits = layers, logits
        self._rungs: list[ClassLinearRules] = []
        self._margin: Tail | None = None

    def fit(
        self, h: Float64[np.ndarray, "m s"], labels: Int[np.ndarray, " m"]
    ) -> "ExplainedSurprise":
        """Learn the rules of each layer within each label. Cost: m s^2."""
        checked(h, labels, rows=2)
        self._rungs = [ClassLinearRules().fit(h[:, layer], labels) for layer in self._layers]
        return self

    def calibrate(self, h: Float64[np.ndarray, "m s"]) -> "ExplainedSurprise":
        """Learn how small margins are on clean rows that the network has not seen."""
        self._margin = Tail(small_margin(checked(h)[:, self._logits]))
        return self

    def score(self, h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """The surprise, nats. Cost: n s^2."""
        margin = fitted(self._margin, self)
        rungs = fitted(self._rungs or None, self)
        logits = checked(h)[:, self._logits]
        classes = logits.argmax(axis=1)
        total = _MARGIN_WEIGHT * margin.surprise(small_margin(logits))
        for rung, layer in zip(rungs, self._layers, strict=True):
            total = total + rung.surprise(h[:, layer], classes)
        return total


def small_margin(logits: Float64[np.ndarray, "n x"]) -> Float64[np.ndarray, " n"]:
    """Minus the lead of the largest logit over the next: higher is less decided."""
    top = np.partition(logits, -2, axis=1)[:, -2:]
    return top[:, 0] - top[:, 1]


def _with_floor(
    covariance: Float64[np.ndarray, "s s"], deviations: Float64[np.ndarray, "m s"]
) -> Float64[np.ndarray, "s s"]:
    typical = float((spread(deviations) ** 2).mean())
    return covariance + _FLOOR * typical * np.eye(len(covariance))
