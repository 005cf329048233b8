"""Cells: sets of site values of which a property is claimed, with nothing left unsaid.

A cell is a closed box over all sites, linear events ``row_low <= rows h <= row_high``, and for
units after the cut whether they are on (``z >= 0``) or off (``z <= 0``): all inequalities are
closed, so a unit at exactly 0 is both. Its property is that the logit of ``label`` is strictly
the largest.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import numpy as np
from jaxtyping import Float64, Int8, Shaped

from .._errors import MalformedError
from .._frozen import frozen
from ._relu_network import ReluNetwork
from ._sites import Sites

_FIELDS: Final = ("low", "high", "rows", "row_low", "row_high", "pattern")


@final
@dataclass(frozen=True, eq=False)
class Cell:
    """The site values in a box, on linear events and on a pattern; see the top of this file."""

    low: Float64[np.ndarray, " s"]
    """-inf where a site is not monitored; finite at the cut"""
    high: Float64[np.ndarray, " s"]
    rows: Float64[np.ndarray, "e s"]
    row_low: Float64[np.ndarray, " e"]
    row_high: Float64[np.ndarray, " e"]
    pattern: Int8[np.ndarray, " u"]
    """Of the units of ``Sites.pattern_layers``: 1 on, -1 off, 0 free."""
    label: int

    def __post_init__(self) -> None:
        """Keep copies that nobody can change; raises MalformedError."""
        shapes = {"low": 1, "high": 1, "rows": 2, "row_low": 1, "row_high": 1, "pattern": 1}
        for name in _FIELDS:
            values = np.asarray(getattr(self, name))
            wanted = np.int8 if name == "pattern" else np.float64
            if values.dtype != wanted or values.ndim != shapes[name]:
                raise MalformedError(
                    f"{name} of a cell is {values.dtype} {values.shape}: pass "
                    f"{np.dtype(wanted).name} of {shapes[name]} dimensions"
                )
            if np.isnan(values).any():
                raise MalformedError(f"{name} of a cell holds NaN: pass numbers")
            # -0.0 is the number 0.0, and one cell has one digest.
            object.__setattr__(self, name, frozen(np.where(values == 0, wanted(0), values)))
        s, e = len(self.low), len(self.row_low)
        if self.high.shape != (s,) or self.rows.shape != (e, s) or self.row_high.shape != (e,):
            raise MalformedError(
                f"a cell of {s} sites and {e} rows has high {self.high.shape}, rows "
                f"{self.rows.shape} and row_high {self.row_high.shape}"
            )
        for what, low, high in (
            ("site", self.low, self.high),
            ("row", self.row_low, self.row_high),
        ):
            wrong = np.flatnonzero(~(low <= high) | (low == np.inf) | (high == -np.inf))
            if len(wrong):
                first = int(wrong[0])
                raise MalformedError(
                    f"{what} {first} of a cell has the range {low[first]} .. {high[first]}: no "
                    "number is in it"
                )
        if not np.isfinite(self.rows).all():
            raise MalformedError("rows of a cell hold infinity: pass finite coefficients")
        if (np.abs(self.pattern.astype(np.int64)) > 1).any():
            raise MalformedError("a pattern holds other numbers than -1, 0 and 1")
        if type(self.label) is not int or self.label < 0:
            raise MalformedError(f"the label of a cell is {self.label!r}: pass an output's number")

    @cached_property
    def id(self) -> str:
        """Digest (hex) of the cell: sizes, label, every number."""
        sizes = f"{self.rows.shape[1]} {len(self.rows)} {len(self.pattern)} {self.label}\n"
        digest = hashlib.sha256(b"compactproofs cell 1\n" + sizes.encode())
        for name in _FIELDS:
            values = getattr(self, name)
            digest.update(values.astype("i1" if name == "pattern" else "<f8").tobytes())
        return digest.hexdigest()

    def require_fit(self, network: ReluNetwork, sites: Sites) -> None:
        """Refuse a cell of other sites, or one that leaves a site of the cut open.

        Raises MalformedError; ModelError if the sites do not fit the network.
        """
        sites.require_fit(network)
        if len(self.low) != sites.size:
            raise MalformedError(f"a cell of {len(self.low)} sites, where there are {sites.size}")
        if len(self.pattern) != sites.pattern_size(network):
            raise MalformedError(
                f"the pattern of a cell has {len(self.pattern)} units, but "
                f"{sites.pattern_size(network)} have a ReLU after the cut"
            )
        if self.label >= network.outputs:
            raise MalformedError(f"the label {self.label} is none of {network.outputs} outputs")
        cut = sites.cut_slice
        if not (np.isfinite(self.low[cut]) & np.isfinite(self.high[cut])).all():
            raise MalformedError(
                f"a cell leaves a site of the cut {sites.cut} without a finite range: give every "
                "site of the cut one, as wide as its certificate allows"
            )

    def intersect(self, other: "Cell") -> "Cell | None":
        """The points of both cells; None if the boxes are disjoint or the patterns disagree.

        Where one has a unit on and the other has it off, what they share is on its boundary:
        that is no cell. Raises MalformedError for cells of other sizes or another label.
        """
        if (len(self.low), len(self.pattern), self.label) != (
            len(other.low), len(other.pattern), other.label
        ):  # fmt: skip
            raise MalformedError("cells of different sites, units or labels have no intersection")
        low, high = np.maximum(self.low, other.low), np.minimum(self.high, other.high)
        if (low > high).any() or (self.pattern * other.pattern < 0).any():
            return None
        return Cell(
            low,
            high,
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.row_low, other.row_low]),
            np.concatenate([self.row_high, other.row_high]),
            np.where(self.pattern != 0, self.pattern, other.pattern),
            self.label,
        )

    def to_arrays(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """The cell as arrays under the names of its fields; ``label`` is int64 of shape (1,)."""
        arrays = {name: getattr(self, name) for name in _FIELDS}
        return arrays | {"label": np.array([self.label], dtype=np.int64)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> "Cell":
        """The cell of ``to_arrays``; raises MalformedError for other names or types."""
        if set(arrays) != {*_FIELDS, "label"}:
            raise MalformedError(f"a cell is stored as {', '.join(_FIELDS)} and label alone")
        label = np.asarray(arrays["label"])
        if label.dtype != np.int64 or label.shape != (1,):
            raise MalformedError(f"the label of a cell is {label.dtype} {label.shape}, not one int")
        return cls(**{name: arrays[name] for name in _FIELDS}, label=int(label[0]))  # type: ignore[arg-type]
