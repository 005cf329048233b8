"""Which sites do not matter here: a search for many that may range jointly, whatever the others.

Sites are freed one by one, the cheapest first: a site may range over all that was recorded of it
if, with every site freed so far, bound propagation still shows the label to win. What plain bounds
refuse is tried again with optimised slopes and with splits of the units that cost most, unless an
attack shows that it is not so.

Nothing here is trusted: the cell returned has been certified by the kernel.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from ..kernel import RejectedError, UserError
from ..kernel.gate import Cell, RegionWitness, ReluNetwork, Sites, certify_region
from ._clusters import unit_weights
from ._slopes import Optimised, optimise_slopes
from ._suffix import Suffix


class FreeSitesError(UserError):
    """A recording or settings that no site can be freed with."""


@dataclass(frozen=True)
class FreeingSettings:
    """How hard to search.

    within: how far the sites that are not freed may be from the recording; margin: what must be
    shown; beam: sets of sites kept while plain bounds free more; splits: units to split by sign (0
    for plain bounds only); steps: gradient steps for each split; tries: sites tried with splits
    before giving up; seed: of the attack. Raises FreeSitesError for a value out of range.
    """

    within: float = 1e-5
    margin: float = 1e-3
    beam: int = 4
    splits: int = 6
    steps: int = 15
    tries: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be searched."""
        least = {"within": 0.0, "margin": 0.0, "beam": 1, "splits": 0, "steps": 0, "tries": 1}
        for name, bound in least.items():
            if not bound <= getattr(self, name) < np.inf:
                raise FreeSitesError(
                    f"FreeingSettings: {name}={getattr(self, name)}, but it must be finite and at "
                    f"least {bound}"
                )
        if self.splits > 10:
            raise FreeSitesError(f"FreeingSettings: splits={self.splits}, but it is at most 10")


class FreeSites(NamedTuple):
    """A cell around a recording that says of some sites that they may be anything recorded."""

    cell: Cell
    witness: RegionWitness
    freed: Int64[np.ndarray, " f"]
    """Sites, as numbered in ``h``"""


def free_sites(
    network: ReluNetwork,
    sites: Sites,
    h: Float64[np.ndarray, " s"],
    label: int,
    ranges: tuple[Float64[np.ndarray, " s"], Float64[np.ndarray, " s"]],
    settings: FreeingSettings | None = None,
) -> FreeSites:
    """A cell in which the sites ``freed`` range over ``ranges`` jointly and the label wins.

    h: a recording at all sites; ranges: the lowest and the highest value of each site. The other
    sites of the cut stay within ``settings.within`` of the recording; sites outside the cut are not
    monitored. ``certify_region(network, sites, cell, witness)`` accepts the answer. Raises
    FreeSitesError for arrays that do not fit, or where the label does not win at ``h`` itself;
    UserError without torch (unless ``steps`` or ``splits`` is 0).
    Cost: up to s^2 beam plain bounds; 32 sites, default settings: about 0.3 s.
    """
    settings = settings or FreeingSettings()
    suffix = Suffix(network, sites)
    low, high = ranges
    cut = sites.cut_slice
    if h.shape != (sites.size,) or low.shape != h.shape or high.shape != h.shape:
        raise FreeSitesError(
            f"free_sites: a recording {h.shape} with ranges {low.shape} and {high.shape}: pass "
            f"{sites.size} numbers each"
        )
    if not (np.isfinite([h[cut], low[cut], high[cut]]).all() and 0 <= label < network.outputs):
        raise FreeSitesError(
            f"free_sites: label {label}, or a site of the cut that is not a finite number: pass "
            f"finite numbers and a label below {network.outputs}"
        )
    search = _Search(suffix, h[cut], label, low[cut], high[cut], settings)
    freed = search.with_plain_bounds()
    if settings.splits:
        freed = search.with_splits(freed)
    while True:
        witness = search.proof(freed).witness
        cell = _cell(suffix, sites, search, freed)
        try:
            certify_region(network, sites, cell, witness)
        except RejectedError as refusal:
            if not freed.any():
                raise FreeSitesError(f"free_sites: at the recording itself, {refusal}") from None
            # Rounding, or a float32 envelope above the margin asked for: one site less.
            freed[np.flatnonzero(freed)[-1]] = False
            continue
        return FreeSites(cell, witness, np.flatnonzero(freed) + cut.start)


def _cell(suffix: Suffix, sites: Sites, search: "_Search", freed: Bool[np.ndarray, " s"]) -> Cell:
    low, high = np.full(sites.size, -np.inf), np.full(sites.size, np.inf)
    low[sites.cut_slice], high[sites.cut_slice] = (ends[0] for ends in search.box(freed[None]))
    pattern = np.zeros(suffix.units - suffix.pattern_start, dtype=np.int8)
    none = np.zeros(0)
    return Cell(low, high, np.zeros((0, sites.size)), none, none, pattern, search.label)


class _Search:
    """The state of one search; sets of sites are Booleans at the cut."""

    def __init__(
        self,
        suffix: Suffix,
        h: Float64[np.ndarray, " s"],
        label: int,
        low: Float64[np.ndarray, " s"],
        high: Float64[np.ndarray, " s"],
        settings: FreeingSettings,
    ) -> None:
        self.label = label
        self._suffix, self._settings = suffix, settings
        self._fixed = h - settings.within, h + settings.within
        self._free = np.minimum(low, self._fixed[0]), np.maximum(high, self._fixed[1])
        self._random = np.random.default_rng(settings.seed)
        self._weights = unit_weights(suffix, label)
        self._weights[: suffix.pattern_start] = 0.0

    def box(self, freed: Bool[np.ndarray, "g s"]) -> tuple[np.ndarray, np.ndarray]:
        """Ends ``[g s]`` of the boxes in which these sites are free."""
        return (
            np.where(freed, self._free[0], self._fixed[0]),
            np.where(freed, self._free[1], self._fixed[1]),
        )

    def plain(self, freed: Bool[np.ndarray, "g s"]) -> Float64[np.ndarray, "g"]:
        """The least margin that plain bounds show in each box."""
        suffix = self._suffix
        low, high = self.box(freed)
        ranges = suffix.ranges(low, high, np.zeros((len(freed), suffix.units), dtype=np.int8))
        slopes = suffix.default_slopes(ranges)
        slopes[:, : suffix.pattern_start] = 0.0
        forms = suffix.margins(np.full(len(freed), self.label), ranges, slopes)
        return suffix.least(forms, ranges).min(axis=1)

    def with_plain_bounds(self) -> Bool[np.ndarray, " s"]:
        """A largest set that plain bounds free, of those a beam of cheapest sets comes upon."""
        size = len(self._fixed[0])
        beam = np.zeros((1, size), dtype=bool)
        while True:
            grown = (beam[:, None] | np.eye(size, dtype=bool)).reshape(-1, size)
            grown = np.unique(grown[grown.sum(axis=1) > beam[0].sum()], axis=0)
            if not len(grown):
                return beam[0]
            shown = self.plain(grown)
            best = np.argsort(-shown, kind="stable")[: self._settings.beam]
            best = best[shown[best] > self._settings.margin]
            if not len(best):
                return beam[0]
            beam = grown[best]

    def with_splits(self, freed: Bool[np.ndarray, " s"]) -> Bool[np.ndarray, " s"]:
        """More sites, as long as slopes and splits free one of the cheapest."""
        freed, refused = freed.copy(), np.zeros(len(freed), dtype=bool)
        tries = 0
        while tries < self._settings.tries:
            more = np.flatnonzero(~freed & ~refused)
            if not len(more):
                break
            grown = np.repeat(freed[None], len(more), axis=0)
            grown[np.arange(len(more)), more] = True
            best = int(self.plain(grown).argmax())
            # A set that is attacked stays so when it grows.
            if self._attacked(grown[best]):
                refused[more[best]] = True
            elif (self.proof(grown[best]).bounds > self._settings.margin).all():
                freed = grown[best]
            else:
                refused[more[best]] = True
                tries += 1
        return freed

    def proof(self, freed: Bool[np.ndarray, " s"]) -> Optimised:
        """Bounds and witness of one box: plain if they suffice, else with slopes and splits."""
        settings = self._settings
        low, high = (ends[0] for ends in self.box(freed[None]))
        none = np.zeros(0, dtype=np.int32)
        found = optimise_slopes(self._suffix, self.label, low, high, none, 0, settings.margin)
        if (found.bounds > settings.margin).all() or not settings.splits:
            return found
        split = self._split(low, high)
        return optimise_slopes(
            self._suffix, self.label, low, high, split, settings.steps, settings.margin
        )

    def _split(
        self, low: Float64[np.ndarray, " s"], high: Float64[np.ndarray, " s"]
    ) -> Int32[np.ndarray, " j"]:
        """The undecided units whose lines are furthest apart, as seen from the margins."""
        suffix = self._suffix
        free = np.zeros((1, suffix.units), dtype=np.int8)
        cost = self._weights * suffix.gaps(suffix.ranges(low[None], high[None], free))[0]
        order = np.argsort(-cost, kind="stable")[: self._settings.splits]
        return order[cost[order] > 0].astype(np.int32)

    def _attacked(self, freed: Bool[np.ndarray, " s"]) -> bool:
        """Whether another label wins at a corner: random ones, then the worst single changes."""
        low, high = (ends[0] for ends in self.box(freed[None]))
        up = self._random.random((512, len(low))) < 0.5
        margins = self._margins(np.where(up, high, low))
        up = up[np.argsort(margins, kind="stable")[:16]]
        flips = np.eye(len(low), dtype=bool)[freed]
        for _ in range(4):
            near = np.concatenate([up[:, None], up[:, None] ^ flips], axis=1)
            margins = self._margins(np.where(near, high, low).reshape(-1, len(low)))
            margins = margins.reshape(len(up), -1)
            if margins.min() <= 0:
                return True
            up = near[np.arange(len(up)), margins.argmin(axis=1)]
        return False

    def _margins(self, cut: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        _, logits = self._suffix.forward(np.maximum(cut, 0.0) if self._suffix.after_relu else cut)
        return logits[:, self.label] - np.delete(logits, self.label, axis=1).max(axis=1)
