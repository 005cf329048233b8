"""The circuits of a one-layer, one-head model, in float64: what a proof can lean on.

    A[q,t] = e_q Q K^T k_t          QK, position-independent part (mean position), in nats
    B[q,i] = e_q Q K^T (P_i - Pm)   QK, position-dependent part, in nats
    F[t,x] = (E_t V + b_V) O U      OV, position-independent part, in logits
    G[i,x] = P_i V O U              OV, position-dependent part, in logits
    H[q,x] = e_q U + b_U            direct path, in logits

with ``e_q = E_q + P_{k-1}`` (plus ``b_O`` in H), ``k_t = E_t + Pm`` and ``Pm`` the mean position.
``A`` and ``B`` are divided by ``sqrt(d_head)``.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from jaxtyping import Float64

from ..kernel import Model

NAMES = ("A", "B", "F", "G", "H")
TITLES = {
    "A": "QK, position-independent",
    "B": "QK, position-dependent",
    "F": "OV, position-independent",
    "G": "OV, position-dependent",
    "H": "direct path",
}
AXES = {
    "A": ("query token", "key token"),
    "B": ("query token", "position"),
    "F": ("token", "output"),
    "G": ("position", "output"),
    "H": ("query token", "output"),
}


@dataclass(frozen=True)
class Circuits:
    """The five circuits; scores in nats, the rest in logits."""

    A: Float64[np.ndarray, "q t"]
    B: Float64[np.ndarray, "q i"]
    F: Float64[np.ndarray, "t x"]
    G: Float64[np.ndarray, "i x"]
    H: Float64[np.ndarray, "q x"]

    def singular_values(self, name: str, first: int = 8) -> list[float]:
        """The largest singular values of one circuit, descending."""
        found = np.linalg.svd(getattr(self, name), compute_uv=False)
        return [float(s) for s in found[:first]]

    def facts(self) -> dict[str, Any]:
        """What the interpretation of a max-of-k model rests on, in numbers."""
        left, _, right = np.linalg.svd(self.A)
        key, query = right[0], left[:, 0]
        if query.sum() < 0:
            key, query = -key, -query
        steps = np.diff(self.A.mean(axis=0))
        spread = {name: getattr(self, name) for name in ("B", "G", "H")}
        facts: dict[str, Any] = {
            "mean step of a query's score between adjacent keys (nats)": _mean(steps),
            "share of adjacent keys in ascending order": _mean(steps > 0),
            "share of queries of one sign along the first direction": float(
                max((query > 0).mean(), (query < 0).mean())
            ),
            "mean step between adjacent keys along the first direction": _mean(np.diff(key)),
        }
        labels = min(self.F.shape)
        if labels > 1:
            rows = self.F[:labels].copy()
            diagonal = rows[np.arange(labels), np.arange(labels)].copy()
            rows[np.arange(labels), np.arange(labels)] = -np.inf
            facts["mean of F[t,t] - max F[t,x] over x != t (logits)"] = _mean(
                diagonal - rows.max(axis=1)
            )
        for name, matrix in spread.items():
            facts[f"mean range of a row of {name}"] = _mean(np.ptp(matrix, axis=1))
        return facts

    def summary(self) -> dict[str, Any]:
        """Plain data: shape, range and singular values of each circuit, and the facts."""
        found: dict[str, Any] = {}
        for name in NAMES:
            matrix, values = getattr(self, name), self.singular_values(name)
            found[name] = {
                "title": TITLES[name],
                "shape": list(matrix.shape),
                "min": float(matrix.min()),
                "max": float(matrix.max()),
                "singular_values": values,
                "sigma1_over_sigma2": values[0] / values[1]
                if len(values) > 1 and values[1] > 0
                else None,
            }
        return {"circuits": found, "facts": self.facts()}


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else 0.0


def circuits(model: Model) -> Circuits:
    """The circuits of ``model``. Cost: O(v d (d_head + v))."""
    mean = model.W_pos.mean(axis=0)
    at_query = model.W_E + model.W_pos[-1]
    query = (at_query @ model.W_Q + model.b_Q) / sqrt(model.score_divisor_squared)
    to_logits = model.W_O @ model.W_U
    return Circuits(
        A=query @ ((model.W_E + mean) @ model.W_K + model.b_K).T,
        B=query @ ((model.W_pos - mean) @ model.W_K).T,
        F=(model.W_E @ model.W_V + model.b_V) @ to_logits,
        G=model.W_pos @ model.W_V @ to_logits,
        H=(at_query + model.b_O) @ model.W_U + model.b_U,
    )
