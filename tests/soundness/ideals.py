"""What each theorem would prove in plain real arithmetic: its statement, word by word, in numpy.

Written from docs/theory.md and the theorems' docstrings alone, by enumeration: no automaton, no
polynomial, no integer table, no bin. Numbers are float64, so each count comes as a pair. ``most``
counts what the theorem would prove if every quantity were a little more favourable than it is (by
far more than a float64 sum or a unit of the kernel's integer tables): the kernel must not exceed
it. ``least`` is the same with everything a little less favourable, and with all that binning can
lose: the truth must not fall below it, nor, where it proves as much as it says, the kernel.
"""

from collections.abc import Callable, Iterable
from itertools import combinations
from math import comb
from typing import Any, NamedTuple

import numpy as np

from compactproofs.kernel import Model

TOLERANCE = 2.0**-22
"""Of the largest weight times the largest logit of a class: 100 units of the integer tables."""


class RealTables(NamedTuple):
    """Section 2 of docs/theory.md, textbook style."""

    w: np.ndarray
    """``[i, q, t]``, each query divided by its largest."""
    o: np.ndarray
    """``[i, t, x]``"""
    h: np.ndarray
    """``[q, x]``"""

    @property
    def size(self) -> float:
        """The largest logit of a part: what the kernel's grid is relative to."""
        return float(max(np.abs(self.o).max(), np.abs(self.h).max())) or 1.0


class Between(NamedTuple):
    """Sequences of a class that the ideal theorem proves right."""

    least: int
    most: int


def real_tables(model: Model) -> RealTables:
    """Scores, values and direct logits of every query, token and position."""
    m = model
    residual = m.W_E[None] + m.W_pos[:, None]  # [i, t, d]
    query = residual[-1] @ m.W_Q + m.b_Q
    key = residual @ m.W_K + m.b_K
    scores = np.einsum("qh,ith->iqt", query, key) / float(m.score_divisor_squared) ** 0.5
    w = np.exp(scores - scores.max(axis=(0, 2), keepdims=True))
    o = (residual @ m.W_V + m.b_V) @ m.W_O @ m.W_U
    return RealTables(w, o, (residual[-1] + m.b_O) @ m.W_U + m.b_U)


class Case(NamedTuple):
    """A class and the tables that it is decided from."""

    tables: RealTables
    q: int
    m: int
    words: np.ndarray
    """Every word of the class, ``[n, k-1]``."""

    tokens: np.ndarray
    """Those that the budget of slack is taken over, in words of the class or not."""

    @property
    def wrong_outputs(self) -> np.ndarray:
        """The outputs other than the label."""
        return np.delete(np.arange(self.tables.h.shape[1]), self.m)

    def near(self, bracket: np.ndarray) -> np.ndarray:
        """``w_i(q,t) bracket[..., t, x]`` for every position; ``[i, t, x]``."""
        return self.tables.w[:, self.q, :, None] * bracket

    def exact(self) -> np.ndarray:
        """``f_i(t)`` of T4, ``[i, t, x]`` over the wrong outputs."""
        _, o, h = self.tables
        x, q, m = self.wrong_outputs, self.q, self.m
        return self.near(h[q, x] - h[q, m] + o[:, :, x] - o[:, :, m, None])

    def tolerance(self) -> float:
        """How far a sum may be off before it counts.

        A class is counted in one unit, which the heaviest token decides, in a word or not.
        """
        w = self.tables.w[:, self.q]
        return TOLERANCE * len(w) * max(w[-1, self.q], w[:-1].max(initial=0.0)) * self.tables.size


def slack_count(case: Case, y: np.ndarray, bins: int, way: int, units: float = 1.0) -> int:
    """Words that T5 leaves wrong, from bounds ``y [i, t, x]`` at all positions.

    bins: 0 for the worst case only. way: 1 for the most that can be proved, -1 for the least.
    """
    tolerance = way * units * case.tolerance()
    at_query, before = y[-1, case.q], y[:-1]

    def sums(rows: np.ndarray, own: np.ndarray) -> np.ndarray:
        return own + sum(rows[i, case.words[:, i]] for i in range(len(rows)))

    def lost(rows: np.ndarray, own: np.ndarray) -> np.ndarray:
        """What a sum may lack and still be counted, because of the width of the bins."""
        highest = rows[:, case.tokens].max(axis=1, initial=-np.inf) if len(rows) else rows[:, 0]
        budget = np.maximum(own + highest.sum(axis=0), 0.0)
        return len(rows) * budget / bins if way < 0 else 0.0 * budget

    total = sums(before, at_query)  # [n, x]
    if total.ndim == 1:
        total = np.broadcast_to(total, (len(case.words), len(total)))
    still = np.flatnonzero(total.max(axis=0) >= tolerance)
    if not still.size:
        return 0
    if not bins:
        return len(case.words)
    rows, own = before[:, :, still], at_query[still]
    each = (total[:, still] >= tolerance - lost(rows, own)).sum()
    joint_rows, joint_own = rows.max(axis=2, keepdims=True), own.max(keepdims=True)
    joint = sums(joint_rows, joint_own) >= tolerance - lost(joint_rows, joint_own)
    return min(len(case.words), int(each), int(joint.sum()) if len(before) else 1)


Choices = Any
"""See ``adversary.Choices``: bins, window, effort, order."""


def additive(case: Case, choices: Choices, way: int) -> int:
    """T4 and T5; the codes of the effort; the first rival where an order is given."""
    f = case.exact()
    size = len(case.words)
    effort = choices.bins if choices.effort is None else int(choices.effort[case.q, case.m])
    if effort == 0:
        return 0
    if effort == -2:
        total = f[-1, case.q] + sum(f[i, case.words[:, i]] for i in range(len(f) - 1))
        total = np.broadcast_to(total, (size, len(case.wrong_outputs)))
        return size - int((total >= way * case.tolerance()).any(axis=1).sum())
    if effort == -1:
        return size - slack_count(case, f, 0, way)
    rows = [] if choices.order is None else choices.order.tolist()
    ours = [row[2:] for row in rows if tuple(row[:2]) == (case.q, case.m)]
    if not ours:
        return size - slack_count(case, f, effort, way)
    column = {int(x): n for n, x in enumerate(case.wrong_outputs)}
    named = [column[x] for x, *_ in ours]
    rest = [n for n in column.values() if n not in named]
    wrong = slack_count(case, f[:, :, rest], effort, way, units=256) if rest else 0
    for group in {g for _, g, *_ in ours}:
        conditions = [
            8 * f[:, :, column[x]] - (e * f[:, :, column[p]] if e else 0.0)
            for x, g, p, e in ours
            if g == group
        ]
        joint = np.max(conditions, axis=0)[:, :, None]
        wrong += slack_count(case, joint, effort, way, units=2.0**16)
    return size - min(size, wrong)


def windowed(case: Case, choices: Choices, way: int) -> int:
    """T6: tokens up to ``m - g`` share prefix extremes of centred products."""
    w, o, h = case.tables
    T = w[:, case.q, :, None] * (o - o.mean(axis=2, keepdims=True) + h[case.q] - h[case.q].mean())
    y = T[:, :, case.wrong_outputs] - T[:, :, case.m, None]
    far = min(case.m - int(choices.window[case.q, case.m]), w.shape[2] - 1)
    if far >= 0:
        shared = T[:-1, : far + 1].max(axis=1)[:, case.wrong_outputs]
        shared = shared - T[:-1, : far + 1, case.m].min(axis=1)[:, None]
        is_far = (np.arange(y.shape[1]) <= far)[:, None]
        y = np.concatenate([np.where(is_far, shared[:, None], y[:-1]), y[-1:]])
    return len(case.words) - slack_count(case, y, choices.bins, way, units=4)


class Parts(NamedTuple):
    """The OV circuit in a token and a position part, and ``pi_m`` for one label."""

    F: np.ndarray
    path: np.ndarray


def parts(case: Case) -> Parts:
    """``F = o(.,0,.)``, ``G[i] = o(t,i,.) - o(t,0,.)`` for any ``t``, ``pi_m``."""
    o = case.tables.o
    G = (o - o[0]).mean(axis=1)
    return Parts(o[0], (G - G[:, case.m, None]).max(axis=0))


def collapsed_cubic(case: Case, choices: Choices, way: int) -> int:
    """T7, first half: one bracket for all wrong outputs."""
    F, path = parts(case)
    H, x, m = case.tables.h[case.q], case.wrong_outputs, case.m
    rho = (F[:, x] - F[:, m, None] + path[x]).max(axis=1)
    c = (H[x] - H[m]).max() + rho
    c[m] = (H[x] - H[m] + F[m, x] - F[m, m] + path[x]).max()
    wrong = slack_count(case, case.near(c[:, None]), choices.bins, way, units=16)
    return len(case.words) - wrong


def collapsed_subcubic(case: Case, choices: Choices, way: int) -> int:
    """T7, second half: spreads of H around its mean row and of F; far tokens share theirs."""
    F, path = parts(case)
    w, _, h = case.tables
    q, x, m = case.q, case.wrong_outputs, case.m
    mu = h.mean(axis=0)
    dH, D = np.ptp(h[q] - mu), np.ptp(F, axis=1)
    r0 = (mu[x] - mu[m] + path[x]).max()
    c = dH + r0 + D
    c[m] = dH + (mu[x] - mu[m] + F[m, x] - F[m, m] + path[x]).max()
    y = case.near(c[:, None])
    far = min(m - int(choices.window[q, m]), w.shape[2] - 1)
    if far >= 0:
        among = w[:-1, q, : far + 1]
        heavy = among.max(axis=1) if r0 > 0 else among.min(axis=1)
        shared = (among * (dH + D[: far + 1])).max(axis=1) + r0 * heavy
        y[:-1, : far + 1] = shared[:, None, None]
    return len(case.words) - slack_count(case, y, choices.bins, way, units=16)


def cubic(case: Case, choices: Choices, way: int) -> int:
    """The cubic theorem: every set of positions, every token."""
    F, path = parts(case)
    w, _, h = case.tables
    q, x, m = case.q, case.wrong_outputs, case.m
    k, tolerance = len(w), way * 16 * case.tolerance()
    joint = h[q, x] - h[q, m] + F[:, x] - F[:, m, None] + path[x]  # [t, x]
    c = (h[q, x] - h[q, m]).max() + (F[:, x] - F[:, m, None] + path[x]).max(axis=1)
    if q == m:
        right = int((joint[m] < way * 16 * TOLERANCE * case.tables.size).all())
    else:
        alone = w[:-1, q, m].sum() * joint[m] + w[-1, q, q] * joint[q]
        right = int((alone < tolerance).all())
    for n in range(1, k if q == m else k - 1):
        members = 0
        for z in range(m):
            members += all(
                w[-1, q, q] * c[q]
                + sum(w[i, q, z] * c[z] if i in N else w[i, q, m] * c[m] for i in range(k - 1))
                < tolerance
                for N in combinations(range(k - 1), n)
            )
        right += comb(k - 1, n) * members**n
    return right


def brute_force(case: Case, choices: Choices, way: int) -> int:
    """T4: every sequence by the sign of its sums."""
    f = case.exact()
    total = f[-1, case.q] + sum(f[i, case.words[:, i]] for i in range(len(f) - 1))
    total = np.broadcast_to(total, (len(case.words), len(case.wrong_outputs)))
    return int((total < way * case.tolerance()).all(axis=1).sum())


IDEALS: dict[str, Callable[[Case, Choices, int], int]] = {
    "additive": additive,
    "brute-force": brute_force,
    "collapsed-cubic": collapsed_cubic,
    "collapsed-subcubic": collapsed_subcubic,
    "cubic": cubic,
    "windowed": windowed,
}


def ideal_counts(
    theorem: str,
    choices: Choices,
    model: Model,
    tokens: np.ndarray,
    label: np.ndarray,
    classes: Iterable[tuple[int, int]] | None = None,
) -> dict[tuple[int, int], Between]:
    """What the theorem would prove of each class (of all that have a sequence, if not given)."""
    tables = real_tables(model)
    of_max = np.array_equal(label, tokens.max(axis=1))
    pairs = np.stack([tokens[:, -1], label], axis=1)
    wanted = classes or sorted({(q, m) for q, m in pairs.tolist()})
    found: dict[tuple[int, int], Between] = {}
    for q, m in wanted:
        words = tokens[(pairs == (q, m)).all(axis=1), :-1]
        if tables.h.shape[1] == 1:
            found[q, m] = Between(len(words), len(words))
            continue
        case = Case(tables, q, m, words, np.arange(m + 1 if of_max else model.d_vocab))
        prove = IDEALS[theorem]
        found[q, m] = Between(prove(case, choices, -1), prove(case, choices, 1))
    return found
