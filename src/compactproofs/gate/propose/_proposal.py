"""What a proposer is asked and what it answers.

A proposal says P(``then`` | ``given``) in advance, as an interval; it is frozen as it is, and only
data that arrives later can make a rule of it. Its fitted numbers never enter the ledger.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int

from .._events import Pattern, Variable
from .._presumption import Change, Presumption
from .._source import Batch

PROVED_FIRST = (
    "evidence",
    "irrelevance",
    "dead",
    "stable",
    "folded",
    "duplicate",
    "negligible",
    "feature_sum",
    "merge",
    "weights_derived",
    "common_cause",
    "linear",
    "constant",
    "joint",
)
"""Kinds in the order in which they win a tie: certificates first, then the fewest parameters."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """One candidate rule. ``predicted`` is an interval of P(then | given)."""

    kind: str
    given: Pattern
    then: Pattern
    predicted: tuple[float, float]
    without: float | None
    """P(then | given) as presumed without the rule; None where there is nothing to exclude."""
    bits: float
    """Length of the rule's description."""
    gain: float
    """Nats of surprise of the mine data that it removes."""
    changes: tuple[Change, ...] = ()
    """What it adds to the presumptive model."""
    measured: bool = False
    """Whether the held-out number replaces the coupling's own when it is accepted."""
    replaces: tuple[str, ...] = ()
    """Rules that it makes superfluous."""
    certify: Callable[[Any], str] | None = None
    """PROVED kinds: appends the certificate to the gate it is given and returns its id, or raises
    RejectedError. No data is needed then, and no alpha is charged."""

    @property
    def score(self) -> float:
        """Gain less the price of its bits, nats."""
        return self.gain - float(np.log(2)) * self.bits

    @property
    def key(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """Kind and events: what is proposed once is not proposed again."""
        return (
            self.kind,
            tuple(event.id for event in self.given),
            tuple(event.id for event in self.then),
        )


class LayerBelow(NamedTuple):
    """A group's sites, from ``start`` on, are ``x W + b`` of a layer of which moments are known.

    With the means of x by class, the covariance is that within the classes.
    """

    W: Float64[np.ndarray, "a g"]
    b: Float64[np.ndarray, " g"]
    mean: Float64[np.ndarray, "c a"]
    """One row, or one for each class."""
    cov: Float64[np.ndarray, "a a"]
    shares: Float64[np.ndarray, " c"]
    n: int
    """How many inputs the moments are of."""
    start: int
    """The first site of the group."""


class Decoded(NamedTuple):
    """A group's sites, from ``start`` on, are ``features D + b`` up to an error."""

    features: slice
    D: Float64[np.ndarray, "f g"]
    b: Float64[np.ndarray, " g"]
    start: int


class Accepted(NamedTuple):
    """A rule of the ledger, as proposers see it."""

    id: str
    proposal: Proposal


@dataclass(frozen=True, eq=False)
class State:
    """What a proposer may look at: the mine data, the presumption, the weights."""

    variables: tuple[Variable, ...]
    """The class first."""
    mine: Batch
    codes: Int[np.ndarray, "n v"]
    model: Presumption
    below: Mapping[str, LayerBelow] = field(default_factory=dict)
    """By group of sites."""
    decoded: Mapping[str, Decoded] = field(default_factory=dict)
    rules: tuple[Accepted, ...] = ()

    def places(self, pattern: Pattern) -> tuple[tuple[int, int], ...] | None:
        """(variable, value) of the events in the order of the variables; None for other events."""
        numbers = {variable.name: v for v, variable in enumerate(self.variables)}
        if any(event.variable not in numbers for event in pattern):
            return None
        return tuple(sorted((numbers[event.variable], event.code) for event in pattern))

    def events(self, places: tuple[tuple[int, int], ...]) -> Pattern:
        """The events at these places."""
        return tuple(self.variables[v].events[value] for v, value in places)

    def count(self, places: tuple[tuple[int, int], ...]) -> int:
        """How many mine inputs have all of these values."""
        return int(np.all([self.codes[:, v] == value for v, value in places], axis=0).sum())

    def opposite(self, places: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        """With the other value of the last variable if it has two; else unchanged.

        The two say the same, and of the more probable one a count tells the ratio sooner.
        """
        *given, (v, value) = places
        return (*given, (v, 1 - value)) if self.variables[v].size == 2 else places

    def presumed(self, places: tuple[tuple[int, int], ...]) -> float:
        """P(last | the others) by the present model, the others as in the mine data."""
        *given, (v, value) = places
        held = np.ones(len(self.codes), dtype=bool)
        for u, other in given:
            held &= self.codes[:, u] == other
        p = np.exp(self.model.log_conditional(v, self.codes[held]))[:, value]
        return float(p.mean()) if len(p) else float("nan")

    def gain(self, changes: tuple[Change, ...]) -> float:
        """Nats of surprise that ``changes`` take from the mine data. Cost: one fit a variable."""
        new = self.model.with_changes(changes, draft=True)
        touched = {c.then[0] if hasattr(c, "then") else c.variable for c in changes}  # type: ignore[union-attr]
        return sum(
            self.model.surprise_of(v, self.codes) - new.surprise_of(v, self.codes) for v in touched
        )

    @property
    def precision(self) -> float:
        """Bits that a number estimated from the mine data is worth."""
        return 0.5 * float(np.log2(max(len(self.codes), 2)))


@runtime_checkable
class Proposer(Protocol):
    """One kind of explanation."""

    kind: str

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        """Rules that would make ``pattern`` less surprising; none is fine."""
        ...


def index_bits(state: State, order: int) -> float:
    """log2 of the number of patterns of ``order`` events of different variables."""
    sizes = np.array([variable.size for variable in state.variables], dtype=np.float64)
    ways = np.zeros(order + 1)
    ways[0] = 1.0
    for size in sizes:  # elementary symmetric polynomial of the sizes
        ways[1:] += size * ways[:-1]
    return float(np.log2(max(ways[order], 1.0)))


def guessed(k: int, n: int, spread: float = 2.6) -> tuple[float, float]:
    """An interval around k of n for a prediction: Wilson's, of ``spread`` standard deviations.

    A prediction only: no guarantee comes of it.
    """
    if n == 0:
        return 0.0, 1.0
    p, z = k / n, spread * spread
    middle = (p + z / (2 * n)) / (1 + z / n)
    half = spread / (1 + z / n) * float(np.sqrt(p * (1 - p) / n + z / (4 * n * n)))
    return max(0.0, middle - half), min(1.0, middle + half)
