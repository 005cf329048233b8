"""Theorem C: one line for each neuron in each cell, so that a margin is linear in the code.

Terms as in ``_codes``, ``_code_ranges`` and ``_coded``. In a group let ``low_n <= z_n <= high_n``
hold for the exact residuals of all members, by ranges over their codes widened by ``rho_C |w_n|``.

*Lines.* For another output ``x`` and **any** numbers ``g_n`` let

    tau_n = max over z in {low_n, high_n, and 0 if low_n < 0 < high_n} of  g_n z - a_n relu(z).

Then ``a_n relu(z) >= g_n z - tau_n`` on the range: the difference is linear on either side of 0, so
it is largest at an end or at the kink. ``g`` is a choice of the witness; without one it is, for a
neuron whose sign the range leaves open, the chord ``a high / (high - low)`` where ``a < 0``, and
where ``a >= 0`` the slope ``a`` if ``high > -low``, else 0.

*Theorem.* With ``C = c + sum_n g_n w_n`` and ``K = c . b_out + b_U[y] - b_U[x] + sum_n (g_n
b_in[n] - tau_n)`` a member's margin over ``x`` is at least ``C . u + K``, and so at least

    (C . b + K) + sum_a C . p_a - |C| rho.

Proof. Add the lines up; ``z_n = u . w_n + b_in[n]`` and ``u = b + sum_a p_a + e``; Cauchy-Schwarz
for ``e``. The first form is the test of the sequences that are claimed by their exact residual:
they belong to the group, and its ranges cover them.

Cost: O(x m d) and the ranges for each group, O(x) for each feature of it, and O(k x) table look-ups
and O((k + places) d) for each sequence (``_mid_tables``); by residual O(x d).
Source: docs/theory.md section 7.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64

from .._claim import Proved
from .._code_ranges import CodeOptions, RangeRule, neuron_ranges
from .._codes import (
    BY_CODE,
    BY_RESIDUAL,
    Atoms,
    Codes,
    Group,
    along,
    checked_codes,
    in_blocks,
    product,
    require_numbers,
    total,
)
from .._enclosure import Ball, norm_upper
from .._errors import MalformedError
from .._ledger import Ledger
from .._mid_tables import LastMid
from .._tasks import Task
from .._tick import Tick, no_tick
from .._transformer import Transformer
from ._coded import Bounds, Rivals, prove_claimed


class CellCodes(NamedTuple):
    """A code of every sequence, in the order of ``_network.sequences``; all are sound."""

    decoder: Float64[np.ndarray, "H d"]
    """Direction of each feature in the residual stream before the last MLP."""
    bias: Float64[np.ndarray, "U d"]
    """Base point of each cell."""
    level: Float64[np.ndarray, "H L"]
    """The activation values that each feature may have."""
    code: Int32[np.ndarray, "N k"]
    """Atoms ``i L + j``, -1 for none."""
    cell: Int32[np.ndarray, " N"]
    claimed: Int32[np.ndarray, " N"]
    """0: no, 1: by the code, 2: by a forward pass of this sequence, 3: by the exact residual."""
    slope: Float64[np.ndarray, "S x m"]
    """``g`` of each cell against each output; no cells (S = 0) for the stated choice."""


class Lines(NamedTuple):
    """What margins of a group are not below: linear functions of the residual."""

    direction: Ball
    """``C``, ``[r, d]``"""
    constant: Ball
    """``K``, ``[r]``"""


def crosscoder_c(
    net: Transformer,
    task: Task,
    options: CodeOptions,
    tick: Tick = no_tick,
    witness: CellCodes | None = None,
) -> Proved:
    """Prove a lower bound on the accuracy by the theorem above."""
    codes = checked_codes("crosscoder-c", witness, net, task, BY_RESIDUAL)
    slope = checked_slopes(witness.slope, codes, net)  # type: ignore[union-attr]
    return prove_claimed(
        "crosscoder-c",
        options.as_claim(),
        net,
        task,
        codes,
        lambda atoms, rho, mids, ledger: cell_bounds(
            net, codes, slope, options.ranges, atoms, rho, mids, ledger
        ),
        witness,
        tick,
    )


def checked_slopes(
    slope: object, codes: Codes, net: Transformer
) -> Float64[np.ndarray, "S x m"] | None:
    """The slopes of the witness; None if it leaves them to the theorem."""
    if not isinstance(slope, np.ndarray) or slope.ndim != 3:
        raise MalformedError(f"tensor slope has shape {np.shape(slope)}, not three axes")  # type: ignore[arg-type]
    cells = len(codes.bias) if len(slope) else 0
    shape = (cells, net.d_vocab_out, net.blocks[-1].d_mlp)
    return require_numbers("slope", slope, shape) if cells else None


def cell_bounds(
    net: Transformer,
    codes: Codes,
    slope: Float64[np.ndarray, "S x m"] | None,
    rule: RangeRule,
    atoms: Atoms,
    rho: Float64[np.ndarray, " N"],
    mids: LastMid,
    ledger: Ledger,
) -> Iterator[Bounds]:
    """The theorem's bounds on the margins of all sequences claimed by code or by residual."""
    rivals: dict[int, Rivals] = {}
    for group in codes.groups(BY_CODE, BY_RESIDUAL):
        if group.label not in rivals:
            rivals[group.label] = Rivals.of(net, group.label, ledger)
        low, high = group_ranges(net, codes, group, rule, atoms, rho, ledger)
        own = rivals[group.label]
        if slope is None:
            g = stated_slopes(own.weight.mid, low, high)
        else:
            g = np.delete(slope[group.cell], group.label, axis=0)
        lines = group_lines(net, own, g, low, high, ledger)
        by_code = codes.claimed[group.members] == BY_CODE
        yield from _by_code(codes, group, group.members[by_code], lines, rho, ledger)
        yield from _by_residual(codes, group.members[~by_code], lines, mids, ledger)


def group_ranges(
    net: Transformer,
    codes: Codes,
    group: Group,
    rule: RangeRule,
    atoms: Atoms,
    rho: Float64[np.ndarray, " N"],
    ledger: Ledger,
) -> tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """``low`` and ``high`` of every neuron."""
    block = net.blocks[-1]
    weight = Ball.exact(block.W_in, ledger)
    bias = Ball.exact(codes.bias[group.cell][None], ledger)
    beta = (bias @ weight)[0] + Ball.exact(block.b_in, ledger)
    radius = float(rho[group.members].max())
    return neuron_ranges(rule, codes, group, atoms.reach, beta, weight, radius, ledger)


def stated_slopes(
    a: Float64[np.ndarray, "r m"], low: Float64[np.ndarray, " m"], high: Float64[np.ndarray, " m"]
) -> Float64[np.ndarray, "r m"]:
    """``g`` where the witness has none; any numbers are sound."""
    spread = np.where((low < 0) & (high > 0), high - low, 1.0)
    open_slope = np.where(a < 0, high / spread, np.where(high > -low, 1.0, 0.0))
    return a * np.where(low >= 0, 1.0, np.where(high <= 0, 0.0, open_slope))


def group_lines(
    net: Transformer,
    rivals: Rivals,
    g: Float64[np.ndarray, "r m"],
    low: Float64[np.ndarray, " m"],
    high: Float64[np.ndarray, " m"],
    ledger: Ledger,
) -> Lines:
    """Add up the lines of all neurons. Cost: O(r m d)."""
    block, a = net.blocks[-1], rivals.weight
    slope = Ball.exact(g, ledger)

    def excess(z: Float64[np.ndarray, " m"]) -> Float64[np.ndarray, "r m"]:
        point = Ball.exact(z[None], ledger)
        return (slope * point - a * point.relu()).upper()

    kink = np.where((low < 0) & (high > 0), 0.0, -np.inf)
    tau = np.maximum(np.maximum(excess(low), excess(high)), kink[None])
    ledger.point(2 * tau.size)
    weight = Ball.exact(block.W_in, ledger)
    shift = slope * Ball.exact(block.b_in[None], ledger) - Ball.exact(tau, ledger)
    return Lines(rivals.direction + product(slope, weight.T), rivals.constant + total(shift, 1))


def _by_code(
    codes: Codes,
    group: Group,
    members: Int64[np.ndarray, " n"],
    lines: Lines,
    rho: Float64[np.ndarray, " N"],
    ledger: Ledger,
) -> Iterator[Bounds]:
    """Margins from look-ups of ``C . p_a``."""
    used = np.unique(codes.code[members])
    table = along(codes, used, lines.direction, ledger)
    bias = Ball.exact(codes.bias[group.cell][:, None], ledger)
    base = (lines.direction @ bias)[:, 0] + lines.constant
    size = Ball.exact(norm_upper(lines.direction)[None], ledger)
    for some in in_blocks(members, codes.code.shape[1] * len(size.mid[0])):
        sums = table[np.searchsorted(used, codes.code[some])].sum(1)
        missed = Ball.exact(rho[some][:, None], ledger) * size
        yield some, (sums + base[None] - missed).lower()


def _by_residual(
    codes: Codes,
    members: Int64[np.ndarray, " n"],
    lines: Lines,
    mids: LastMid,
    ledger: Ledger,
) -> Iterator[Bounds]:
    """Margins from the exact residuals."""
    for some in in_blocks(members, mids.places * codes.decoder.shape[1]):
        margins = mids(codes.tokens[some]) @ lines.direction.T + lines.constant[None]
        yield some, margins.lower()
