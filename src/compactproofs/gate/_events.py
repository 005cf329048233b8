"""What the gate can say about an input: events over the monitored sites, and variables of them.

An event is a conjunction of linear intervals ``low <= rows h <= high`` over the site vector h [s].
Bins, signs, firing features, logit directions and "the largest logit is c" are all of this form, so
that an event is a polytope, and so is a conjunction of events. A variable is a list of events that
exclude each other and leave out nothing: the bins of a site, or the classes.

Notation: n inputs, s sites, e rows of an event, v variables.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int

from compactproofs.kernel import UserError
from compactproofs.kernel.gate._cell import Cell

CLASS_VARIABLE = "class"
"""The name of the variable that says what the network answers."""


class EventError(UserError):
    """Events that cannot be made of these sites or values."""


@dataclass(frozen=True, eq=False)
class Event:
    """The inputs with ``low <= rows h <= high``; two events of one content are equal.

    ``variable`` and ``code`` say which variable it is a value of. An event without rows is known
    by its variable alone: what the network answers, where no read-out is a site.
    """

    name: str
    variable: str
    code: int
    rows: Float64[np.ndarray, "e s"]
    low: Float64[np.ndarray, " e"]
    high: Float64[np.ndarray, " e"]

    @cached_property
    def id(self) -> str:
        """sha256 (hex) of the event's content, its readable name left out."""
        digest = hashlib.sha256(f"{self.variable}\n{self.code}\n{self.rows.shape}\n".encode())
        for array in (self.rows, self.low, self.high):
            digest.update((np.ascontiguousarray(array) + 0.0).tobytes())  # -0.0 becomes 0.0
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        """Whether the contents agree."""
        return isinstance(other, Event) and self.id == other.id

    def __hash__(self) -> int:
        """Of the content."""
        return hash(self.id)

    @property
    def is_region(self) -> bool:
        """Whether the sites alone decide it."""
        return len(self.rows) > 0

    def holds(self, h: Float64[np.ndarray, "n s"]) -> Bool[np.ndarray, " n"]:
        """Which inputs are in it, in float64; NaN is in nothing. Cost: n e s.

        Raises EventError for an event without rows.
        """
        if not self.is_region:
            raise EventError(f"event {self.name} has no region: add the read-out to the sites")
        values = _combined(self.rows, h)
        inside = (values >= self.low) & (values <= self.high)
        return np.asarray(inside.all(axis=1))


Pattern = tuple[Event, ...]
"""A conjunction of events of different variables, in the order of the variables."""


@dataclass(frozen=True, eq=False)
class Variable:
    """Events that exclude each other and leave out nothing; ``site`` and ``edges`` where it is one.

    ``edges`` [size - 1] rise and separate the bins of one linear combination of the sites.
    """

    name: str
    group: str
    events: tuple[Event, ...]
    direction: Float64[np.ndarray, " s"] | None = None
    edges: Float64[np.ndarray, " b"] | None = None

    @property
    def size(self) -> int:
        """How many values it has."""
        return len(self.events)

    @property
    def site(self) -> int | None:
        """The site whose bins these are, or None."""
        if self.direction is None or np.count_nonzero(self.direction) != 1:
            return None
        return int(np.flatnonzero(self.direction)[0])

    def values(self, h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """The combination of sites that is binned. Raises EventError for a variable of none."""
        if self.direction is None:
            raise EventError(f"variable {self.name} is no combination of sites")
        return _combined(self.direction[None], h)[:, 0]

    def codes(
        self, h: Float64[np.ndarray, "n s"], classes: Int[np.ndarray, " n"]
    ) -> Int[np.ndarray, " n"]:
        """Which of its events holds; the answers ``classes`` for the class variable."""
        if self.direction is None or self.edges is None:
            return classes.astype(np.int64)
        return np.searchsorted(self.edges, self.values(h), side="left").astype(np.int64)


def _combined(
    rows: Float64[np.ndarray, "e s"], h: Float64[np.ndarray, "n s"]
) -> Float64[np.ndarray, "n e"]:
    used = np.flatnonzero(np.any(rows != 0, axis=0))  # so that infinity elsewhere does no harm
    return h[:, used] @ rows[:, used].T


def bins_of(
    name: str, group: str, direction: Float64[np.ndarray, " s"], edges: Iterable[float]
) -> Variable:
    """The variable of the bins ``(-inf, edge_0], (edge_0, edge_1], ..., (edge_last, inf)``.

    Open ends are the next float, so that the closed intervals of the events exclude each other on
    every float and ``codes`` agrees with ``holds``.
    """
    ends = np.unique(np.asarray(list(edges), dtype=np.float64))
    if not len(ends) or not np.isfinite(ends).all():
        raise EventError(f"edges of {name} = {ends.tolist()} must be finite numbers, at least one")
    with np.errstate(over="ignore"):
        lows = np.concatenate([[-np.inf], np.nextafter(ends, np.inf)])
    highs = np.concatenate([ends, [np.inf]])
    events = tuple(
        Event(
            f"{name} in [{low:.4g}, {high:.4g}]",
            name,
            code,
            direction[None].astype(np.float64),
            np.array([low]),
            np.array([high]),
        )
        for code, (low, high) in enumerate(zip(lows, highs, strict=True))
    )
    return Variable(name, group, events, direction, ends)


def quantile_bins(
    name: str,
    group: str,
    direction: Float64[np.ndarray, " s"],
    values: Float64[np.ndarray, " n"],
    bins: int,
) -> Variable | None:
    """``bins`` bins of equal mass on ``values``; fewer where values repeat, None for a constant."""
    if bins < 2:
        raise EventError(f"bins = {bins} must be at least 2")
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() == finite.max():
        return None
    levels = np.arange(1, bins) / bins
    edges = np.unique(np.quantile(finite, levels, method="inverted_cdf"))
    edges = edges[edges < finite.max()]
    # More than half of the mass at the lowest value (a ReLU's zero): that value against the rest.
    return bins_of(name, group, direction, edges if len(edges) else [float(finite.min())])


def site_bins(
    group: str,
    first: int,
    h: Float64[np.ndarray, "n s"],
    columns: Sequence[int],
    bins: int,
) -> list[Variable]:
    """Quantile bins of the sites ``columns``, named ``group[i]`` with i counted from ``first``."""
    found = [
        quantile_bins(f"{group}[{i - first}]", group, one_hot(i, h.shape[1]), h[:, i], bins)
        for i in columns
    ]
    return [variable for variable in found if variable is not None]


def site_signs(group: str, first: int, size: int, columns: Sequence[int]) -> list[Variable]:
    """Below-or-at against above zero: the sign of a pre-activation, a feature that fires."""
    found = []
    for i in columns:
        name = f"{group}[{i - first}]"
        variable = bins_of(f"sign of {name}", group, one_hot(i, size), [0.0])
        off, on = variable.events
        events = (replace(off, name=f"{name} <= 0"), replace(on, name=f"{name} > 0"))
        found.append(replace(variable, events=events))
    return found


def direction_bins(
    group: str,
    names: Sequence[str],
    directions: Float64[np.ndarray, "d s"],
    h: Float64[np.ndarray, "n s"],
    bins: int,
) -> list[Variable]:
    """Quantile bins of linear read-outs, such as differences of logits after a linear suffix."""
    found = [
        quantile_bins(name, group, row, h @ row, bins)
        for name, row in zip(names, directions, strict=True)
    ]
    return [variable for variable in found if variable is not None]


def class_variable(outputs: int, size: int, readout: slice | None) -> Variable:
    """What the network answers; with the read-out's sites, each answer is a region of h.

    Without, the events have no rows: they may group the data, but no cell can ask for them.
    """
    events = []
    for c in range(outputs):
        rows = np.zeros((0, size))
        if readout is not None:
            rows = np.zeros((outputs - 1, size))
            rows[:, readout.start + c] = 1.0
            rivals = [j for j in range(outputs) if j != c]
            rows[np.arange(outputs - 1), readout.start + np.array(rivals)] = -1.0
        ends = np.zeros(len(rows))
        events.append(
            Event(f"answer {c}", CLASS_VARIABLE, c, rows, ends, np.full(len(rows), np.inf))
        )
    return Variable(CLASS_VARIABLE, CLASS_VARIABLE, tuple(events))


def one_hot(site: int, size: int) -> Float64[np.ndarray, " s"]:
    """The direction that reads one site."""
    row = np.zeros(size)
    row[site] = 1.0
    return row


def codes_of(
    variables: Sequence[Variable],
    h: Float64[np.ndarray, "n s"],
    classes: Int[np.ndarray, " n"],
) -> Int[np.ndarray, "n v"]:
    """The values of all variables. Cost: n v, and the combinations of sites."""
    if not len(variables):
        return np.zeros((len(h), 0), dtype=np.int64)
    return np.stack([variable.codes(h, classes) for variable in variables], axis=1)


def cell_of(pattern: Pattern, size: int, units: int, label: int) -> Cell:
    """The cell of a conjunction over ``size`` sites; events that read one site are its box.

    Sites that no event reads stay open, so that a region must be intersected with it before the
    kernel certifies it. Raises EventError for an event without rows, or if nothing is left.
    """
    low, high = np.full(size, -np.inf), np.full(size, np.inf)
    rows, row_low, row_high = [], [], []
    for event in pattern:
        if not event.is_region:
            raise EventError(f"event {event.name} has no region: add the read-out to the sites")
        for row, least, most in zip(event.rows, event.low, event.high, strict=True):
            used = np.flatnonzero(row)
            if len(used) == 1 and row[used[0]] == 1.0:
                low[used], high[used] = max(low[used[0]], least), min(high[used[0]], most)
            else:
                rows.append(row)
                row_low.append(least)
                row_high.append(most)
    if (low > high).any():
        raise EventError(f"the events {[event.name for event in pattern]} exclude each other")
    return Cell(
        low,
        high,
        np.array(rows, dtype=np.float64).reshape(len(rows), size),
        np.array(row_low, dtype=np.float64),
        np.array(row_high, dtype=np.float64),
        np.zeros(units, dtype=np.int8),
        label,
    )
