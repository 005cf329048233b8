"""What no gate takes: anything about another network, and data that arrived already."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gates_for_tests import INPUTS, NETWORK, SITES, confident, near

from compactproofs.gate import Activations, Gate
from compactproofs.kernel import UserError
from compactproofs.kernel.gate import ReluNetwork

_LAST = NETWORK.layers[1]
OTHER = ReluNetwork((NETWORK.layers[0], replace(_LAST, b=_LAST.b + 2.0**-40)))


def test_nothing_is_added_with_the_weights_of_another_network(tmp_path: Path) -> None:
    with Gate.create(tmp_path / "gate", NETWORK, SITES, rho="1/5", delta="1/5") as gate:
        _, cell = confident(gate)
        gate.add_region(cell)
        rule = gate.add_mass(cell.id)
        before = len(gate.ledger.lines)
    with Gate.open(tmp_path / "gate", OTHER, write=True) as gate:
        additions: list[Callable[[], object]] = [
            lambda: gate.record(INPUTS[:1], signer="me"),
            lambda: gate.add_cell(cell),
            lambda: gate.add_region(cell),
            lambda: gate.add_mass(cell.id),
            lambda: gate.add_risk(cell.id),
            lambda: gate.add_family([[cell.id]], 5),
            lambda: gate.observe(INPUTS),
            lambda: gate.add_calibration([[cell.id]], INPUTS, [0] * len(INPUTS)),
            lambda: gate.refuse(rule, "why"),
            lambda: gate.note("why", "because"),
        ]
        for addition in additions:
            with pytest.raises(UserError, match="is about the network") as caught:
                addition()
            assert "\n" not in str(caught.value)
        assert len(gate.ledger.lines) == before


def test_a_datum_arrives_once_in_whatever_portions(tmp_path: Path) -> None:
    h, outputs = near(np.zeros(5), 12)
    h[3] = np.inf

    def part(*rows: int) -> Activations:
        return Activations(h[list(rows)], outputs[list(rows)])

    with Gate.create(tmp_path / "gate", NETWORK, SITES) as gate:
        assert gate.observe(part(0, 1, 2, 3)) == range(4)
        batch = gate.ledger.lines[-1].id
        with pytest.raises(UserError, match="NaN"):
            gate.observe(Activations(h[:1] * np.nan, outputs[:1]))
        for rows, count in (((5, 1), 1), ((2, 0, 1), 3), ((0,), 1)):
            with pytest.raises(UserError, match=f"{count} of {len(rows)} data are in the stream"):
                gate.observe(part(*rows))
        assert gate.position == 4
        assert gate.observe(part(3, 4, 4)) == range(4, 7)  # infinity is equal to nothing
        assert gate.observe(part(0, 6), repeats=True) == range(7, 9)
        gate.retract(batch, "wrong labels")
        assert gate.observe(part(1, 2)) == range(9, 11)
        for rows in ((0,), (2,), (4,)):
            with pytest.raises(UserError, match="each datum counts once"):
                gate.observe(part(*rows))
    with Gate.open(tmp_path / "gate", NETWORK, write=True) as gate:
        zero = Activations(np.zeros((1, 5)), outputs[:1])
        gate.observe(zero)
        for again in (part(6), Activations(-zero.h, zero.outputs)):
            with pytest.raises(UserError, match="each datum counts once"):
                gate.observe(again)
