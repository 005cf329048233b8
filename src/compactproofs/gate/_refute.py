"""Audit a gate by attack: certificates by points of their cells, intervals by fresh data.

Nothing that is found can be explained away: a point is in the cell and wins nothing in the
kernel's exact arithmetic, a count lies where the interval says it almost never would. A sound gate
gives no finding; finding none proves nothing, the certificates do.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ..kernel.gate import (
    BAD,
    Cell,
    CellTable,
    ReluNetwork,
    Sites,
    StreamEntry,
    answers,
    exact_margins,
)
from ..kernel.gate._evidence import stored_rows
from ..kernel.gate._obligations import Measurement
from ..kernel.gate._proportions import clopper_pearson
from ._edits import attack_box
from ._forward import Activations
from ._gate import Gate
from ._suffix import Suffix

_STREAM = 4000


@dataclass(frozen=True)
class RefuteSettings:
    """How hard to attack a cell: random points, starts and steps of gradient attacks; seed.

    level: probability at which an interval counts as contradicted, shared by all of them.
    """

    points: int = 1000
    starts: int = 64
    steps: int = 20
    level: Fraction = Fraction(1, 1000)
    seed: int = 0


class Finding(NamedTuple):
    """Something that a sound gate does not have."""

    about: str
    """The cell or the rule, by id"""
    what: str
    point: tuple[Fraction, ...] | None
    """Of a cell: values at the cut"""


def refute(
    gate: Gate,
    fresh: Activations | None = None,
    labels: Int64[np.ndarray, " n"] | None = None,
    settings: RefuteSettings | None = None,
) -> list[Finding]:
    """Attack all certificates of a gate, and with fresh data its intervals; nothing if it is sound.

    fresh: data that are not in the gate's stream. labels: theirs, for rules about bad answers.
    Raises UserError if the gate is closed. Cost: ``points`` + ``starts steps`` passes a cell.
    """
    settings = settings or RefuteSettings()
    duties = gate.admission.obligations
    cells = [duties.cells[name] for name in duties.certificates]
    found = refute_cells(gate.network, gate.sites, cells, settings, _stream(gate))
    if fresh is not None:
        found += refute_intervals(
            gate.network, gate.sites, duties.cells, duties.measurements, fresh, labels, settings
        )
    return found


def _stream(gate: Gate) -> Float64[np.ndarray, "n s"]:
    """The last data of the gate's stream, a few thousand."""
    rows = [np.zeros((0, gate.sites.size))]
    for number, _ in reversed(list(gate.history.living(StreamEntry))):
        if sum(map(len, rows)) >= _STREAM:
            break
        shards, outputs = gate.ledger.shards, gate.network.outputs
        rows.append(stored_rows(gate.history, shards, number, gate.sites, outputs)["h"])
    return np.concatenate(rows)[:_STREAM]


def refute_cells(
    network: ReluNetwork,
    sites: Sites,
    cells: Iterable[Cell],
    settings: RefuteSettings | None = None,
    recorded: Float64[np.ndarray, "n s"] | None = None,
) -> list[Finding]:
    """Points of cells at which their label does not win, one a cell at most, exactly evaluated.

    recorded: activations at all sites; attacks on a cell with events start from those in it.
    """
    settings = settings or RefuteSettings()
    starts = np.zeros((0, sites.size)) if recorded is None else recorded
    suffix = Suffix(network, sites)
    rng = np.random.default_rng(settings.seed)
    found = []
    for cell in cells:
        for point in _worst_points(suffix, sites, cell, starts[:, sites.cut_slice], rng, settings):
            exact = [Fraction(value) for value in point.tolist()]
            margin = min(exact_margins(network, sites, exact, cell.label))
            if margin <= 0 and in_cell(network, sites, cell, exact):
                what = f"label {cell.label} has the margin {float(margin):.6g} at a point of it"
                found.append(Finding(cell.id, what, tuple(exact)))
                break
    return found


def _worst_points(
    suffix: Suffix,
    sites: Sites,
    cell: Cell,
    recorded: Float64[np.ndarray, "m s"],
    rng: np.random.Generator,
    settings: RefuteSettings,
) -> Float64[np.ndarray, "n s"]:
    """Points that look as if they were in the cell and not won, worst first, at most 16."""
    cut = sites.cut_slice
    low = np.maximum(cell.low[cut], 0.0) if sites.after_relu else cell.low[cut]
    high = np.maximum(low, cell.high[cut])
    random = low + rng.random((settings.points, len(low))) * (high - low)
    corners = np.where(rng.random(random.shape) < 0.5, low, high)
    worst = attack_box(suffix, low, high, cell.label, rng, settings.starts, settings.steps)
    known = recorded[((recorded >= low) & (recorded <= high)).all(axis=1)]
    points = np.concatenate([worst, corners, random, known])
    # Towards what is in the cell, where events and signs let few points pass.
    inside = points[seems_inside(suffix, sites, cell, points)]
    if len(inside):
        parts = rng.random((len(points), 1)) ** 2
        anchors = inside[rng.integers(0, len(inside), len(points))]
        nearer = anchors + parts * (points - anchors)
        points = np.concatenate([points, nearer])
        points = points[seems_inside(suffix, sites, cell, points)]
        points = np.concatenate([points, *_bisected(suffix, sites, cell, anchors, worst, rng)])
    logits = suffix.forward(points)[1]
    margins = logits[:, cell.label, None] - logits
    margins[:, cell.label] = np.inf
    lowest = margins.min(axis=1)
    order = np.argsort(lowest)[:16]
    return points[order[lowest[order] < 1e-6]]


def _bisected(
    suffix: Suffix,
    sites: Sites,
    cell: Cell,
    anchors: Float64[np.ndarray, "n s"],
    targets: Float64[np.ndarray, "m s"],
    rng: np.random.Generator,
) -> list[Float64[np.ndarray, "m s"]]:
    """The last points inside on the way from points of the cell to points that lose."""
    inside = anchors[rng.integers(0, len(anchors), len(targets))]
    outside = targets
    for _ in range(30):
        middle = 0.5 * (inside + outside)
        fine = seems_inside(suffix, sites, cell, middle)[:, None]
        inside, outside = np.where(fine, middle, inside), np.where(fine, outside, middle)
    return [inside]


def _cut_events(sites: Sites, cell: Cell) -> Bool[np.ndarray, " e"]:
    """Events about the cut alone: the others say nothing that a certificate may use."""
    elsewhere = np.ones(sites.size, dtype=bool)
    elsewhere[sites.cut_slice] = False
    return np.asarray(~cell.rows[:, elsewhere].any(axis=1))


def seems_inside(
    suffix: Suffix, sites: Sites, cell: Cell, points: Float64[np.ndarray, "n s"]
) -> Bool[np.ndarray, " n"]:
    """Whether events of the cut and signs hold, in float64; the box is not looked at."""
    used = _cut_events(sites, cell)
    events = points @ cell.rows[used][:, sites.cut_slice].T
    units = suffix.forward(points)[0][:, suffix.pattern_start :]
    inside = ((events >= cell.row_low[used]) & (events <= cell.row_high[used])).all(axis=1)
    return np.asarray(inside & (units * cell.pattern >= 0).all(axis=1))


def in_cell(network: ReluNetwork, sites: Sites, cell: Cell, point: Sequence[Fraction]) -> bool:
    """Whether a rational point of the cut is in the cell, exactly, as far as the cut decides it."""
    cut = sites.cut_slice
    for value, low, high in zip(point, cell.low[cut], cell.high[cut], strict=True):
        if not low <= value <= high or (sites.after_relu and value < 0):
            return False
    for row, low, high, used in zip(
        cell.rows[:, cut], cell.row_low, cell.row_high, _cut_events(sites, cell), strict=True
    ):
        if used and not low <= _dot(point, row.tolist()) <= high:
            return False
    return _signs_hold(network, sites, cell, point)


def _dot(values: Sequence[Fraction], weights: Sequence[float]) -> Fraction:
    return sum((v * Fraction(w) for v, w in zip(values, weights, strict=True)), Fraction(0))


def _signs_hold(network: ReluNetwork, sites: Sites, cell: Cell, point: Sequence[Fraction]) -> bool:
    z, start = list(point), 0
    for number in range(sites.layer, len(network.layers)):
        layer = network.layers[number]
        if number > sites.layer and layer.relu:
            signs = cell.pattern[start : start + len(z)].tolist()
            start += len(z)
            if any(sign * value < 0 for sign, value in zip(signs, z, strict=True)):
                return False
        if layer.relu and not (sites.after_relu and number == sites.layer):
            z = [max(value, Fraction(0)) for value in z]
        if number < len(network.layers) - 1:
            z = [
                _dot(z, column) + Fraction(b)
                for column, b in zip(layer.W.T.tolist(), layer.b.tolist(), strict=True)
            ]
    return True


def refute_intervals(
    network: ReluNetwork,
    sites: Sites,
    cells: Mapping[str, Cell],
    measurements: Sequence[Measurement],
    fresh: Activations,
    labels: Int64[np.ndarray, " n"] | None,
    settings: RefuteSettings | None = None,
) -> list[Finding]:
    """Statements of a ledger that fresh data exclude, at a level that all of them share.

    A sound ledger has a finding here with probability at most its own alpha and ``level``. Without
    labels nothing is asked about bad answers. Cost: membership of all data in all cells.
    """
    settings = settings or RefuteSettings()
    inside = CellTable(network, sites, list(cells.values()), 0.0).inside(fresh.h)
    holds = dict(zip(cells, inside.T, strict=True))
    if labels is not None:
        holds[BAD] = answers(fresh.outputs) != labels
    asked = [
        m
        for m in measurements
        if set(m.statement.antecedent | m.statement.consequent) <= set(holds)
    ]
    found = []
    for entry, statement in asked:
        given = _all_of(holds, statement.antecedent, len(fresh.h))
        both = given & _all_of(holds, statement.consequent, len(fresh.h))
        k, n = int(both.sum()), int(given.sum())
        seen = clopper_pearson(k, n, settings.level / len(asked))
        if seen.low > statement.high or seen.high < statement.low:
            what = (
                f"{k} of {n} fresh data, but it says {float(statement.low):.4g} to "
                f"{float(statement.high):.4g}"
            )
            found.append(Finding(entry, what, None))
    return found


def _all_of(
    holds: Mapping[str, Bool[np.ndarray, " n"]], events: frozenset[str], n: int
) -> Bool[np.ndarray, " n"]:
    result = np.ones(n, dtype=bool)
    for event in events:
        result &= holds[event]
    return result
