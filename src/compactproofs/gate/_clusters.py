"""Where cells may be: boxes and patterns around groups of recorded points of one class.

Two ways to group: k-means, and trees that divide a group by the sign of the unit whose relaxation
would cost most, so that it is linear on either side. Overlap is welcome: a point is admitted if
any cell has it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int8, Int64

from ._extras import needed
from ._suffix import Suffix


class Candidates(NamedTuple):
    """Boxes at the cut and signs of units, one of each a candidate."""

    labels: Int64[np.ndarray, " g"]
    low: Float64[np.ndarray, "g s"]
    high: Float64[np.ndarray, "g s"]
    signs: Int8[np.ndarray, "g u"]


class Recorded(NamedTuple):
    """What the network did on the inputs that cells are built from."""

    cut: Float64[np.ndarray, "n s"]
    units: Float64[np.ndarray, "n u"]
    labels: Int64[np.ndarray, " n"]


def spread(h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " s"]:
    """Standard deviations; a hundredth of the mean one where a site hardly moves.

    A box without width around a dead unit would refuse the next rounding error.
    """
    sd = h.std(axis=0)
    return np.maximum(sd, 1e-2 * sd.mean()) if sd.size else sd


class _Group(NamedTuple):
    points: Int64[np.ndarray, " m"]
    signs: Int8[np.ndarray, " u"]
    """Imposed by the divisions that led here"""


def kmeans_groups(
    recorded: Recorded, label: int, clusters: tuple[int, ...], fewest: int, seed: int
) -> Iterator[Int64[np.ndarray, " m"]]:
    """The points of a class in k groups, for each k; groups of less than ``fewest`` are left out.

    Raises UserError without scikit-learn.
    """
    points = np.flatnonzero(recorded.labels == label)
    for k in clusters:
        if k > len(points):
            continue
        if k == 1:
            member = np.zeros(len(points), dtype=np.int64)
        else:
            cluster = needed("sklearn.cluster", "search_regions")
            means = cluster.KMeans(k, n_init=2, random_state=seed)
            member = means.fit_predict(recorded.cut[points])
        for number in range(k):
            if (member == number).sum() >= fewest:
                yield points[member == number]


def boxes(
    suffix: Suffix,
    recorded: Recorded,
    label: int,
    groups: list[_Group],
    widen: float,
    agreement: float,
) -> Candidates:
    """The groups' ranges, ``widen`` standard deviations wider, and the signs that they agree on.

    A unit gets a sign where at least the share ``agreement`` of the group has it, and no group is
    wider than the sides of its divisions.
    """
    cut = [recorded.cut[group.points] for group in groups]
    further = [widen * spread(a) for a in cut]
    low = np.stack([a.min(axis=0) - w for a, w in zip(cut, further, strict=True)])
    high = np.stack([a.max(axis=0) + w for a, w in zip(cut, further, strict=True)])
    imposed = np.stack([group.signs for group in groups])
    # The sign of a unit that is always about 0 would be a matter of rounding.
    nothing = 1e-3 * spread(recorded.units)
    units = [recorded.units[group.points] for group in groups]
    on = np.stack([(z > nothing).mean(axis=0) >= agreement for z in units])
    off = np.stack([(z < -nothing).mean(axis=0) >= agreement for z in units])
    agreed = on.astype(np.int8) - off.astype(np.int8)
    signs = np.where(imposed != 0, imposed, agreed).astype(np.int8)
    own = suffix.pattern_start
    if own:
        sides = imposed[:, :own]
        low = np.where(sides > 0, np.maximum(low, 0.0), low)
        high = np.where(sides < 0, np.minimum(high, 0.0), high)
        signs[:, :own] = 0
    return Candidates(np.full(len(groups), label), low, high, signs)


def grouped(
    suffix: Suffix,
    recorded: Recorded,
    label: int,
    points: list[Int64[np.ndarray, "_"]],
    widen: float,
    agreement: float,
) -> Candidates:
    """``boxes`` of groups that no division has led to."""
    free = np.zeros(suffix.units, dtype=np.int8)
    return boxes(suffix, recorded, label, [_Group(p, free) for p in points], widen, agreement)


def sign_tree(
    suffix: Suffix,
    recorded: Recorded,
    label: int,
    depth: int,
    fewest: int,
    widen: float,
    agreement: float,
) -> Iterator[Candidates]:
    """Level by level, a class divided by signs of units; the class as a whole is not repeated.

    The unit with the largest ``|weight to the margins| -l u / (u - l)`` over its range ``[l, u]``
    divides a group, if at least ``fewest`` of its points are on either side.
    """
    points = np.flatnonzero(recorded.labels == label)
    root = _Group(points, np.zeros(suffix.units, dtype=np.int8))
    groups = [root] if len(points) and suffix.units else []
    weight = unit_weights(suffix, label)
    for _ in range(depth):
        if not groups:
            return
        level = boxes(suffix, recorded, label, groups, widen, agreement)
        cost = weight * suffix.gaps(suffix.ranges(level.low, level.high, level.signs))
        groups = [half for g, group in enumerate(groups)
                  for half in _halves(recorded, group, cost[g], fewest)]  # fmt: skip
        if groups:
            yield boxes(suffix, recorded, label, groups, widen, agreement)


def _halves(
    recorded: Recorded, group: _Group, cost: Float64[np.ndarray, " u"], fewest: int
) -> list[_Group]:
    on = recorded.units[group.points] > 0
    smaller = np.minimum(on.sum(axis=0), (~on).sum(axis=0))
    cost = np.where(smaller >= fewest, cost, 0.0)
    unit = int(cost.argmax())
    if cost[unit] <= 0:
        return []
    found = []
    for sign in (1, -1):
        signs = group.signs.copy()
        signs[unit] = sign
        found.append(_Group(group.points[on[:, unit] == (sign > 0)], signs))
    return found


def unit_weights(suffix: Suffix, label: int) -> Float64[np.ndarray, " u"]:
    """How much a unit can move the margins: absolute weights, summed over paths."""
    rows = suffix.differences(np.array([label]))[0]
    through = np.abs(rows @ suffix.layers[-1].W.T).sum(axis=0)
    found = np.zeros(suffix.units)
    for number in range(len(suffix.layers) - 1, -1, -1):
        if number in suffix.unit_slices:
            found[suffix.unit_slices[number]] = through
        if number:
            through = np.abs(suffix.layers[number - 1].W) @ through
    return found
