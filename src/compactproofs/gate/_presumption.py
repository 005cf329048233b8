"""What the rules so far make one presume of an input: a distribution that ranks and never admits.

The presumptive model is a product, variable by variable in their order, of distributions given the
variables before:

    P(v = j | earlier) is proportional to base(j | earlier) exp(sum of lambda_r over rules r),

r running over the couplings whose antecedent holds and whose consequent is j. The base is uniform,
or a table given the class (a common cause), or a Gaussian around a linear combination of earlier
sites. Each lambda is what makes the presumed P(consequent | antecedent) the rule's number, which
is maximum entropy given the base: independence wherever no rule speaks.

Notation: n inputs, v variables, j their values, E events of all variables together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

_LEAST = 1e-9


@dataclass(frozen=True)
class Coupling:
    """P(the events ``then`` | the events ``given``) = ``p``, between ``low`` and ``high``.

    Events are (variable, value); ``then`` is one event of a later variable than all of ``given``.
    """

    given: tuple[tuple[int, int], ...]
    then: tuple[int, int]
    p: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class ClassTable:
    """P(variable = j | class = c) for one variable: independent of everything else given c."""

    variable: int
    table: Float64[np.ndarray, "c j"]


@dataclass(frozen=True, eq=False)
class LinearBase:
    """The variable's own combination of sites is Gaussian around one of earlier variables.

    ``weights`` [v] act on the centres of the bins of the earlier variables.
    """

    variable: int
    weights: Float64[np.ndarray, " v"]
    intercept: Float64[np.ndarray, " c"]
    """By class; the same number everywhere unless the class is a common cause, too."""
    sd: float
    edges: Float64[np.ndarray, " b"]


Change = Coupling | ClassTable | LinearBase


@dataclass(frozen=True, eq=False)
class Presumption:
    """The model of the changes made so far; fitted on ``mine`` alone. Immutable.

    ``centres`` [v, J] are the mean values of the bins, 0 where a variable is no bin.
    """

    sizes: tuple[int, ...]
    centres: Float64[np.ndarray, "v J"]
    mine: Int[np.ndarray, "n v"]
    bases: Mapping[int, ClassTable | LinearBase] = field(default_factory=dict)
    couplings: Mapping[int, tuple[Coupling, ...]] = field(default_factory=dict)
    fitted: Mapping[int, "Fitted"] = field(default_factory=dict)

    def with_changes(self, changes: Sequence[Change], *, draft: bool = False) -> "Presumption":
        """The model after ``changes``; the variables they touch are fitted again on ``mine``.

        A ``draft`` takes the rules' own numbers for their low and high ends.
        """
        bases, couplings, fitted = dict(self.bases), dict(self.couplings), dict(self.fitted)
        touched = set()
        for change in changes:
            if isinstance(change, Coupling):
                v = change.then[0]
                couplings[v] = (*couplings.get(v, ()), change)
            else:
                v = change.variable
                bases[v] = change
            touched.add(v)
        new = replace(self, bases=bases, couplings=couplings)
        for v in touched:
            if v in couplings:
                fitted[v] = new._fit(v, draft)
        return replace(new, fitted=fitted)

    def log_conditional(
        self, v: int, codes: Int[np.ndarray, "n v"], end: int = 0
    ) -> Float64[np.ndarray, "n j"]:
        """log P(v = j | earlier values), nats; ``end`` 1 or 2 takes the rules' low or high ends."""
        logits = self._log_base(v, codes)
        if v in self.fitted:
            logits = logits.copy()
            rules, lambdas = self.fitted[v]
            for rule, strength in zip(rules, lambdas[end], strict=True):
                logits[:, rule.then[1]] += strength * _holds(rule.given, codes)
            logits -= _log_sum(logits)[:, None]
        return logits

    def surprise(self, codes: Int[np.ndarray, "n v"]) -> Float64[np.ndarray, " n"]:
        """-log2 P(input), bits. Cost: n times the values and couplings."""
        total = np.zeros(len(codes))
        rows = np.arange(len(codes))
        for v in range(len(self.sizes)):
            total -= self.log_conditional(v, codes)[rows, codes[:, v]]
        return total / np.log(2)

    def surprise_of(self, v: int, codes: Int[np.ndarray, "n v"]) -> float:
        """The part of variable v in the surprise of all inputs together, nats."""
        return -float(self.log_conditional(v, codes)[np.arange(len(codes)), codes[:, v]].sum())

    def upper_surprise(self, codes: Int[np.ndarray, "n v"]) -> Float64[np.ndarray, " n"]:
        """-log2 of the presumptive lower likelihood, bits: each factor at its worst end."""
        total = np.zeros(len(codes))
        rows = np.arange(len(codes))
        for v in range(len(self.sizes)):
            ends = [self.log_conditional(v, codes, end) for end in range(3)]
            total -= np.min([found[rows, codes[:, v]] for found in ends], axis=0)
        return total / np.log(2)

    def sample(self, n: int, rng: np.random.Generator) -> "Sampled":
        """``n`` draws, each variable given the earlier ones, and the probabilities they came from.

        Cost: n times the values and couplings.
        """
        codes = np.zeros((n, len(self.sizes)), dtype=np.int64)
        given, held = [], []
        for v, size in enumerate(self.sizes):
            p = np.exp(self.log_conditional(v, codes))
            codes[:, v] = (rng.random((n, 1)) > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)
            given.append(p)
            held.append(codes[:, v, None] == np.arange(size))
        return Sampled(np.concatenate(held, axis=1), np.concatenate(given, axis=1))

    def _log_base(self, v: int, codes: Int[np.ndarray, "n v"]) -> Float64[np.ndarray, "n j"]:
        base = self.bases.get(v)
        if base is None:
            return np.full((len(codes), self.sizes[v]), -np.log(self.sizes[v]))
        if isinstance(base, ClassTable):
            return np.log(base.table)[codes[:, 0]]
        used = np.flatnonzero(base.weights)
        mean = (
            base.intercept[codes[:, 0]]
            + self.centres[used[None], codes[:, used]] @ base.weights[used]
        )
        return log_bins(mean, base.sd, base.edges)

    def _fit(self, v: int, draft: bool) -> "Fitted":
        base = self._log_base(v, self.mine)
        rules = list(self.couplings[v])
        shares = np.exp(base).mean(axis=0)
        seen = np.bincount(self.mine[:, v], minlength=self.sizes[v]) / len(self.mine)
        calibrated = np.abs(shares - seen) <= 3 * np.sqrt(shares * (1 - shares) / len(self.mine))
        if calibrated.all() and all(rule.given for rule in rules):
            # What the base says of v alone is true, and stays so.
            rules += [Coupling((), (v, j), p, p, p) for j, p in enumerate(shares.tolist()[:-1])]
        given = np.stack([_holds(rule.given, self.mine) for rule in rules], axis=1)
        then = np.array([rule.then[1] for rule in rules])
        found = []
        for end in ("p",) if draft else ("p", "low", "high"):
            target = np.array([getattr(rule, end) for rule in rules])
            found.append(_matched(base, given, then, target))
        return Fitted(tuple(rules), np.stack([found[0], found[0], found[0]] if draft else found))


class Fitted(NamedTuple):
    """Couplings of one variable, its own shares among them, and their lambdas."""

    rules: tuple[Coupling, ...]
    lambdas: Float64[np.ndarray, "3 r"]
    """At the numbers of the rules, at their low ends, at their high ends."""


class Sampled(NamedTuple):
    """Draws of a presumption: which events hold, and how probable each was given the earlier."""

    held: Bool[np.ndarray, "n E"]
    given: Float64[np.ndarray, "n E"]

    def pairs(self) -> Float64[np.ndarray, "E E"]:
        """P(row event and column event), the column's variable later; else meaningless."""
        return self.held.T.astype(np.float64) @ self.given / len(self.held)

    def with_last(self, events: Sequence[int]) -> Float64[np.ndarray, " E"]:
        """P(all of ``events`` and column event), the column's variable later than theirs."""
        mask = self.held[:, list(events)].all(axis=1)
        return self.given[mask].sum(axis=0) / len(self.held)


def log_bins(
    mean: Float64[np.ndarray, " n"], sd: float, edges: Float64[np.ndarray, " b"]
) -> Float64[np.ndarray, "n j"]:
    """log P(bin j) of Gaussians of one standard deviation, mixed with 1 % of the uniform."""
    from scipy.special import ndtr

    below = ndtr((edges - mean[:, None]) / sd)
    ends = np.concatenate([np.zeros((len(mean), 1)), below, np.ones((len(mean), 1))], axis=1)
    p = np.diff(ends, axis=1)
    return np.log(0.99 * np.maximum(p, 0.0) + 0.01 / p.shape[1])


def _holds(
    events: tuple[tuple[int, int], ...], codes: Int[np.ndarray, "n v"]
) -> Bool[np.ndarray, " n"]:
    result = np.ones(len(codes), dtype=bool)
    for variable, value in events:
        result &= codes[:, variable] == value
    return result


def _log_sum(logits: Float64[np.ndarray, "n j"]) -> Float64[np.ndarray, " n"]:
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1))


def _matched(
    base: Float64[np.ndarray, "n j"],
    given: Bool[np.ndarray, "n r"],
    then: Int[np.ndarray, " r"],
    target: Float64[np.ndarray, " r"],
) -> Float64[np.ndarray, " r"]:
    """The lambdas at which the mean of P(then | input) over ``given`` is ``target``; Newton.

    Maximum entropy up to the sampling noise of the targets and a little more: each lambda has a
    ridge of that size, so that targets that contradict each other a little, or say 0 or 1, give
    moderate lambdas. The dual is convex, and every step lowers it.
    """
    n = max(len(base), 1)
    mass = given.sum(axis=0) / n
    wanted = mass * np.clip(target, 1e-4, 1 - 1e-4)
    ridge = wanted * (1 - np.clip(target, 1e-4, 1 - 1e-4)) / n + 1e-3 * mass + 1e-9
    same = (then[:, None] == then[None]).astype(np.float64)
    allowed = np.zeros((len(then), base.shape[1]))
    allowed[np.arange(len(then)), then] = 1.0
    weights = given.astype(np.float64)

    def at(lambdas: Float64[np.ndarray, " r"]):
        logits = base + (weights * lambdas) @ allowed
        log_sum = _log_sum(logits)
        value = log_sum.mean() - lambdas @ wanted + 0.5 * lambdas @ (ridge * lambdas)
        return value, np.exp(logits - log_sum[:, None])[:, then] * weights

    lambdas = np.zeros(len(then))
    value, p = at(lambdas)
    for _ in range(50):
        gradient = p.mean(axis=0) - wanted + ridge * lambdas
        if np.abs(gradient).max() < 1e-7:
            break
        hessian = same * (p.T @ weights) / n - p.T @ p / n + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        for _ in range(30):
            lower, q = at(lambdas - step)
            if lower < value:
                break
            step = step / 2
        else:
            break
        lambdas, value, p = lambdas - step, lower, q
    return lambdas
