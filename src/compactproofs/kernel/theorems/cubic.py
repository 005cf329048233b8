"""The cubic theorem of Gross et al. (2024), with its denominator cleared. For max-of-k only.

With ``pi_m[x] = max_i (G[i,x] - G[i,m])``, ``dH(q,m) = max_{x != m} (H[q,x] - H[q,m])`` and
``rho_m(t) = max_{x != m} (F[t,x] - F[t,m] + pi_m[x])``, the function of T4 has, for every wrong
output at once, ``f_i(t) <= w_i(q,t) c(t)`` with ``c(t) = dH(q,m) + rho_m(t)``. Sequences with
query ``q`` and maximum ``m`` are told apart by the set ``N`` of positions before the query that
hold a smaller token, ``n = |N|``.

Theorem. For ``n >= 1`` let ``Z`` be the tokens ``z < m`` for which

    w_{k-1}(q,q) c(q) + sum_{i not in N} w_i(q,m) c(m) + sum_{i in N} w_i(q,z) c(z) < 0

for every set ``N`` of size ``n``. Then all ``C(k-1, n) |Z|^n`` sequences whose smaller tokens come
from ``Z`` are right. For ``n = 0`` there is one sequence, decided with the joint maximum of
``H[q,x] - H[q,m] + F[t,x] - F[t,m] + pi_m[x]`` over ``x`` and exact attention.

Proof. Without LayerNorm ``w_i(q,t) = a(t) b_i > 0``. Fix ``N``; a filling ``t_i`` of it by tokens
of ``Z`` has ``sum_{i in N} w_i(q,t_i) c(t_i) = sum b_i h(t_i) <= h(z*) sum b_i`` with ``h = a c``
and ``z*`` the token of ``Z`` where it is largest: the filling is no worse than the constant one by
``z*``, for which the sum is negative (the mixture lemma). The largest left side over ``N`` adds to
``N = {}`` the ``n`` largest differences ``w_i(q,z) c(z) - w_i(q,m) c(m)`` (the position lemma,
exact here). Rounding is outward throughout.

Cost: O(v^3 k log k) and O(v^2 x). Unexplained dimension ``v^2 + v k + v x + k x + v x``.
Source: reference proofs of arXiv 2406.11779; docs/theory.md section 3.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Int64

from .._claim import ClassCount, Proved, conclude, require_fit
from .._errors import TaskError
from .._integers import VerifiedTables
from .._ledger import Counted, Ledger
from .._split import SplitTables, largest_difference
from .._tables import unexplained_dimension
from .._tasks import MaxOfK, Task
from .._tick import Tick, no_tick


@final
@dataclass(frozen=True)
class CubicOptions:
    """The theorem has none."""


def cubic(
    tables: VerifiedTables,
    task: Task,
    options: CubicOptions,
    tick: Tick = no_tick,
    witness: None = None,
) -> Proved:
    """Prove a lower bound on the accuracy by the theorem above; it takes no witness."""
    require_fit(task, tables)
    if not isinstance(task.whole, MaxOfK):
        raise TaskError(
            f"the theorem cubic is about tasks max:k=...,v=..., not {task.name}: use additive"
        )
    ledger = tables.start_ledger()
    v, k = task.v, task.k
    by_class: list[ClassCount] = []
    for safe in safe_tokens(tables, task, ledger, tick):
        query = safe.query
        for label in range(query, v):
            correct = int(safe.alone[label - query])
            if k > 1:
                fillings = safe.fillings[label - query].sum(axis=0)
                for n, tokens in enumerate(fillings.tolist(), start=1):
                    if label == query or n < k - 1:
                        correct += comb(k - 1, n) * tokens**n
            ledger.point(3 * k)
            size = (label + 1) ** (k - 1) - (0 if label == query else label ** (k - 1))
            if size:
                by_class.append(ClassCount(query, label, size, correct))
    return conclude(
        theorem="cubic",
        options={},
        tables=tables,
        task=task,
        by_class=by_class,
        undecided=task.total - sum(part.correct for part in by_class),
        unexplained_dimension=unexplained_dimension(v, k, tables.d_vocab_out),
        ledger=ledger,
    )


class SafeTokens(NamedTuple):
    """What the theorem proves right of the sequences with one query."""

    query: int
    alone: Bool[np.ndarray, " m"]
    """For each label ``m >= query`` whether the sequence ``m ... m query`` is right (n = 0)."""
    fillings: Bool[np.ndarray, "m z n"]
    """For each such label and ``n = 1 .. k-1`` which tokens are in ``Z``."""


def safe_tokens(
    tables: VerifiedTables, task: Task, ledger: Ledger, tick: Tick = no_tick
) -> Iterator[SafeTokens]:
    """The sets of the theorem, query by query."""
    brackets = _Brackets(tables, ledger)
    for query in task.queries:
        tick(query, task.v)
        alone = _constant_is_right(brackets, tables, query, ledger)
        several = task.k > 1
        none = np.zeros((len(alone), task.v, 0), dtype=bool)
        yield SafeTokens(
            query, alone, _fillings(brackets, tables, query, ledger) if several else none
        )


@final
class _Brackets:
    """The brackets of the theorem, at most ``2^31`` in size; see ``_split``."""

    __slots__ = ("direct", "path", "rest", "rho", "split")

    def __init__(self, tables: VerifiedTables, ledger: Ledger) -> None:
        """Cost: O(v^2 x)."""
        split = SplitTables(tables, ledger)
        self.split = split
        v = tables.d_vocab
        self.path = np.stack([np.asarray(split.position_path(m)) for m in range(v)])
        self.rest = largest_difference(split.H_high, split.H_low)[:, :v]
        """``dH(q,m)`` [q, m]."""
        rho = [
            (split.F_high + self.path[m])[:, split.wrong(m)].max(axis=1, initial=-(1 << 31))
            - split.F_low[:, m]
            for m in range(v)
        ]
        self.rho = Counted.of(np.stack(rho), ledger)
        """``rho_m(t)`` [m, t]."""


def _fillings(
    brackets: _Brackets, tables: VerifiedTables, query: int, ledger: Ledger
) -> Bool[np.ndarray, "m z n"]:
    """For each label ``m >= query`` and ``n >= 1`` which tokens are in ``Z``."""
    claimed, v, k = tables.claimed, tables.d_vocab, tables.n_ctx
    labels = np.arange(query, v)
    c = brackets.rho[query:] + brackets.rest[query, query:, None]  # [m, t]
    exponent = claimed.weight_exponent[:, query].astype(np.int64)  # [i, t]
    highest = exponent[:-1].max(axis=0)
    # One unit for each pair (m, z), above every exponent in its sum.
    pair = np.maximum(highest[labels, None], highest[None, :])
    unit = np.maximum(pair, exponent[-1, query]) + k.bit_length() + 2
    low = claimed.weight_low[:, query].astype(np.int64).T  # [t, i]
    high = claimed.weight_high[:, query].astype(np.int64).T
    at = exponent.T

    def upper(
        weight_low: Int64[np.ndarray, "*w"],
        weight_high: Int64[np.ndarray, "*w"],
        bracket: Int64[np.ndarray, "*b"],
        by: Int64[np.ndarray, "*y"],
    ) -> Int64[np.ndarray, "*y"]:
        weight = Counted.of(np.where(bracket >= 0, weight_high, weight_low), ledger)
        return -((-(weight * bracket)) >> np.minimum(by, 63))

    by_query = unit - at[query, -1]
    base = upper(low[query, -1:], high[query, -1:], c[:, query, None], by_query)  # [m, z]
    own = c[np.arange(len(labels)), labels][:, None, None]
    largest = upper(
        low[labels, None, :-1],
        high[labels, None, :-1],
        own,
        unit[..., None] - at[labels, None, :-1],
    )  # [m, z, i]
    smaller = upper(
        low[None, :, :-1], high[None, :, :-1], c[..., None], unit[..., None] - at[:, :-1]
    )
    difference = smaller - largest
    ledger.point(difference.size * max(1, (k - 1).bit_length()))  # the sort
    descending = -np.sort(-np.asarray(difference), axis=-1)
    most = Counted.of(descending, ledger).cumsum(axis=-1)
    worst = most + (base + largest.sum(axis=-1))[..., None]
    below = np.arange(v)[None, :] < labels[:, None]
    return np.asarray((worst < 0) & below[..., None])


def _constant_is_right(
    brackets: _Brackets, tables: VerifiedTables, query: int, ledger: Ledger
) -> Bool[np.ndarray, " m"]:
    """For each label ``m >= query`` whether the sequence ``m ... m query`` is right (n = 0)."""
    claimed, v, k = tables.claimed, tables.d_vocab, tables.n_ctx
    split, labels = brackets.split, np.arange(query, v)
    direct = split.H_high[query] - split.H_low[query, labels, None]  # [m, x]
    path = brackets.path[query:] + direct
    at_label = path + (split.F_high[labels] - split.F_low[labels, labels, None])
    at_query = path + (split.F_high[query] - split.F_low[query, labels, None])
    exponent = claimed.weight_exponent[:, query].astype(np.int64)
    own = int(exponent[-1, query])
    before = exponent[:-1, labels]  # [i, m]
    top = np.maximum(before.max(axis=0, initial=own), own) + k.bit_length()
    low = (Counted.of(claimed.weight_low[:-1, query][:, labels], ledger)) >> np.minimum(
        top - before, 63
    )
    high = -(
        -Counted.of(claimed.weight_high[:-1, query][:, labels], ledger)
        >> np.minimum(top - before, 63)
    )
    total_low, total_high = low.sum(axis=0)[:, None], high.sum(axis=0)[:, None]
    by = np.minimum(top - own, 63)
    own_low = (Counted.of(claimed.weight_low[-1:, query, query], ledger) >> by)[:, None]
    own_high = -(-Counted.of(claimed.weight_high[-1:, query, query], ledger) >> by)[:, None]
    labels_part = Counted.of(np.where(at_label >= 0, total_high, total_low), ledger) * at_label
    query_part = Counted.of(np.where(at_query >= 0, own_high, own_low), ledger) * at_query
    margin = np.asarray(labels_part + query_part)  # [m, x]
    margin[np.arange(len(labels)), labels] = -1
    right = np.asarray((margin < 0).all(axis=1))
    # All tokens equal: the weights sum to 1, whatever they are.
    right[0] = bool((np.delete(np.asarray(at_label[0]), query) < 0).all())
    return right
