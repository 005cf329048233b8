"""Codes as the kernel takes them: cells with base points, and values on a grid. Nothing is trusted.

Notation: N sequences, H features, k active ones, L values of a feature, U cells, d width.
"""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float64, Int64

from .sparse_codes import SparseCodes

_SWEEPS = 8  # of Lloyd's algorithm


@final
@dataclass(frozen=True, eq=False)
class PlacedCodes:
    """``bias[cell] + sum_j value[:, j] decoder[feature[:, j]]``: codes about the cells' points."""

    decoder: Float64[np.ndarray, "H d"]
    bias: Float64[np.ndarray, "U d"]
    cell: Int64[np.ndarray, " N"]
    feature: Int64[np.ndarray, "N k"]
    """-1 for none."""
    value: Float64[np.ndarray, "N k"]
    origin: Int64[np.ndarray, "H parts"]
    """Which features of the crosscoder a row of the decoder stands for; -1 fills up."""

    @property
    def about_base(self) -> SparseCodes:
        """The same codes about the origin."""
        return SparseCodes(self.decoder, np.zeros(self.decoder.shape[1]), self.feature, self.value)

    def decoded(self) -> Float64[np.ndarray, "N d"]:
        """What the codes stand for."""
        return self.bias[self.cell] + self.about_base.decoded()


def in_cells(codes: SparseCodes, cell: Int64[np.ndarray, " N"]) -> PlacedCodes:
    """The codes as they are: every cell has the one base point."""
    bias = np.repeat(codes.bias[None], int(cell.max(initial=0)) + 1, axis=0)
    own = np.arange(len(codes.decoder))[:, None]
    return PlacedCodes(codes.decoder, bias, cell, codes.feature, codes.value, own)


def anchored(codes: SparseCodes, cell: Int64[np.ndarray, " N"]) -> PlacedCodes:
    """Every cell's base point holds its strongest feature, at its mean value.

    A sequence's own value of that feature becomes the difference from the mean, in a row of the
    decoder of its own: the same direction, other values. Where it lacks the feature, that is one
    atom more.
    """
    cells, h = int(cell.max(initial=0)) + 1, len(codes.decoder)
    n, k = codes.value.shape
    strength = np.zeros((cells, h))
    times = np.bincount(cell, minlength=cells)
    norm = np.linalg.norm(codes.decoder, axis=1)
    for feature, value in zip(codes.feature.T, codes.value.T, strict=True):
        there = feature >= 0
        np.add.at(strength, (cell[there], feature[there]), (value * norm[feature])[there])
    anchor = np.abs(strength).argmax(axis=1)
    mean = strength[np.arange(cells), anchor] / np.maximum(times, 1)
    mean /= np.where(norm[anchor] > 0, norm[anchor], 1.0)
    rows, row = np.unique(anchor, return_inverse=True)
    own = codes.feature == anchor[cell][:, None]
    value = np.append(codes.value, np.zeros((n, 1)), axis=1)
    feature = np.append(codes.feature, np.full((n, 1), -1), axis=1)
    slot = np.where(own.any(axis=1), own.argmax(axis=1), k)
    everyone = np.arange(n)
    value[everyone, slot] -= mean[cell]
    feature[everyone, slot] = h + row[cell]
    return PlacedCodes(
        np.concatenate([codes.decoder, codes.decoder[rows]]),
        codes.bias + mean[:, None] * codes.decoder[anchor],
        cell,
        np.where(value == 0, -1, feature),
        value,
        np.append(np.arange(h), rows)[:, None],
    )


def on_grid(
    codes: PlacedCodes, values: int
) -> tuple[PlacedCodes, Float64[np.ndarray, "H L"], Int64[np.ndarray, "N k"]]:
    """The codes with every value moved to one of ``values`` of its feature; those; the atoms.

    The values of a feature minimise the squared error about as well as Lloyd's algorithm does.
    """
    level = np.zeros((len(codes.decoder), values))
    atom = np.full(codes.feature.shape, -1)
    for feature in np.unique(codes.feature[codes.feature >= 0]).tolist():
        where = codes.feature == feature
        wanted = codes.value[where]
        level[feature] = _values(wanted, values)
        atom[where] = feature * values + _nearest(level[feature], wanted)
    moved = np.where(atom >= 0, level.reshape(-1)[atom], 0.0)
    return replace(codes, value=moved), level, atom


def _nearest(
    level: Float64[np.ndarray, " L"], wanted: Float64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    return np.searchsorted((level[1:] + level[:-1]) / 2, wanted)


def _values(wanted: Float64[np.ndarray, " n"], count: int) -> Float64[np.ndarray, " L"]:
    """At most ``count`` values near all the numbers, ascending; the last is repeated if fewer."""
    distinct = np.unique(wanted)
    if len(distinct) <= count:
        return np.append(distinct, np.full(count - len(distinct), distinct[-1]))
    # Half where the numbers are dense, half evenly over their range.
    dense = np.quantile(wanted, np.linspace(0, 1, count - count // 2))
    even = np.linspace(distinct[0], distinct[-1], count // 2 + 2)[1:-1]
    level = np.sort(np.append(dense, even))
    for _ in range(_SWEEPS):
        place = _nearest(level, wanted)
        many = np.bincount(place, minlength=count)
        mean = np.bincount(place, weights=wanted, minlength=count) / np.maximum(many, 1)
        level = np.sort(np.where(many > 0, mean, level))
    return level
