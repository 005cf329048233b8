"""Search for cells that hold many inputs and can be certified: boxes, patterns and evidence.

**Evidence.** On a box with a pattern, bound propagation gives ``A_k a + c_k <= margin_k(a)`` for
each rival k. The cell is what is left of the box where ``A_k a + c_k >= m``: its certificate holds
by construction, with margin m, and its events are the reason. A larger m admits fewer inputs,
those that the network is surer of.

Nothing here is trusted: every cell returned has been certified by the kernel.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ..kernel import RejectedError, UserError
from ..kernel._tick import Tick, no_tick
from ..kernel.gate import Cell, CellTable, RegionWitness, ReluNetwork, Sites, certify_region
from ._clusters import Candidates, Recorded, grouped, kmeans_groups, sign_tree
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
    units, logits = suffix.forward(h[:, sites.cut_slice])
    right = np.isfinite(h).all(axis=1) & (logits.argmax(axis=1) == labels)
    if not right.any():
        raise RegionSearchError(
            f"search_regions: none of {len(h)} recordings is finite and answered as labelled"
        )
    h, recorded = h[right], Recorded(h[right][:, sites.cut_slice], units[right], labels[right])
    candidates = _candidates(suffix, recorded, settings)
    cells, holds = _cells_with_evidence(suffix, sites, h, recorded, candidates, settings)
    chosen = _cover(holds, settings)
    found = []
    for done, index in enumerate(chosen):
        tick(done, len(chosen))
        cell = cells[index]
        witness = _evidence_witness(suffix, cell, candidates, index)
        try:
            certify_region(network, sites, cell, witness)
        except RejectedError:
            continue
        found.append((cell, witness))
    tick(len(chosen), len(chosen))
    return found


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
