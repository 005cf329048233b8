from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from gates_for_tests import NETWORK, SITES, full_gate, near

from compactproofs.gate._refute import (
    RefuteSettings,
    in_cell,
    refute,
    refute_cells,
    refute_intervals,
)
from compactproofs.kernel import RejectedError
from compactproofs.kernel.gate import (
    Cell,
    ReluLayer,
    ReluNetwork,
    SiteGroup,
    Sites,
    answers,
    certify_region,
    exact_margins,
)
from compactproofs.kernel.gate._credal import Statement
from compactproofs.kernel.gate._obligations import Measurement

QUICK = RefuteSettings(points=200, starts=16, steps=10)


def test_a_sound_gate_is_not_refuted(tmp_path: Path) -> None:
    gate, _, cell = full_gate(tmp_path / "gate")
    with gate:
        fresh = near((cell.low + cell.high) / 2, 300, seed=9)
        assert refute(gate, fresh, answers(fresh.outputs), QUICK) == []


def test_an_interval_that_fresh_data_contradict_is_found(tmp_path: Path) -> None:
    gate, _, cell = full_gate(tmp_path / "gate")
    with gate:
        elsewhere = near((cell.low + cell.high) / 2 + 1.0, 300, seed=9)
        found = refute(gate, elsewhere, answers(elsewhere.outputs), QUICK)
        assert [finding.point for finding in found] == [None]
        assert "0 of 300 fresh data" in found[0].what
        # Without data about the cell nothing can be said of its risk.
        wrong = near((cell.low + cell.high) / 2, 300, seed=9)
        labels = (answers(wrong.outputs) + 1) % 3
        assert any("300 of 300" in f.what for f in refute(gate, wrong, labels, QUICK))
        assert refute(gate, wrong, None, QUICK) == []


def widened(cell: Cell, by: float) -> Cell:
    return replace(cell, low=cell.low - by, high=cell.high + by)


@pytest.mark.parametrize("by", [5.0, 20.0])
def test_a_planted_false_certificate_is_found(tmp_path: Path, by: float) -> None:
    gate, _, cell = full_gate(tmp_path / "gate")
    gate.ledger.release()
    fake = widened(cell, by)
    with pytest.raises(RejectedError):
        certify_region(NETWORK, SITES, fake)
    found = refute_cells(NETWORK, SITES, [cell, fake], QUICK)
    assert [finding.about for finding in found] == [fake.id]
    point = found[0].point
    assert point is not None and in_cell(NETWORK, SITES, fake, point)
    assert min(exact_margins(NETWORK, SITES, list(point), fake.label)) <= 0


def test_a_false_claim_about_a_thin_part_of_a_box_is_found() -> None:
    # The margin is 1 - 3 max(0, a1 + a2 - 1); only where the event holds, in a corner, it is lost.
    network = ReluNetwork(
        (
            ReluLayer(np.array([[1.0], [1.0]]), np.array([-1.0]), False),
            ReluLayer(np.array([[-3.0, 0.0]]), np.array([1.0, 0.0]), True),
        )
    )
    sites = Sites((SiteGroup("a", "input", 2),), "a", 0)
    rows, none = np.ones((1, 2)), np.zeros(1, np.int8)
    box = np.zeros(2), np.ones(2)
    fake = Cell(*box, rows, np.array([0.9]), np.array([1.36]), none, 0)
    right = Cell(*box, rows, np.array([0.0]), np.array([1.32]), none, 0)
    off = Cell(*box, rows[:0], np.zeros(0), np.zeros(0), np.array([-1], np.int8), 0)
    found = refute_cells(network, sites, [right, off, fake], QUICK)
    assert [finding.about for finding in found] == [fake.id]


def test_membership_of_points_is_exact() -> None:
    sites = Sites((SiteGroup("a", "input", 2), SiteGroup("f", "feature", 1)), "a", 0)
    network = ReluNetwork(
        (
            ReluLayer(np.eye(2), np.zeros(2), False),
            ReluLayer(np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2), True),
        )
    )
    rows = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    low, high = np.array([-1.0, -1.0, -np.inf]), np.array([1.0, 1.0, np.inf])
    cell = Cell(low, high, rows, np.array([-1.0, 5.0]), np.array([1.0, 6.0]),
                np.array([1, 0], np.int8), 0)  # fmt: skip
    hair = Fraction(1, 10**30)
    for point, inside in (
        ((Fraction(1), Fraction(0)), True),
        ((Fraction(1) + hair, Fraction(0)), False),
        ((Fraction(1), hair), False),
        ((Fraction(0), Fraction(1)), True),
        ((-hair, Fraction(0)), False),
    ):
        assert in_cell(network, sites, cell, point) is inside


def test_statements_share_one_level() -> None:
    h = np.zeros((20, 5))
    fresh = near(h[0], 20)
    event = Cell(np.full(5, 50.0), np.full(5, 60.0), np.zeros((0, 5)), np.zeros(0), np.zeros(0),
                 np.zeros(0, np.int8), 0)  # fmt: skip
    statement = Statement(frozenset(), frozenset({event.id}), Fraction(1, 4), Fraction(1))
    one = [Measurement("rule", statement)]
    cells = {event.id: event}
    # 0 of 20 excludes 1/4 and more at the level 2 (3/4)^20 = 0.6 %, not at a thousandth of that.
    strict = RefuteSettings(level=Fraction(1, 100))
    assert len(refute_intervals(NETWORK, SITES, cells, one, fresh, None, strict)) == 1
    assert refute_intervals(NETWORK, SITES, cells, one * 1000, fresh, None, strict) == []
