"""Witnesses of the sub-cubic family: directions by SVD, gaps by certified count.

For each label ``m`` and number ``n`` of smaller tokens one smallest gap fixes ``W`` and ``abar``;
each query then takes the smallest gap, not below it, at which its class is right. The smallest gap
that certifies most sequences is kept. What does not depend on the direct path or the averaging (the
attention at every gap) is computed once for all strategies that share it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from ..kernel import Model, SubcubicOptions, SubcubicWitness, Task, Tick, no_tick, require_fit
from ..kernel._ledger import Ledger
from ..kernel.theorems._attention_error import Directions
from ..kernel.theorems._position_mass import attention_range
from ..kernel.theorems.subcubic import Parts, qk_factors, strategy_parts

_LARGEST_GAP = 64
"""Larger gaps are not tried: so few sequences have them that other classes matter more."""
_ROOM = 1e-9
"""A class is claimed only if its bound stays this far below 0, so that every machine agrees."""


def find_subcubic_witness(
    model: Model, task: Task, options: SubcubicOptions, tick: Tick = no_tick
) -> SubcubicWitness:
    """The witness of one strategy. Cost: O(v^3 k log v)."""
    return next(find_subcubic_witnesses(model, task, [options], tick))


def find_subcubic_witnesses(
    model: Model, task: Task, strategies: Sequence[SubcubicOptions], tick: Tick = no_tick
) -> Iterator[SubcubicWitness]:
    """The witnesses of several strategies, in order. Cost of each: O(v^3 k log v)."""
    require_fit(task, model)
    directions, residual = find_directions(model)
    attention: dict[str, Float64[np.ndarray, "g q m n"]] = {}
    for done, options in enumerate(strategies):
        tick(done, len(strategies))
        parts = strategy_parts(model, options, directions, residual, Ledger())
        name = options.attention_error.name
        if name not in attention:
            attention.clear()  # strategies that share it are asked for one after the other
            attention[name] = _attention_by_gap(parts, task.k)
        gap, average = _Search(parts, attention[name], options.averaging.centred).best()
        yield SubcubicWitness(
            gap=gap,
            average=average,
            query_directions=directions.query,
            key_directions=directions.key,
            W_Q_direction=directions.W_Q,
            W_K_direction=directions.W_K,
            residual_direction=residual,
        )


def find_directions(model: Model) -> tuple[Directions, Float64[np.ndarray, " d"]]:
    """First singular vectors of the QK circuit, of what is left of its factors, and of the direct
    path's rows."""
    factors = qk_factors(model, Ledger())[0]
    query, W_Q, W_K, key = (factor.mid for factor in factors)
    left, _, right = np.linalg.svd((query @ W_Q) @ (key @ W_K).T)
    rows = model.W_E + model.W_pos[-1] + model.b_O
    weights = np.linalg.svd(rows @ model.W_U, full_matrices=False)[0][:, 0]
    return Directions(
        np.stack([left[:, 0], _first_of_rest(query, left[:, 0])]),
        np.stack([right[0], _first_of_rest(key, right[0])]),
        _first(W_Q),
        _first(W_K),
    ), np.ascontiguousarray(weights @ rows)


def _first(matrix: Float[np.ndarray, "n c"]) -> Float64[np.ndarray, " n"]:
    return np.ascontiguousarray(np.linalg.svd(matrix, full_matrices=False)[0][:, 0])


def _first_of_rest(
    matrix: Float[np.ndarray, "n c"], direction: Float[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    return _first(matrix - np.outer(direction, direction @ matrix))


def _attention_by_gap(parts: Parts, k: int) -> Float64[np.ndarray, "g q m n"]:
    """``a_lo`` for every gap ``1 .. v-1``; grows with the gap where there is room for it."""
    v = len(parts.dH)
    labels = np.arange(v)
    ledger = Ledger()
    result = np.empty((max(min(v - 1, _LARGEST_GAP), 1), v, v, k))
    for g in range(1, len(result) + 1):
        far = np.broadcast_to(np.maximum(labels - g, 0)[None, :, None], (v, v, k))
        result[g - 1] = attention_range(
            parts.approximation, parts.error, parts.mass, far.astype(np.int64), ledger
        )[0]
    return np.maximum.accumulate(result, axis=0)


@dataclass
class _Search:
    parts: Parts
    attention: Float64[np.ndarray, "g q m n"]
    centred: bool

    def best(self) -> tuple[np.ndarray, Float64[np.ndarray, "m n"]]:
        """The gaps of the claimed classes, and ``abar``."""
        parts = self.parts
        gaps, v, _, k = self.attention.shape
        off = ~np.eye(v, parts.R.shape[1], dtype=bool)
        R = parts.R.mid
        lone = R.shape[1] == 1
        R_high = np.where(off, R, -np.inf).max(axis=1) if not lone else np.full(v, -1.0)
        R_low = np.where(off, R, np.inf).min(axis=1) if not lone else np.full(v, -1.0)
        shared = parts.shared.mid
        prefix = np.maximum.accumulate(parts.wrong, axis=0)
        q, m, n = np.meshgrid(np.arange(v), np.arange(v), np.arange(k), indexing="ij")
        ways = _binomials(k)
        best_count = np.zeros((v, k))
        best_gap = np.zeros((v, v, k), dtype=np.int32)
        best_average = np.zeros((v, k))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            for g in [*range(1, min(gaps, 12) + 1), *range(13, gaps + 1, 1 if v <= 64 else 4)]:
                low = self.attention[g - 1]
                defined = (m >= g) & (n > 0) & ((q == m) | (q <= m - g))
                W = prefix[np.maximum(np.arange(v) - g, 0), np.arange(v)][:, None]  # [m, 1]
                average = np.zeros((v, k))
                if self.centred:
                    number = defined.sum(axis=0)
                    average = np.where(defined, low, 0.0).sum(axis=0) / np.maximum(number, 1)
                    average = np.clip(average, 0.0, 1.0)
                joint = shared[:, None, :] + average[:, :, None] * R[:, None, :]
                base = np.where(off[:, None, :], joint, -np.inf).max(axis=2) if not lone else -1.0
                need = base + (1 - average) * W + parts.dH[:, None, None] + _ROOM
                steep, flat = W - R_low[:, None], W - R_high[:, None]
                enough = average + np.where(need > 0, need / flat, need / steep) + _ROOM
                enough = np.where(flat > 0, enough, np.inf)
                # The smallest gap at which the attention is enough.
                wanted = np.maximum(_first_at_least(self.attention, enough) + 1, g)
                far = m - wanted
                holds = defined & (wanted <= gaps) & (far >= 0) & ((q == m) | (q <= far))
                free = np.where(q == m, n, n - 1)
                size = np.where(holds, ways[np.maximum(free, 0)] * (far + 1.0) ** free, 0.0)
                count = size.sum(axis=0)
                better = count > best_count
                best_count = np.where(better, count, best_count)
                best_gap = np.where(better[None], np.where(holds, wanted, 0), best_gap)
                best_average = np.where(better, average, best_average)
        alone = shared + R + parts.dH[:v, None]
        constant = np.where(off, alone, -np.inf).max(axis=1) < -_ROOM
        best_gap[np.arange(v), np.arange(v), 0] = constant
        return best_gap.astype(np.int32), best_average


def _first_at_least(
    rising: Float64[np.ndarray, "g q m n"], wanted: Float[np.ndarray, "q m n"]
) -> Int64[np.ndarray, "q m n"]:
    """The first index along ``g`` at which ``rising`` reaches ``wanted``; their number if none."""
    low = np.zeros(wanted.shape, dtype=np.int64)
    high = np.full(wanted.shape, len(rising), dtype=np.int64)
    for _ in range(len(rising).bit_length() + 1):
        middle = np.minimum((low + high) // 2, len(rising) - 1)
        reached = np.take_along_axis(rising, middle[None], axis=0)[0] >= wanted
        high = np.where(reached & (low < high), middle, high)
        low = np.where(~reached & (low < high), middle + 1, low)
    return low


def _binomials(k: int) -> Float64[np.ndarray, " k"]:
    row = np.ones(k)
    for c in range(1, k):
        row[c] = row[c - 1] * (k - c) / c
    return row
