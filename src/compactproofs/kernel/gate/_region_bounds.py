"""Linear bounds of a network after a cut, over a region: what the margins are at least.

A *leaf* is a box at the cut and a sign for some units: on (``z >= 0``) or off (``z <= 0``), from
the cell's pattern or from a split. Let ``l <= z <= u`` be a unit's range on the leaf.

**Lines.** ``relu(z) = z`` if ``l >= 0`` and ``0`` if ``u <= 0``. Else, for any ``0 <= s <= 1``,

* ``relu(z) >= s z``, and ``relu(z) <= s z + E`` with ``E = max(|l|, |u|)``;
* ``relu(z) <= s z + t`` with ``t = max(-s l, (1 - s) u, 0)``, and ``relu(z) >= s z + t - E`` with
  ``E = t``. The best slope is the chord's, ``u / (u - l)``.

A form ``A relu(z) + k`` is bounded from below by the first line where ``A`` looks positive, with
the witness's slope, and by the second where it looks negative; a wrong guess costs ``|A| E``.

**Signs.** On a leaf where ``z >= 0``, ``A z + k >= (A - beta) z + k`` for any ``beta >= 0``; where
``z <= 0``, with ``A + beta``. **Events.** Where ``row_low <= r a <= row_high``,
``A a + k >= (A - m r) a + k + m row_low`` for ``m >= 0``, and with ``row_high`` for ``m <= 0``.

**The pass.** ``A act(z_i) + k`` becomes ``A' act(z_{i-1}) + k'`` with ``A' = A W^T``,
``k' = k + A b``, down to the cut, where the box's ends give the least value. The same pass on
each unit and its negative gives the ranges, layer by layer, with slope 1 if ``u > -l`` else 0,
intersected with interval arithmetic and with the signs. A range with ``l > u`` says that no point
is on the leaf. Everything is computed in enclosures; ranges and bounds are their outer ends.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int8

from .._enclosure import Ball
from .._ledger import Ledger
from ._relu_network import ReluNetwork
from ._sites import Sites


class UnitLayer(NamedTuple):
    """The units of one layer on each leaf: ranges, and the line above."""

    start: int
    """Number of the first of them among all units"""
    low: Float64[np.ndarray, "l u"]
    high: Float64[np.ndarray, "l u"]
    chord: Float64[np.ndarray, "l u"]
    lift: Float64[np.ndarray, "l u"]
    """t of the line above"""


class Leaves(NamedTuple):
    """What is known of every leaf before the margins are bounded."""

    low: Float64[np.ndarray, "l s"]
    """The box at the cut"""
    high: Float64[np.ndarray, "l s"]
    signs: Int8[np.ndarray, "l u"]
    units: dict[int, UnitLayer]
    """By number of layer"""
    empty: Bool[np.ndarray, " l"]
    """Where no point is on the leaf for certain"""


class Choices(NamedTuple):
    """What may be chosen freely of a bound, for each leaf and form."""

    slopes: Float64[np.ndarray, "l r u"]
    betas: Float64[np.ndarray, "l r u"]
    """Of the units' signs, not negative; without effect where a unit has none"""
    multipliers: Float64[np.ndarray, "l r e"]
    rows: Float64[np.ndarray, "e s"]
    """At the cut"""
    row_low: Float64[np.ndarray, " e"]
    row_high: Float64[np.ndarray, " e"]


class _Form(NamedTuple):
    """``A act(z) + k``: A ``[l r a]``, k ``[l r]``."""

    A: Ball
    k: Ball


def enter_leaves(
    network: ReluNetwork,
    sites: Sites,
    low: Float64[np.ndarray, " s"],
    high: Float64[np.ndarray, " s"],
    signs: Int8[np.ndarray, "l u"],
    ledger: Ledger,
) -> Leaves:
    """The ranges of all units on leaves of a box at the cut (``relu(z)`` is not below 0).

    signs: 1 on, -1 off, 0 neither, of the units of ``Sites.unit_layers``.
    Cost: for each leaf and layer two backward passes for each unit.
    """
    leaves, first = len(signs), sites.layer
    start_low = np.maximum(low, 0.0) if sites.after_relu else low
    box_low, box_high = np.tile(start_low, (leaves, 1)), np.tile(high, (leaves, 1))
    empty = np.asarray((box_low > box_high).any(axis=1))
    box_high = np.maximum(box_low, box_high)
    units: dict[int, UnitLayer] = {}
    known = Leaves(box_low, box_high, signs, units, empty)
    unit_layers, offset = sites.unit_layers(network), 0
    here_low, here_high = box_low, box_high
    for number in range(first, len(network.layers)):
        if number > first:
            before = network.layers[number - 1]
            through = Ball.between(here_low, here_high, ledger) @ Ball.exact(before.W, ledger)
            through = through + Ball.exact(before.b, ledger)
            here_low, here_high = through.lower(), through.upper()
        if number not in unit_layers:
            continue
        width = network.widths[number]
        if number > first:
            passed = _unit_bounds(network, sites, known, number, ledger)
            here_low = np.maximum(here_low, passed[:, :width])
            here_high = np.minimum(here_high, -passed[:, width:])
        sign = signs[:, offset : offset + width]
        here_low = np.where(sign > 0, np.maximum(here_low, 0.0), here_low)
        here_high = np.where(sign < 0, np.minimum(here_high, 0.0), here_high)
        empty |= (here_low > here_high).any(axis=1)
        here_high = np.maximum(here_low, here_high)
        units[number] = _lines_above(offset, here_low, here_high, ledger)
        if number == first:
            known = known._replace(low=here_low, high=here_high)
        offset += width
        here_low, here_high = np.maximum(here_low, 0.0), np.maximum(here_high, 0.0)
    return known


def _lines_above(
    start: int,
    low: Float64[np.ndarray, "l u"],
    high: Float64[np.ndarray, "l u"],
    ledger: Ledger,
) -> UnitLayer:
    undecided = (low < 0) & (high > 0)
    with np.errstate(over="ignore"):
        span = np.where(undecided, high - low, 1.0)
    chord = np.clip(np.where(undecided, high, 0.0) / span, 0.0, 1.0)
    s, one = Ball.exact(chord, ledger), Ball.exact(np.ones_like(chord), ledger)
    at_low = (s * Ball.exact(-low, ledger)).upper()
    at_high = ((one - s) * Ball.exact(high, ledger)).upper()
    lift = np.where(undecided, np.maximum(np.maximum(at_low, at_high), 0.0), 0.0)
    return UnitLayer(start, low, high, chord, lift)


def _unit_bounds(
    network: ReluNetwork, sites: Sites, known: Leaves, number: int, ledger: Ledger
) -> Float64[np.ndarray, "l r"]:
    """Numbers not above ``z`` of each unit of a layer, then not above ``-z``."""
    before = network.layers[number - 1]
    form = _Form(
        Ball.exact(np.concatenate([before.W.T, -before.W.T])[None], ledger),
        Ball.exact(np.concatenate([before.b, -before.b])[None], ledger),
    )
    return _least(_to_cut(network, sites, known, number - 1, form, None), known)


def margin_bounds(
    network: ReluNetwork,
    sites: Sites,
    known: Leaves,
    label: int,
    choices: Choices | None,
    ledger: Ledger,
) -> Float64[np.ndarray, "l r"]:
    """Numbers not above ``logit(label) - logit(k)`` on each leaf, for the other outputs in order.

    Infinite on a leaf without points. Cost: one backward pass for each leaf and rival.
    """
    last = network.layers[-1]
    rivals = np.delete(np.arange(network.outputs), label)

    def differences(values: Float64[np.ndarray, "a x"]) -> Ball:
        all_outputs = Ball.exact(values, ledger)
        return (all_outputs[:, label, None] - all_outputs[:, rivals]).T[None]

    form = _Form(differences(last.W), differences(last.b[None])[..., 0])
    form = _to_cut(network, sites, known, len(network.layers) - 1, form, choices)
    if network.skip is not None:
        form = form._replace(A=form.A + differences(network.skip))
    if choices is not None and choices.multipliers.shape[2]:
        form = _with_events(form, choices, ledger)
    return np.where(known.empty[:, None], np.inf, _least(form, known))


def _to_cut(
    network: ReluNetwork,
    sites: Sites,
    known: Leaves,
    number: int,
    form: _Form,
    choices: Choices | None,
) -> _Form:
    """A form of the cut that is nowhere above ``A act(z) + k`` of the layer ``number``."""
    ledger = form.A.ledger
    while True:
        if number in known.units:
            form = _below_relu(form, known, known.units[number], choices)
        if number == sites.layer:
            return form
        number -= 1
        layer = network.layers[number]
        both = Ball.exact(np.concatenate([layer.W, layer.b[None]]).T, ledger)
        leaves, forms, width = form.A.shape
        passed = (form.A.reshape(leaves * forms, width) @ both).reshape(leaves, forms, -1)
        form = _Form(passed[:, :, :-1], form.k + passed[:, :, -1])


def _below_relu(form: _Form, known: Leaves, unit: UnitLayer, choices: Choices | None) -> _Form:
    """Lines for the ReLU of one layer, then the signs of its units."""
    A, ledger = form.A, form.A.ledger
    units = slice(unit.start, unit.start + unit.low.shape[1])
    low, high = unit.low[:, None], unit.high[:, None]
    on, off = low >= 0, high <= 0
    undecided = ~on & ~off
    negative = (A.mid < 0) & undecided
    below = np.where(high > -low, 1.0, 0.0) if choices is None else choices.slopes[:, :, units]
    slope = np.where(negative, unit.chord[:, None], below)
    slope = np.where(on, 1.0, np.where(off, 0.0, slope))
    lift = np.where(negative, unit.lift[:, None], 0.0)
    most = np.where(negative, lift, np.where(undecided, np.maximum(-low, high), 0.0))
    wrong_side = np.where(negative, np.maximum(A.upper(), 0.0), np.maximum(-A.lower(), 0.0))
    slip = Ball.exact(wrong_side, ledger) * Ball.exact(most, ledger)
    through = A * Ball.exact(slope, ledger)
    k = form.k + (A * Ball.exact(lift, ledger) - slip).sum(2)
    if choices is not None:
        signed = choices.betas[:, :, units] * known.signs[:, None, units]
        if signed.any():
            through = through - Ball.exact(signed, ledger)
    return _Form(through, k)


def _with_events(form: _Form, choices: Choices, ledger: Ledger) -> _Form:
    """What the linear events of the cell add: see the top of this file."""
    m = choices.multipliers
    leaves, forms, events = m.shape
    # An end that is not used may be infinite.
    ends = np.where(m > 0, choices.row_low, np.where(m < 0, choices.row_high, 0.0))
    used = Ball.exact(m, ledger)
    taken = used.reshape(leaves * forms, events) @ Ball.exact(choices.rows, ledger)
    A = form.A - taken.reshape(leaves, forms, -1)
    return _Form(A, form.k + (used * Ball.exact(ends, ledger)).sum(2))


def _least(form: _Form, known: Leaves) -> Float64[np.ndarray, "l r"]:
    """Numbers not above the least value of a form on each leaf's box.

    At the end that the sign of ``A`` points to; a wrong guess costs ``|A|`` times the width.
    """
    A, ledger = form.A, form.A.ledger
    low, high = known.low[:, None], known.high[:, None]
    negative = A.mid < 0
    end = Ball.exact(np.where(negative, high, low), ledger)
    width = (Ball.exact(high, ledger) - Ball.exact(low, ledger)).absolute()
    wrong_side = np.where(negative, np.maximum(A.upper(), 0.0), np.maximum(-A.lower(), 0.0))
    slip = Ball.exact(wrong_side, ledger) * width
    return (form.k + (A * end - slip).sum(2)).lower()
