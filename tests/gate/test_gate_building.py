"""Building a gate in one go, and the same ledger at other confidences."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from compactproofs.gate import BuildSettings, Gate, Labelled, build_gate, what_if
from compactproofs.gate._building import BuildError
from compactproofs.gate._structure_notes import structure_counts
from compactproofs.gate._what_if import WhatIfError
from compactproofs.kernel import UserError
from compactproofs.kernel.gate import (
    FamilyEntry,
    ReluLayer,
    ReluNetwork,
    RuleEntry,
    SiteGroup,
    Sites,
    StreamEntry,
)

SITES = Sites((SiteGroup("pre1", "pre", 4),), "pre1", 1)
FAST = BuildSettings(margins=(0.5, 0.1), cells=4, clusters=(1, 2), widen=(1.0,), rounds=0)


def network() -> ReluNetwork:
    """Which of two numbers is larger, by way of both signs of each."""
    both = np.concatenate([np.eye(2), -np.eye(2)], axis=1)
    return ReluNetwork(
        (ReluLayer(both, np.zeros(4), False), ReluLayer(both.T.copy(), np.zeros(2), True))
    )


def data(seed: int, n: int) -> Labelled:
    x = np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32).astype(np.float64)
    return Labelled(x, x.argmax(axis=1))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    path = tmp_path_factory.mktemp("building") / "gate"
    with Gate.create(path, network(), SITES, alpha="1/20", delta="1/10", rho="1/2") as gate:
        build_gate(gate, data(0, 120), data(1, 150), FAST)
        yield gate


def test_everything_is_frozen_before_the_first_fresh_datum(built: Gate) -> None:
    first = next(number for number, _ in built.history.living(StreamEntry))
    frozen = [n for kind in (RuleEntry, FamilyEntry) for n, _ in built.history.living(kind)]
    assert frozen and max(frozen) < first
    assert all(built.history.lines[n].entry.born == 0 for n in frozen)  # type: ignore[union-attr]
    assert built.history.spent <= built.opened.alpha
    assert {entry.kind for _, entry in built.history.living(RuleEntry)} == {"mass", "risk"}


def test_more_doubt_and_fewer_data_admit_fewer_and_never_a_new_one(built: Gate) -> None:
    seen = built.activations(data(2, 300).inputs)
    own = built.admission.admitted(*seen)
    assert own.any() and not own.all()
    assert np.array_equal(what_if(built).admitted(*seen), own)
    before = np.ones(len(own), dtype=bool)
    sizes = []
    for factor in (Fraction(10), Fraction(1), Fraction(1, 10**4), Fraction(1, 10**9)):
        now = what_if(built, factor=factor).admitted(*seen)
        assert not (now & ~before).any()
        before = now
        sizes.append(int(now.sum()))
    assert sizes[0] > sizes[-1]
    few, all_of_them = (what_if(built, data=n).admitted(*seen).sum() for n in (3, 150))
    assert few < all_of_them == own.sum()


def test_what_cannot_be_counted_again_is_refused(built: Gate) -> None:
    for options in ({"factor": Fraction(20)}, {"factor": Fraction(0)}, {"data": 0}):
        with pytest.raises(WhatIfError, match="pass 0 < alpha < 1"):
            what_if(built, **options)  # type: ignore[arg-type]


def test_a_retracted_part_of_the_stream_is_not_counted_again(tmp_path: Path) -> None:
    with Gate.create(tmp_path / "gate", network(), SITES, delta="1/10") as gate:
        gate.observe(data(1, 20).inputs, data(1, 20).labels)
        gate.retract(gate.ledger.lines[-1].id, "wrong labels")
        with pytest.raises(WhatIfError, match="retracted"):
            what_if(gate)


def test_fresh_data_count_once_in_whatever_portions(built: Gate) -> None:
    again = data(1, 150)
    with pytest.raises(UserError, match="alpha is spent|in the stream already"):
        build_gate(built, data(0, 120), again, FAST)


def test_what_cells_do_without_is_noted_and_costs_nothing_of_alpha(tmp_path: Path) -> None:
    at_input = Sites((SiteGroup("input", "input", 2),), "input", 0)
    settings = replace(FAST, rounds=2, proposals=2)
    with Gate.create(tmp_path / "gate", network(), at_input, delta="1/10") as gate:
        x = data(0, 400).inputs @ np.array([[1.0, 1.0], [0.25, -0.25]])  # alike: surprising
        made = build_gate(gate, Labelled(x, x.argmax(axis=1)), data(1, 60), settings)
        counts = {one.kind: one for one in structure_counts(gate.history)}
        # Of both signs of a number one is dead where the other is stable.
        assert counts["dead"].cells == counts["stable"].cells >= 2
        assert counts["dead"].units >= counts["dead"].cells
        rules = [entry for _, entry in gate.history.living(RuleEntry) if entry.kind != "mass"]
        assert made.rules <= len(rules) and gate.closed is None


def test_data_that_were_observed_are_not_fresh(tmp_path: Path) -> None:
    fresh = data(1, 40)
    with Gate.create(tmp_path / "gate", network(), SITES, delta="1/10") as gate:
        assert not isinstance(fresh.inputs, tuple)
        gate.observe(fresh.inputs[:7], fresh.labels[:7])
        with pytest.raises(UserError, match="7 of 40 fresh data are in the stream already"):
            build_gate(gate, data(0, 120), fresh, FAST)


def test_a_gate_that_can_measure_nothing_is_not_built(tmp_path: Path) -> None:
    with Gate.create(tmp_path / "none", network(), SITES) as gate:
        with pytest.raises(BuildError, match="neither rho nor delta"):
            build_gate(gate, data(0, 120), data(1, 40), FAST)
    with Gate.create(tmp_path / "closed", network(), SITES, delta="1/10") as gate:
        gate.close("for a test")
        with pytest.raises(BuildError, match="closed"):
            build_gate(gate, data(0, 120), data(1, 40), FAST)


@pytest.mark.parametrize(
    "wrong",
    [{"margins": ()}, {"margins": (0.1, 0.5)}, {"margins": (0.0,)}, {"rounds": -1},
     {"proposals": 0}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BuildError):
        BuildSettings(**wrong)
