"""What the theorems of the kernel would bound the margins by, for codes that are still searched.

These call the kernel's own tables on the present codes, so that a search sees what a proof will
see; what they return is not a proof.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, Int64

from ..kernel import AdditiveCodes, CellCodes, Task, Transformer
from ..kernel._code_ranges import RANGE_RULES, Ends, neuron_ranges
from ..kernel._codes import (
    BY_CODE,
    BY_RESIDUAL,
    Atoms,
    Codes,
    Group,
    checked_codes,
)
from ..kernel._enclosure import Ball
from ..kernel._ledger import Ledger
from ..kernel._mid_tables import LastMid
from ..kernel.theorems.crosscoder_b import additive_bounds
from ..kernel.theorems.crosscoder_c import cell_bounds
from ._placed import PlacedCodes, on_grid

ROOM = 2.0**-20
"""Of what is claimed, as a share of its size: what rounding on another machine may take away."""


@final
@dataclass(frozen=True, eq=False)
class Search:
    """Codes on a grid, with what every evaluation of them needs."""

    net: Transformer
    task: Task
    placed: PlacedCodes
    level: Float64[np.ndarray, "H L"]
    atom: Int64[np.ndarray, "N k"]
    codes: Codes
    """The same as the kernel sees it; what is claimed varies."""
    target: Float64[np.ndarray, "N d"]
    """The exact residuals, up to rounding."""
    rho: Float64[np.ndarray, " N"]
    """A little more than the distance of each decode from the residual."""
    rule: str

    @staticmethod
    def of(
        net: Transformer,
        task: Task,
        placed: PlacedCodes,
        target: Float64[np.ndarray, "N d"],
        values: int,
        rule: str,
    ) -> "Search":
        """Put the codes on a grid of so many values of a feature."""
        placed, level, atom = on_grid(placed, values)
        decoded = placed.decoded()
        size = np.linalg.norm(target, axis=1) + np.linalg.norm(decoded, axis=1)
        rho = np.linalg.norm(target - decoded, axis=1) * (1 + 1e-9) + size * 1e-12
        witness = CellCodes(
            *_arrays(placed, level, atom),
            claimed=np.full(task.total, BY_CODE, dtype=np.int32),
            slope=np.zeros((0, net.d_vocab_out, net.blocks[-1].d_mlp)),
        )
        codes = checked_codes("crosscoder-c", witness, net, task, BY_RESIDUAL)
        return Search(net, task, placed, level, atom, codes, target, rho, rule)

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.placed.bias)

    def additive_codes(
        self, claimed: Int64[np.ndarray, " N"], sign: Int64[np.ndarray, "U m"]
    ) -> AdditiveCodes:
        """The witness of theorem B."""
        arrays = _arrays(self.placed, self.level, self.atom)
        return AdditiveCodes(*arrays, claimed=claimed.astype(np.int32), sign=sign.astype(np.int32))

    def cell_codes(
        self, claimed: Int64[np.ndarray, " N"], slope: Float64[np.ndarray, "S x m"]
    ) -> CellCodes:
        """The witness of theorem C."""
        arrays = _arrays(self.placed, self.level, self.atom)
        return CellCodes(*arrays, claimed=claimed.astype(np.int32), slope=slope)

    def claiming(self, claimed: Int64[np.ndarray, " N"]) -> tuple[Codes, Atoms, Ledger]:
        """The codes with these claims, and the kernel's tables of their atoms."""
        ledger = Ledger()
        codes = self.codes._replace(claimed=claimed)
        return codes, Atoms.of(codes, self.net, ledger), ledger

    def ranges(
        self, codes: Codes, atoms: Atoms, group: Group, rho: Float64[np.ndarray, " N"]
    ) -> Ends:
        """Ranges of all neurons over a group."""
        block, ledger = self.net.blocks[-1], Ledger()
        weight = Ball.exact(block.W_in, ledger)
        base = Ball.exact(codes.bias[group.cell][None], ledger)
        beta = (base @ weight)[0] + Ball.exact(block.b_in, ledger)
        radius = float(rho[group.members].max())
        rule = RANGE_RULES[self.rule]
        return neuron_ranges(rule, codes, group, atoms.reach, beta, weight, radius, ledger)

    def signs(self, claimed: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, "U m"]:
        """The neurons that are on (1) or off (-1) in each cell, with a little room."""
        codes, atoms, _ = self.claiming(claimed)
        sign = np.zeros((self.cells, self.net.blocks[-1].d_mlp), dtype=np.int64)
        seen: set[int] = set()
        for group in codes.groups(BY_CODE):
            low, high = self.ranges(codes, atoms, group, self.rho)
            room = ROOM * np.maximum(np.abs(low), np.abs(high)).max(initial=0.0)
            here = np.where(low > room, 1, np.where(high < -room, -1, 0))
            before = sign[group.cell]
            sign[group.cell] = np.where(before == here, here, 0) if group.cell in seen else here
            seen.add(group.cell)
        return sign

    def additive_margins(
        self,
        claimed: Int64[np.ndarray, " N"],
        sign: Int64[np.ndarray, "U m"],
        *,
        rho: Float64[np.ndarray, " N"] | None = None,
    ) -> tuple[Float64[np.ndarray, "N r"], int]:
        """Theorem B's bounds, -inf where nothing is claimed, and the FLOPs of their tables."""
        codes, atoms, ledger = self.claiming(claimed)
        radius = self.rho if rho is None else rho
        bounds = np.full((len(claimed), self.net.d_vocab_out - 1), -np.inf)
        rule = RANGE_RULES[self.rule]
        for members, lower in additive_bounds(self.net, codes, sign, rule, atoms, radius, ledger):
            bounds[members] = lower
        return bounds, ledger.flops

    def cell_margins(
        self,
        claimed: Int64[np.ndarray, " N"],
        slope: Float64[np.ndarray, "S x m"] | None = None,
        *,
        rho: Float64[np.ndarray, " N"] | None = None,
    ) -> tuple[Float64[np.ndarray, "N r"], int]:
        """Theorem C's bounds, -inf where nothing is claimed, and the FLOPs of their tables."""
        codes, atoms, ledger = self.claiming(claimed)
        radius = self.rho if rho is None else rho
        bounds = np.full((len(claimed), self.net.d_vocab_out - 1), -np.inf)
        mids, rule = LastMid(self.net, ledger), RANGE_RULES[self.rule]
        for members, lower in cell_bounds(
            self.net, codes, slope, rule, atoms, radius, mids, ledger
        ):
            bounds[members] = lower
        return bounds, ledger.flops


def _arrays(
    placed: PlacedCodes, level: Float64[np.ndarray, "H L"], atom: Int64[np.ndarray, "N k"]
) -> tuple[np.ndarray, ...]:
    """The tensors that both theorems take, up to what is claimed."""
    return (
        placed.decoder,
        placed.bias,
        level,
        atom.astype(np.int32),
        placed.cell.astype(np.int32),
    )


def least(bounds: Float64[np.ndarray, "N r"]) -> Float64[np.ndarray, " N"]:
    """The least of each row; infinite where there is no other output."""
    return bounds.min(axis=1, initial=np.inf)


def room_of(worst: Float64[np.ndarray, " N"]) -> float:
    """What a bound must exceed to be claimed."""
    sizes = np.abs(worst[np.isfinite(worst)])
    return ROOM * float(np.median(sizes)) if len(sizes) else 0.0
