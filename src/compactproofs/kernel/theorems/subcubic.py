"""The sub-cubic family of Gross et al. (2024), repaired: 5 x 2 x 10 strategies for max-of-k.

A class ``(q, m, n)`` with gap ``g`` holds the sequences with query ``q`` and maximum ``m`` whose
``n`` smaller tokens (the query among them if ``q != m``) are all at most ``m - g``. With
``c = n - [q != m]`` free smaller tokens it has ``C(k-1, c) (m - g + 1)^c`` sequences. Scores are
``A[q,t] + B[q,i]``, ``A`` at the mean position; ``o(t,i,x) = F[t,x] + G[i,x]``.

Theorem. Take any gaps ``g >= 1`` and any numbers ``abar(m,n)``.

1. *Attention.* With ``A~, err`` of an attention-error part, the scores of ``m`` exceed those of the
   smaller tokens, position parts aside, by a number between

       lo = A~[q,m] - max_{u <= m-g} A~[q,u] - err[q]    and    hi, with min and + in their place.

   The attention on ``m`` is ``M e^s / (M e^s + R)``, with ``M`` and ``R`` the sums of ``exp B``
   over the positions of ``m`` and the others, increasing in ``M`` and ``s`` and decreasing in
   ``R``: so it lies between ``a_lo`` (lo, the smallest ``M``, the largest ``R``) and ``a_hi`` (the
   reverse).
2. *Logits.* With ``mu, dH`` of a direct-path part, ``pi_m[x] = max_i (G[i,x] - G[i,m])``,
   ``R_m[x] = F[m,x] - F[m,m]`` and ``W(m,n) = max_{t <= m-g'} max_{x != m} (F[t,x] - F[t,m])``,
   ``g'`` the smallest gap in use at ``(m, n)``: if the attention on ``m`` is ``a``,

       logit(x) - logit(m) <= mu[x] - mu[m] + dH[q] + pi_m[x] + a R_m[x] + (1 - a) W
                           <= base + dH[q] + (a - abar) (R* - W),
       base = max_{x != m} (mu[x] - mu[m] + pi_m[x] + abar R_m[x]) + (1 - abar) W,

   with ``R*`` the largest ``R_m[x]`` if ``a >= abar``, else the smallest. For each ``x`` the first
   form is affine in ``a``, so its maximum is at an end: at ``a_lo`` if no ``R_m[x]`` exceeds ``W``,
   at ``a_hi`` if none is below it, else at either, and both are tried. If the last form is negative
   there, every sequence of the class is right.
3. The class without smaller tokens is right if ``mu[x] - mu[m] + dH[m] + R_m[x] + pi_m[x] < 0`` for
   every ``x != m``.

Classes with different ``(q, m, n)`` are disjoint, so their sizes add up. Comparisons are made on
outer ends of enclosures; ``a_lo``, ``a_hi``, ``W`` and the rest are exact float64 numbers once they
are rounded outward.

Cost: O(v^2 x) for F (never approximated, as x = v) and O(v^2 k) here, beside the parts' own; the
parts say what they form. Unexplained dimension: ``v + v x`` (G, F) and the parts'.
Source: arXiv 2406.11779; docs/theory.md lists the repairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import comb
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float64, Int32

from .._claim import ClassCount, Proved, conclude, require_fit
from .._enclosure import Ball, check_arithmetic, reciprocal_sqrt
from .._errors import MalformedError, OptionError, TaskError
from .._ledger import Ledger
from .._model import Model
from .._tasks import MaxOfK, Task
from .._tick import Tick, no_tick
from .._witness import require_array
from ._attention_error import ATTENTION_ERRORS, AttentionError, Directions, QKFactors
from ._direct_path import DIRECT_PATHS, DirectPath
from ._position_mass import PositionMass, attention_range

_LONGEST = 1e100
"""Of a component of a direction, so that no product overflows because of it."""


@final
@dataclass(frozen=True)
class Averaging:
    """Whether the attention is centred on ``abar`` or on 0 when ``x`` is maximised over."""

    name: str
    centred: bool


AVERAGINGS = {
    part.name: part
    for part in (Averaging("mean_query+diff", True), Averaging("drop_average", False))
}


@final
@dataclass(frozen=True)
class SubcubicOptions:
    """The three parts of a strategy."""

    direct: DirectPath = field(default_factory=lambda: DIRECT_PATHS["max_diff_exact"])
    averaging: Averaging = field(default_factory=lambda: AVERAGINGS["mean_query+diff"])
    attention_error: AttentionError = field(
        default_factory=lambda: ATTENTION_ERRORS["exact_EQKE+max_diff_exact"]
    )

    @staticmethod
    def parse(values: Mapping[str, int | str]) -> "SubcubicOptions":
        """The parts with these names; raises OptionError with the valid ones."""
        parts = {
            "direct": DIRECT_PATHS,
            "averaging": AVERAGINGS,
            "attention_error": ATTENTION_ERRORS,
        }
        for option, name in values.items():
            if name not in parts[option]:
                raise OptionError(f"{option} = {name}: known are {', '.join(parts[option])}")
        return SubcubicOptions(**{option: parts[option][str(n)] for option, n in values.items()})  # type: ignore[arg-type]

    def as_claim(self) -> dict[str, int | str]:
        """The names of the parts."""
        return {
            "direct": self.direct.name,
            "averaging": self.averaging.name,
            "attention_error": self.attention_error.name,
        }


class SubcubicWitness(NamedTuple):
    """Choices; all are sound. Directions of 0 project nothing."""

    gap: Int32[np.ndarray, "q m n"]
    """Of each class that is claimed right; 0 for the others."""
    average: Float64[np.ndarray, "m n"]
    """``abar``; unused if the averaging part is drop_average."""
    query_directions: Float64[np.ndarray, "2 v"]
    key_directions: Float64[np.ndarray, "2 v"]
    W_Q_direction: Float64[np.ndarray, " e"]
    """``e = d_model + 1``: the last component is that of the bias."""
    W_K_direction: Float64[np.ndarray, " e"]
    residual_direction: Float64[np.ndarray, " d"]
    """Of the direct path, for svd_query+max_diff."""


def subcubic(
    model: Model,
    task: Task,
    options: SubcubicOptions,
    tick: Tick = no_tick,
    witness: SubcubicWitness | None = None,
) -> Proved:
    """Prove a lower bound on the accuracy by the theorem above."""
    require_fit(task, model)
    if not isinstance(task, MaxOfK):
        raise TaskError(
            f"the theorem subcubic is about tasks max:k=...,v=..., not {task.name}: use additive"
        )
    if witness is None:
        raise MalformedError("the theorem subcubic needs a witness: gaps and directions")
    check_arithmetic()
    v, k, d = model.d_vocab, model.n_ctx, model.W_E.shape[1]
    gap, directions, average, residual = _checked(witness, v, k, d)
    ledger = Ledger()
    tick(0, 3)
    parts = strategy_parts(model, options, directions, residual, ledger)
    tick(1, 3)
    right = _certified(parts, gap, average if options.averaging.centred else None, k, ledger)
    tick(2, 3)
    by_class: list[ClassCount] = []
    for label in range(v):
        for query in range(label + 1):
            correct = 0
            for n in np.flatnonzero(right[query, label]).tolist():
                free = n - (query != label)
                choices = label - int(gap[query, label, n]) + 1 if n else 1
                correct += comb(k - 1, free) * choices**free
                ledger.point(3)
            size = (label + 1) ** (k - 1) - (0 if query == label else label ** (k - 1))
            if size:
                by_class.append(ClassCount(query, label, size, correct))
    x = model.d_vocab_out
    return conclude(
        theorem="subcubic",
        options=options.as_claim(),
        tables=model,
        task=task,
        by_class=by_class,
        undecided=task.total - sum(part.correct for part in by_class),
        unexplained_dimension=v
        + v * x
        + options.direct.unexplained_dimension(v, d)
        + options.attention_error.unexplained_dimension(v),
        ledger=ledger,
        witness=witness,
    )


def _checked(
    witness: SubcubicWitness, v: int, k: int, d: int
) -> tuple[np.ndarray, Directions, np.ndarray, np.ndarray]:
    gap = require_array("gap", witness.gap, np.int32, (v, v, k))
    if (gap < 0).any() or (gap > v).any():
        raise MalformedError(f"tensor gap holds {int(np.abs(gap).max())}: gaps are 0 to v = {v}")
    directions = Directions(
        require_array("query_directions", witness.query_directions, np.float64, (2, v)),
        require_array("key_directions", witness.key_directions, np.float64, (2, v)),
        require_array("W_Q_direction", witness.W_Q_direction, np.float64, (d + 1,)),
        require_array("W_K_direction", witness.W_K_direction, np.float64, (d + 1,)),
    )
    average = require_array("average", witness.average, np.float64, (v, k))
    residual = require_array("residual_direction", witness.residual_direction, np.float64, (d,))
    if (average < 0).any() or (average > 1).any():
        raise MalformedError("tensor average holds a number outside 0 .. 1: it is an attention")
    for name, array in {**directions._asdict(), "residual": residual}.items():
        if (np.abs(array) > _LONGEST).any():
            raise MalformedError(f"tensor {name} direction exceeds {_LONGEST}: scale it to 1")
    return gap, directions, average, residual


class Parts(NamedTuple):
    """What the classes are decided from."""

    approximation: Ball
    """A~ [q, t]"""
    error: Float64[np.ndarray, " q"]
    mass: PositionMass
    shared: Ball
    """mu[x] - mu[m] + pi_m[x], [m, x]"""
    dH: Float64[np.ndarray, " q"]
    R: Ball
    """F[m,x] - F[m,m], [m, x]"""
    wrong: Float64[np.ndarray, "t m"]
    """max_{x != m} (F[t,x] - F[t,m]), rounded up"""


def qk_factors(model: Model, ledger: Ledger) -> tuple[QKFactors, Ball]:
    """The factors of ``A`` with the biases as a last column, and ``B [q, i]``."""
    tokens, positions = Ball.exact(model.W_E, ledger), Ball.exact(model.W_pos, ledger)
    mean = Ball.exact(model.W_pos.mean(axis=0, keepdims=True), ledger)  # any vector would do
    scale = reciprocal_sqrt(model.score_divisor_squared, ledger)

    def stacked(matrix: Ball, row: np.ndarray) -> Ball:
        exact = Ball.exact(row[None, :], ledger)
        return Ball(
            np.concatenate([matrix.mid, exact.mid]),
            np.concatenate([matrix.rad, exact.rad]),
            ledger,
        )

    ones = np.ones(len(model.W_E))
    query = stacked((tokens + positions[-1:]).T, ones).T
    key = stacked((tokens + mean).T, ones).T
    W_Q = stacked(Ball.exact(model.W_Q, ledger), model.b_Q) * scale
    W_K = stacked(Ball.exact(model.W_K, ledger), model.b_K)
    at_position = (positions - mean) @ Ball.exact(model.W_K, ledger)
    return QKFactors(query, W_Q, W_K, key), (query @ W_Q) @ at_position.T


def strategy_parts(
    model: Model,
    options: SubcubicOptions,
    directions: Directions,
    residual: Float64[np.ndarray, " d"],
    ledger: Ledger,
) -> Parts:
    """Everything of a strategy that does not depend on gaps. Cost: O(v^2 x) and the parts'."""

    def exact(values: Float64[np.ndarray, "..."]) -> Ball:
        return Ball.exact(values, ledger)

    factors, B = qk_factors(model, ledger)
    approximation, error = options.attention_error.bound(factors, directions)
    unembed, bias = exact(model.W_U), exact(model.b_U[None, :])
    rows = exact(model.W_E) + exact(model.W_pos[-1:]) + exact(model.b_O[None, :])
    mu, dH = options.direct.bound(rows, unembed, bias, residual)
    v = model.d_vocab
    circuit = exact(model.W_O) @ unembed
    F = (exact(model.W_E) @ exact(model.W_V) + exact(model.b_V[None, :])) @ circuit
    G = (exact(model.W_pos) @ exact(model.W_V)) @ circuit
    labels = np.arange(v)
    diagonal = Ball(F.mid[labels, labels], F.rad[labels, labels], ledger)
    path = (G[:, None, :] - G.T[:v].T[:, :, None]).max(axis=0)  # [m, x]
    shared = mu - mu.T[:v] + path
    return Parts(
        approximation,
        error,
        PositionMass.of(B, ledger),
        shared,
        dH,
        F[:v] - diagonal[:, None],
        _wrong_logit(F, v),
    )


def _wrong_logit(F: Ball, v: int) -> Float64[np.ndarray, "t m"]:
    """From the two largest entries of each row; for a single output any number will do."""
    upper, lower = F.upper(), F.lower()[:, :v]
    F.ledger.point(3 * upper.size)
    if upper.shape[1] == 1:
        return np.full_like(lower, -1.0)
    first = upper.argmax(axis=1)
    rest = upper.copy()
    rest[np.arange(len(rest)), first] = -np.inf
    best = np.where(
        np.arange(v) == first[:, None], rest.max(axis=1)[:, None], upper.max(axis=1)[:, None]
    )
    return np.nextafter(best - lower, np.inf)


def _certified(
    parts: Parts,
    gap: Int32[np.ndarray, "q m n"],
    average: Float64[np.ndarray, "m n"] | None,
    k: int,
    ledger: Ledger,
) -> Bool[np.ndarray, "q m n"]:
    """Which of the claimed classes are right."""
    v = len(gap)
    off = ~np.eye(v, parts.R.shape[1], dtype=bool)
    q, m, n = np.meshgrid(np.arange(v), np.arange(v), np.arange(k), indexing="ij")
    far = m - gap
    claimed = (gap > 0) & (q <= m) & np.where(q == m, (n == 0) | (far >= 0), (n > 0) & (q <= far))
    low, high = attention_range(
        parts.approximation, parts.error, parts.mass, np.maximum(far, 0), ledger
    )

    # W from the smallest gap of the claimed classes of each (m, n).
    nearest = np.where(claimed & (n > 0), far, -1).max(axis=0)  # [m, n]
    prefix = np.maximum.accumulate(parts.wrong, axis=0)  # [t, m]
    ledger.point(parts.wrong.size + gap.size)
    W = prefix[np.maximum(nearest, 0), np.arange(v)[:, None]]  # [m, n]

    # With a single output there is no wrong one: any negative number bounds the empty maximum.
    R_low = np.where(off, parts.R.lower(), np.inf).min(axis=1)
    R_high = np.where(off, parts.R.upper(), -np.inf).max(axis=1)
    if parts.R.shape[1] == 1:
        R_low = R_high = np.full(v, -1.0)
    ledger.point(2 * parts.R.mid.size)

    def exact(values: Float64[np.ndarray, "..."]) -> Ball:
        return Ball.exact(values, ledger)

    abar = np.zeros((v, k)) if average is None else average
    one = exact(np.ones((1, 1)))
    joint = parts.shared[:, None, :] + exact(abar)[:, :, None] * parts.R[:, None, :]
    best = np.where(off[:, None, :], joint.upper(), -np.inf).max(axis=2)
    ledger.point(joint.mid.size)
    if parts.R.shape[1] == 1:
        best = np.full((v, k), -1.0)
    base = exact(best) + (one - exact(abar)) * exact(W)  # [m, n]

    def margin(a: Float64[np.ndarray, "q m n"]) -> Float64[np.ndarray, "q m n"]:
        above = a >= abar
        R = np.where(above, R_high[:, None], R_low[:, None])
        ledger.point(a.size)
        change = (exact(a) - exact(abar)) * (exact(R) - exact(W)[None])
        return (base[None] + exact(parts.dH)[:, None, None] + change).upper()

    at_low, at_high = margin(low), margin(high)
    only_low = (R_high[:, None] <= W)[None]
    only_high = (R_low[:, None] >= W)[None]
    right = np.where(
        only_low, at_low < 0, np.where(only_high, at_high < 0, (at_low < 0) & (at_high < 0))
    )
    ledger.point(3 * right.size)

    # n = 0: all tokens equal.
    alone = parts.shared + parts.R + exact(parts.dH)[:, None]
    constant = (np.where(off, alone.upper(), -np.inf) < 0).all(axis=1)
    right[np.arange(v), np.arange(v), 0] = constant
    return right & claimed
