"""Theorem B: the errors of single features, tabulated once and added up for each sequence.

Terms as in ``_codes`` and ``_coded``. Let a group's members have base point ``b``, label ``y`` and
codes ``a``; for each neuron ``beta = b . w + b_in`` and ``p_a . w = m_a``.

*Signs.* The witness may say that a neuron is on (``z >= 0``) or off (``z <= 0``) in a cell. That is
verified over the group, for the decodes and the exact residuals alike, by a range of
``_code_ranges``; a false one refutes the certificate. There ``s(z) = z`` or ``s(z) = 0`` is
``relu(z)`` at every point that matters; for the other neurons let ``s = relu``.

*Tables.* For another output ``x`` and an atom ``p``, over the neurons, ``h_n = s(beta_n + m_n) -
s(beta_n)``:

    G(p) = c . p + sum_n a_n h_n,
    W(p) = sum_n  [a_n]_+ (h_n - min(0, m_n)) + [-a_n]_+ (max(0, m_n) - h_n)  >= 0,

with the terms of on and off neurons left out of ``W``, and ``B = c . (b + b_out) + b_U[y] - b_U[x]
+ sum_n a_n s(beta_n)``.

*Theorem.* With ``R`` below, a member's margin over ``x`` is at least

    B + sum_a G(p_a) - (sum_a W(p_a) - max_a W(p_a)) - R rho.

Proof. (1) The strongest feature: pass from ``beta`` to ``z_hat`` one atom at a time, beginning with
the one of largest ``W``. The first step changes ``s`` by ``h``, exactly. Any other changes it by a
number in ``[min(0, m), max(0, m)]``, as the slope is in ``[0, 1]``, where ``h`` lies as well. So
``s(z_hat) = s(beta) + sum h + r``, where ``a r >= -([a]_+ (h - min(0, m)) + [-a]_+ (max(0, m) -
h))`` summed over the other atoms; on and off neurons are linear and have ``r = 0``. The same order
serves all neurons. Any atom may come first; the largest gives the best bound. (2) The rest: along
the segment from ``u_hat`` to ``u`` each ``s`` has a mean slope in ``[0, 1]``, 1 if on and 0 if off,
so the margin changes by ``v . e`` for a ``v = c + sum_on a_n w_n + sum_others q_n a_n w_n`` with
``q`` in ``[0, 1]``, and with ``q = 1/2 + t``, ``|t| <= 1/2``,

    |v| <= R = |c + sum_on a_n w_n + 1/2 sum_others a_n w_n|
             + 1/2 sqrt(sum_{n,l among the others} |a_n| |a_l| |w_n . w_l|).

All cells with one base point and no signs are the theorem in its plain form: L5 of the reference,
static tables of single features.

Cost: O(x m) for each atom of each group, O(x m^2) for each group, and O(k x) table look-ups and
O((k + places) d) for each sequence (``_mid_tables``); ranges as their rule says.
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
    BY_FORWARD_PASS,
    Atoms,
    Codes,
    Group,
    along,
    checked_codes,
    in_blocks,
    negative,
    product,
    require_whole,
    root_upper,
    total,
)
from .._enclosure import Ball, norm_upper
from .._errors import RejectedError
from .._ledger import Ledger
from .._tasks import Task
from .._tick import Tick, no_tick
from .._transformer import Transformer
from ._coded import Bounds, Rivals, prove_claimed


class AdditiveCodes(NamedTuple):
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
    """0: no, 1: by the theorem, 2: by a forward pass of this sequence."""
    sign: Int32[np.ndarray, "U m"]
    """1: the neuron is on in the cell, -1: it is off, 0: neither is claimed."""


class Tables(NamedTuple):
    """What the sequences of a group add up: for ``a`` atoms and ``r`` other outputs."""

    base: Ball
    """``B``, ``[r]``"""
    gain: Float64[np.ndarray, "a r"]
    """Not above ``G - W``."""
    slack: Float64[np.ndarray, "a r"]
    """The ``W`` that was subtracted."""
    radius: Float64[np.ndarray, " r"]
    """Not below ``R``."""


def crosscoder_b(
    net: Transformer,
    task: Task,
    options: CodeOptions,
    tick: Tick = no_tick,
    witness: AdditiveCodes | None = None,
) -> Proved:
    """Prove a lower bound on the accuracy by the theorem above."""
    codes = checked_codes("crosscoder-b", witness, net, task, BY_FORWARD_PASS)
    shape = (len(codes.bias), net.blocks[-1].d_mlp)
    sign = require_whole("sign", witness.sign, shape, -1, 1)  # type: ignore[union-attr]
    return prove_claimed(
        "crosscoder-b",
        options.as_claim(),
        net,
        task,
        codes,
        lambda atoms, rho, _, ledger: additive_bounds(
            net, codes, sign, options.ranges, atoms, rho, ledger
        ),
        witness,
        tick,
    )


def additive_bounds(
    net: Transformer,
    codes: Codes,
    sign: Int64[np.ndarray, "U m"],
    rule: RangeRule,
    atoms: Atoms,
    rho: Float64[np.ndarray, " N"],
    ledger: Ledger,
) -> Iterator[Bounds]:
    """The theorem's bounds on the margins of all sequences claimed by their codes."""
    weights = Ball.exact(net.blocks[-1].W_in, ledger)
    gram = product(weights.T, weights).absolute()
    rivals: dict[int, Rivals] = {}
    for group in codes.groups(BY_CODE):
        if group.label not in rivals:
            rivals[group.label] = Rivals.of(net, group.label, ledger)
        verify_signs(net, codes, group, sign[group.cell], rule, atoms, rho, ledger)
        used = np.unique(codes.code[group.members])
        tables = group_tables(
            net, codes, group, used, sign[group.cell], atoms, rivals[group.label], gram, ledger
        )
        for some in in_blocks(group.members, codes.code.shape[1] * net.d_vocab_out):
            place = np.searchsorted(used, codes.code[some])
            yield some, added_up(tables, place, rho[some], ledger)


def verify_signs(
    net: Transformer,
    codes: Codes,
    group: Group,
    sign: Int64[np.ndarray, " m"],
    rule: RangeRule,
    atoms: Atoms,
    rho: Float64[np.ndarray, " N"],
    ledger: Ledger,
) -> None:
    """Refuse a sign that the ranges of the group do not confirm."""
    (claimed,) = np.nonzero(sign)
    if not len(claimed):
        return
    weight, beta = _base(net, codes, group, claimed, ledger)
    radius = float(rho[group.members].max())
    low, high = neuron_ranges(
        rule, codes, group, atoms.reach[:, claimed], beta, weight, radius, ledger
    )
    false = np.where(sign[claimed] > 0, low < 0, high > 0)
    if false.any():
        n = int(np.argmax(false))
        raise RejectedError(
            f"neuron {claimed[n]} is claimed to be {'on' if sign[claimed[n]] > 0 else 'off'} in "
            f"cell {group.cell}, where it ranges from {low[n]:.4g} to {high[n]:.4g}"
        )


def _base(
    net: Transformer, codes: Codes, group: Group, neurons: Int64[np.ndarray, " n"], ledger: Ledger
) -> tuple[Ball, Ball]:
    """The columns of W_in of some neurons ``[d, n]``, and ``beta`` there ``[n]``."""
    block = net.blocks[-1]
    weight = Ball.exact(block.W_in[:, neurons], ledger)
    bias = Ball.exact(codes.bias[group.cell][None], ledger)
    return weight, (bias @ weight)[0] + Ball.exact(block.b_in[neurons], ledger)


def group_tables(
    net: Transformer,
    codes: Codes,
    group: Group,
    used: Int64[np.ndarray, " a"],
    sign: Int64[np.ndarray, " m"],
    atoms: Atoms,
    rivals: Rivals,
    gram: Ball,
    ledger: Ledger,
) -> Tables:
    """The tables of a group for the atoms ``used``, against every other output.

    gram: ``|w_n . w_l|``, ``[m, m]``.
    """
    (on,), (free,) = np.nonzero(sign > 0), np.nonzero(sign == 0)
    block = net.blocks[-1]
    weight, beta = _base(net, codes, group, free, ledger)
    bias = Ball.exact(codes.bias[group.cell][:, None], ledger)
    direction = rivals.direction + product(
        rivals.weight[:, on], Ball.exact(block.W_in[:, on].T, ledger)
    )
    a = rivals.weight[:, free]
    at_base = beta.relu()
    shifts = product(rivals.weight[:, on], Ball.exact(block.b_in[on][:, None], ledger))
    base = (direction @ bias + shifts + product(a, at_base[:, None]))[:, 0] + rivals.constant

    reach = atoms.reach[used][:, free]
    up, down = reach.relu(), negative(reach).relu()
    change = (beta + reach).relu() - at_base
    above, below = change + down, up - change  # from the least, to the largest possible change
    slack = (product(above, a.relu().T) + product(below, negative(a).relu().T)).upper()
    slack = np.maximum(slack, 0.0)
    gain = along(codes, used, direction, ledger) + product(change, a.T)
    ledger.point(slack.size)
    return Tables(
        base,
        (gain - Ball.exact(slack, ledger)).lower(),
        slack,
        _radius(direction, a, weight, gram[free][:, free], ledger),
    )


def _radius(
    direction: Ball, a: Ball, weight: Ball, gram: Ball, ledger: Ledger
) -> Float64[np.ndarray, " r"]:
    """Numbers not below ``R``. direction: ``c + sum_on a_n w_n``."""
    half = Ball.exact(np.array([0.5]), ledger)
    centre = norm_upper(direction + half * product(a, weight.T))
    size = a.absolute()
    spread = root_upper(total(product(size, gram) * size, 1).upper(), ledger)
    return (Ball.exact(centre, ledger) + half * Ball.exact(spread, ledger)).upper()


def added_up(
    tables: Tables,
    place: Int64[np.ndarray, "n k"],
    rho: Float64[np.ndarray, " n"],
    ledger: Ledger,
) -> Float64[np.ndarray, "n r"]:
    """Numbers not above the margins of sequences with these atoms. Cost: O(k r) for each."""
    slack = tables.slack[place]
    strongest = slack.max(axis=1)
    ledger.point(slack.size - strongest.size)
    sums = Ball.exact(tables.gain, ledger)[place].sum(1) + Ball.exact(strongest, ledger)
    missed = Ball.exact(rho[:, None], ledger) * Ball.exact(tables.radius[None], ledger)
    return (sums + tables.base[None] - missed).lower()
