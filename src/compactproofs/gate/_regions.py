"""Search for cells that hold many inputs and can be certified: boxes, patterns and evidence.

**Evidence.** On a box with a pattern, bound propagation gives ``A_k a + c_k <= margin_k(a)`` for
each rival k. The cell is what is left of the box where ``A_k a + c_k >= m``: its certificate holds
by construction, with margin m, and its events are the reason. A larger m admits fewer inputs,
those that the network is surer of.

Nothing here is trusted: every cell returned has been certified by the kernel.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ..kernel import RejectedError, UserError
from ..kernel._tick import Tick, no_tick
from ..kernel.gate import Cell, RegionWitness, ReluNetwork, Sites, certify_region
from ._clusters import Candidates, Recorded, grouped, kmeans_groups, sign_tree, spread
from ._suffix import Suffix


class RegionSearchError(UserError):
    """Settings or recordings that no region can be searched with."""


@dataclass(frozen=True)
class RegionSettings:
    """How wide to search, and what a cell must show.

    clusters: numbers of k-means clusters of a class; depth: levels of sign trees; widen: how many
    standard deviations a box is wider than its points, all of them tried; agreement: share of a
    group that must have a unit on (or off) for the pattern to say so; margin: what the evidence
    must show for every rival, m; elsewhere: how much wider than the points of its class the ranges
    at sites outside the cut are, in standard deviations (None: not monitored); fewest: points of a
    group, and of a cell; most: cells kept, those that together hold the recorded points most often
    (each point counts half as much for every cell that has it already); seed: of k-means.
    Raises RegionSearchError, naming the field and its value, when a value is out of range.
    """

    clusters: tuple[int, ...] = (1, 2, 4, 8, 16)
    depth: int = 4
    widen: tuple[float, ...] = (0.5, 1.0, 2.0)
    agreement: float = 0.95
    margin: float = 0.5
    elsewhere: float | None = None
    fewest: int = 4
    most: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be searched."""
        numbers = {"margin": (self.margin, 0.0, math.inf), "agreement": (self.agreement, 0.5, 1.0)}
        numbers["elsewhere"] = (self.elsewhere or 0.0, 0.0, math.inf)
        numbers |= {f"widen[{i}]": (w, 0.0, math.inf) for i, w in enumerate(self.widen)}
        for name, (value, least, most) in numbers.items():
            if not (least <= value <= most and math.isfinite(value)):
                raise RegionSearchError(
                    f"RegionSettings: {name}={value}, but it must be finite, from {least} to {most}"
                )
        if not self.margin:
            raise RegionSearchError("RegionSettings: margin=0.0 shows nothing: pass a positive one")
        counts = {f"clusters[{i}]": (k, 1) for i, k in enumerate(self.clusters)}
        counts |= {"depth": (self.depth, 0), "fewest": (self.fewest, 1), "most": (self.most, 1)}
        for name, (value, least) in counts.items():
            if value < least:
                raise RegionSearchError(
                    f"RegionSettings: {name}={value}, but it must be at least {least}"
                )


def search_regions(
    network: ReluNetwork,
    sites: Sites,
    h: Float64[np.ndarray, "n s"],
    labels: Int64[np.ndarray, " n"],
    settings: RegionSettings | None = None,
    tick: Tick = no_tick,
) -> list[tuple[Cell, RegionWitness]]:
    """Cells around recorded points, each with a witness that ``certify_region`` accepts.

    h: recordings at all sites; labels: what the answers should be. Points that the network answers
    otherwise are left out. The first cells hold most; the same arguments give the same cells.
    ``tick`` hears of certificates. Raises RegionSearchError for recordings that do not fit;
    UserError without scikit-learn (unless ``clusters`` is () or (1,)). Cost: a bound a candidate
    and a certificate a cell; digits, 32 units a layer: about 1,300 candidates, 400 cells, 10 s.
    """
    settings = settings or RegionSettings()
    suffix = Suffix(network, sites)
    if h.ndim != 2 or h.shape[1] != sites.size or len(h) != len(labels):
        raise RegionSearchError(
            f"search_regions: recordings {h.shape} with {len(labels)} labels: pass [n, "
            f"{sites.size}] and one label each"
        )
    usable = np.isfinite(h).all(axis=1)
    recordings, h, labels = len(h), h[usable], labels[usable]
    units, logits = suffix.forward(h[:, sites.cut_slice])
    right = logits.argmax(axis=1) == labels
    if not right.any():
        raise RegionSearchError(
            f"search_regions: none of {recordings} recordings is finite and answered as labelled"
        )
    h, recorded = h[right], Recorded(h[right][:, sites.cut_slice], units[right], labels[right])
    candidates = _candidates(suffix, recorded, settings)
    evident = _Evident(suffix, sites, h, recorded, candidates, settings)
    chosen = _cover(evident.holds, settings)
    found = []
    for done, number in enumerate(chosen):
        tick(done, len(chosen))
        cell, witness = evident.region(number)
        try:
            certify_region(network, sites, cell, witness)
        except RejectedError:
            continue
        found.append((cell, witness))
    tick(len(chosen), len(chosen))
    return found


def raised(cell: Cell, more: float) -> Cell:
    """The points of a cell of ``search_regions`` whose evidence shows a margin larger by ``more``.

    Law: the cell's witness certifies it too, with that much more margin, and cells raised by
    growing amounts are nested: they are a family to calibrate. Raises RegionSearchError for a
    negative or infinite amount.
    """
    if not 0 <= more < math.inf:
        raise RegionSearchError(f"raised: more={more}, but it must be finite and 0 or more")
    return replace(cell, row_low=cell.row_low + more)


def _candidates(suffix: Suffix, recorded: Recorded, settings: RegionSettings) -> Candidates:
    parts: list[Candidates] = []
    for label in np.unique(recorded.labels).tolist():
        groups = list(
            kmeans_groups(recorded, label, settings.clusters, settings.fewest, settings.seed)
        )
        for widen in settings.widen:
            shape = widen, settings.agreement
            if groups:
                parts.append(grouped(suffix, recorded, label, groups, *shape))
            tree = sign_tree(suffix, recorded, label, settings.depth, settings.fewest, *shape)
            parts += tree
    if not parts:
        raise RegionSearchError(
            f"search_regions: no class has a group of {settings.fewest} points: record more, or "
            "lower RegionSettings.fewest"
        )
    return Candidates(*(np.concatenate(values) for values in zip(*parts, strict=True)))


class _Evident:
    """The candidates with their evidence, and which recorded points are in them."""

    def __init__(
        self,
        suffix: Suffix,
        sites: Sites,
        h: Float64[np.ndarray, "n s"],
        recorded: Recorded,
        candidates: Candidates,
        settings: RegionSettings,
    ) -> None:
        self._suffix, self._sites, self._settings = suffix, sites, settings
        self._candidates = candidates
        ranges = suffix.ranges(candidates.low, candidates.high, candidates.signs)
        self._slopes = suffix.default_slopes(ranges)
        self._A, self._k = suffix.margins(candidates.labels, ranges)
        self._elsewhere = {
            label: _ranges_elsewhere(h[recorded.labels == label], sites, settings.elsewhere)
            for label in np.unique(recorded.labels).tolist()
        }
        self.holds = np.stack([self._members(h, recorded, g) for g in range(len(self._k))], axis=1)

    def _members(
        self, h: Float64[np.ndarray, "n s"], recorded: Recorded, g: int
    ) -> Bool[np.ndarray, " n"]:
        wanted = self._candidates
        low, high = self._elsewhere[int(wanted.labels[g])]
        held = recorded.labels == wanted.labels[g]
        held &= ((recorded.cut >= wanted.low[g]) & (recorded.cut <= wanted.high[g])).all(axis=1)
        held &= ((h >= low) & (h <= high)).all(axis=1)
        held &= (recorded.units * wanted.signs[g] >= 0).all(axis=1)
        shown = recorded.cut[held] @ self._A[g].T + self._k[g]
        held[held] = (shown >= self._settings.margin).all(axis=1)
        return held

    def region(self, g: int) -> tuple[Cell, RegionWitness]:
        """The cell of a candidate and why it holds: each event shows one rival's margin."""
        suffix, wanted = self._suffix, self._candidates
        label, cut = int(wanted.labels[g]), self._sites.cut_slice
        low, high = (ends.copy() for ends in self._elsewhere[label])
        low[cut], high[cut] = wanted.low[g], wanted.high[g]
        rivals = suffix.outputs - 1
        rows = np.zeros((rivals, self._sites.size))
        rows[:, cut] = self._A[g]
        cell = Cell(
            low,
            high,
            rows,
            self._settings.margin - self._k[g],
            np.full(rivals, np.inf),
            wanted.signs[g, suffix.pattern_start :],
            label,
        )
        slopes = np.tile(self._slopes[g], (1, rivals, 1))
        no_split = np.zeros(0, dtype=np.int32)
        return cell, RegionWitness(slopes, np.zeros_like(slopes), np.eye(rivals)[None], no_split)


def _ranges_elsewhere(
    h: Float64[np.ndarray, "n s"], sites: Sites, widen: float | None
) -> tuple[Float64[np.ndarray, " s"], Float64[np.ndarray, " s"]]:
    """Ranges of a class at the sites outside the cut; open if they are not monitored."""
    low, high = np.full(sites.size, -np.inf), np.full(sites.size, np.inf)
    if widen is not None:
        further = widen * spread(h)
        low, high = h.min(axis=0) - further, h.max(axis=0) + further
        low[sites.cut_slice], high[sites.cut_slice] = -np.inf, np.inf
    return low, high


def _cover(holds: Bool[np.ndarray, "n g"], settings: RegionSettings) -> list[int]:
    """Candidates in the order in which they add most, as ``RegionSettings.most`` counts it."""
    left = holds.sum(axis=0) >= settings.fewest
    worth = np.ones(len(holds))
    members, chosen = holds.astype(np.float64), []
    while len(chosen) < settings.most and left.any():
        best = int(np.where(left, worth @ members, -1.0).argmax())
        left[best] = False
        worth[holds[:, best]] *= 0.5
        chosen.append(best)
    return chosen
