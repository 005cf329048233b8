"""The gate as a user has it: what it admits, on which warrants, and why it refuses."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gates_for_tests import INPUTS, NETWORK, SITES, box, confident, full_gate, near
from jaxtyping import TypeCheckError

from compactproofs.gate import Activations, Gate, activations, shard_name
from compactproofs.kernel import KernelDefectError, ModelError, RejectedError, UserError
from compactproofs.kernel.gate import (
    CountEntry,
    Measured,
    Presumed,
    Proven,
    RegionEntry,
    ReluLayer,
    ReluNetwork,
    Signed,
    SiteGroup,
    Sites,
    StreamEntry,
    Verdict,
    answers,
    last_block,
)
from transformers_for_tests import random_transformer

RNG = np.random.default_rng(8)


def layer(a: int, b: int, relu: bool) -> ReluLayer:
    return ReluLayer(RNG.normal(size=(a, b)), RNG.normal(size=b), relu)


DEEP = ReluNetwork((layer(6, 5, False), layer(5, 4, True), layer(4, 3, True)))
BLOCK = last_block(random_transformer(RNG, k=2, v=3))
MODELS = {
    "cut at the input": (DEEP, Sites((SiteGroup("x", "input", 6),), "x", 0)),
    "cut before a ReLU": (DEEP, Sites((SiteGroup("pre1", "pre", 5),), "pre1", 1)),
    "cut after a ReLU": (DEEP, Sites((SiteGroup("post2", "post", 4),), "post2", 2)),
    "more sites than the cut": (
        DEEP,
        Sites((SiteGroup("x", "input", 6), SiteGroup("pre1", "pre", 5)), "pre1", 1),
    ),
    "one layer": (
        ReluNetwork((layer(3, 2, False),)),
        Sites((SiteGroup("x", "input", 3),), "x", 0),
    ),
    "a transformer's last block": (
        BLOCK,
        Sites((SiteGroup("mid", "pre", BLOCK.widths[0]),), "mid", 0),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_admitted_at_first_and_then_what_was_recorded(tmp_path: Path, name: str) -> None:
    network, sites = MODELS[name]
    x = RNG.normal(size=(40, network.widths[0]))
    with Gate.create(tmp_path / "gate", network, sites) as gate:
        assert not any(gate.admit_batch(x)) and gate.closed is None
        gate.record(x[:15], signer="me")
        recorded = {tuple(row) for row in gate.activations(x[:15]).h}
        wanted = [tuple(row) in recorded for row in gate.activations(x).h]
        assert [bool(verdict) for verdict in gate.admit_batch(x)] == wanted
        assert sum(wanted) >= 15 and all(gate.admit(row) for row in x[:15])
        verdict = gate.admit(x[0])
        assert isinstance(verdict.warrants["record"], Signed) and verdict.cell is None
        # The next number is another activation vector.
        h, outputs = gate.activations(x[:1])
        assert not gate.admit_activations(np.nextafter(h, np.inf), outputs)[0]


def test_a_record_admits_only_the_label_that_was_signed(tmp_path: Path) -> None:
    with Gate.create(tmp_path / "gate", NETWORK, SITES) as gate:
        answer = answers(gate.activations(INPUTS).outputs)
        gate.record(INPUTS[:2], [(int(answer[0]) + 1) % 3, int(answer[1])], signer="me")
        first, second = gate.admit_batch(INPUTS[:2])
        assert second and not first and "signed by me as label" in str(first)
        gate.retract(gate.ledger.lines[-1].id, "a mistake")
        assert not any(gate.admit_batch(INPUTS))


def test_minus_zero_is_zero_and_denormals_are_themselves(tmp_path: Path) -> None:
    h = np.array([[0.0, -0.0, 5e-324, 1.0, 2.0]])
    outputs = np.array([[0.0, 1.0, 0.0]])
    with Gate.create(tmp_path / "gate", NETWORK, SITES) as gate:
        gate.record(Activations(h, outputs), signer="me")
        assert gate.admit_activations(np.array([[-0.0, 0.0, 5e-324, 1.0, 2.0]]), outputs)[0]
        for odd in ([[0.0, 0.0, 0.0, 1.0, 2.0]], [[0.0, 0.0, -5e-324, 1.0, 2.0]]):
            assert not gate.admit_activations(np.array(odd), outputs)[0]
        for bad in (np.nan, np.inf):
            with pytest.raises(UserError, match="finite"):
                gate.record(Activations(np.where(h == 2, bad, h), outputs), signer="me")


def test_a_cell_admits_on_three_warrants(tmp_path: Path) -> None:
    gate, number, cell = full_gate(tmp_path / "gate")
    with gate:
        verdict = gate.admit(INPUTS[number])
        assert verdict and verdict.cell == cell.id and verdict.reasons == ()
        kinds = {name: type(one) for name, one in verdict.warrants.items()}
        assert kinds == {"certificate": Proven, "mass": Measured, "risk": Measured}
        assert {one.kind for one in verdict.warrants.values()} == {"PROVED", "MEASURED"}
        ids = {line.id for line in gate.ledger.lines}
        assert all(set(one.entries) <= ids for one in verdict.warrants.values())
        status = gate.status()
        assert status.warrants == {"SIGNED": 0, "PROVED": 1, "MEASURED": 2}
        assert (status.admitting, status.pending, status.stream) == (1, 0, 100)
        assert status.spent == Fraction(1, 50) and status.closed is None


def test_what_was_written_admits_the_same_when_it_is_read(tmp_path: Path) -> None:
    gate, number, _ = full_gate(tmp_path / "gate")
    with gate:
        before = [str(verdict) for verdict in gate.admit_batch(INPUTS)]
    again = Gate.open(tmp_path / "gate", NETWORK)
    assert [str(verdict) for verdict in again.admit_batch(INPUTS)] == before
    assert "ADMITTED by cell" in before[number]


def test_refusals_name_the_nearest_cell_and_what_fails_in_order(tmp_path: Path) -> None:
    with Gate.create(tmp_path / "gate", NETWORK, SITES, rho="1/5", delta="1/5") as gate:
        number, cell = confident(gate)
        gate.add_cell(cell)
        h, outputs = gate.activations(INPUTS[number : number + 1])
        assert "(1) the ledger has no cell" not in str(gate.admit(INPUTS[number]))
        reasons = gate.admit(INPUTS[number]).reasons
        assert [reason.split(": ")[1][:3] for reason in reasons] == ["(2)", "(3)", "(4)"]
        assert "no certificate" in reasons[0] and "tau" in reasons[1]
        assert "rho" in reasons[2] and "delta" in reasons[2]
        gate.add_region(cell)
        far = h + np.array([0.0, 9.0, 0.0, 0.0, 0.0])
        verdict = gate.admit_activations(far, outputs)[0]
        assert verdict.nearest == cell.id and f"cell {cell.id[:8]}: (1) site pre1[1]" in str(
            verdict
        )
        assert "(5) the model answers" in str(gate.admit_activations(h, np.roll(outputs, 1))[0])
        assert "(5) the model's outputs were not given" in str(gate.admit_activations(h, None)[0])
        odd = gate.admit_activations(np.where(h == h[0, 2], np.nan, h), outputs)[0]
        assert "(6) pre1[2] is nan, not finite" in str(odd)


def test_no_presumption_reaches_a_verdict() -> None:
    guess = Presumed("lower probability", 0.9, "independence")
    assert not issubclass(Presumed, (Signed, Proven, Measured)) and "admits nothing" in str(guess)
    with pytest.raises((KernelDefectError, TypeCheckError)):
        Verdict(None, {"record": guess}, ())  # pyright: ignore[reportArgumentType]


def test_a_rule_is_counted_on_later_data_alone(tmp_path: Path) -> None:
    with Gate.create(tmp_path / "gate", NETWORK, SITES, rho="1/5") as gate:
        _, cell = confident(gate)
        gate.add_region(cell)
        data = near((cell.low + cell.high) / 2, 50)
        gate.observe(data, answers(data.outputs))
        rule, once = gate.add_mass(cell.id), gate.add_mass(cell.id, take=30)
        assert gate.count(rule) is None and gate.count(once) is None
        away = near(cell.high + 1, 20, seed=1)
        gate.observe(away)
        interval = gate.count(rule)
        assert interval is not None and (interval.k, interval.n) == (0, 20)
        assert gate.count(rule) is None and gate.count(once) is None
        gate.observe(near((cell.low + cell.high) / 2, 20, seed=2))
        second = gate.count(once)
        assert second is not None and (second.k, second.n, second.kind) == (10, 30, "CP")
        third = gate.count(rule)
        assert third is not None and (third.k, third.n, third.kind) == (20, 40, "CS")
        assert gate.closed is None and gate.count_all() == {}
        with pytest.raises(UserError, match="unlabelled"):
            risk = gate.add_risk(cell.id)
            gate.observe(near((cell.low + cell.high) / 2, 20, seed=3))
            gate.count(risk)


def test_a_forged_count_closes_the_gate_until_it_is_retracted(tmp_path: Path) -> None:
    gate, number, cell = full_gate(tmp_path / "gate")
    with gate:
        rule = gate.add_mass(cell.id, take=10)
        data = near(cell.high + 1, 10, seed=4)
        gate.observe(data)
        forged = gate.append(CountEntry(rule, 110, 10, 10, Fraction(1, 2), Fraction(1)))
        assert "says 10 of 10, the stream 0 of 10" in str(gate.closed)
        verdict = gate.admit(INPUTS[number])
        assert not verdict and "(6) the gate is closed: entry" in str(verdict)
        assert gate.status().closed == gate.closed
        gate.retract(forged, "it never happened")
        assert gate.closed is None and gate.admit(INPUTS[number])


def test_a_false_certificate_never_gets_in_and_closes_if_forced(tmp_path: Path) -> None:
    gate, number, _ = full_gate(tmp_path / "gate")
    with gate:
        wide = box(np.zeros(5), 0, 50.0)
        before = len(gate.ledger.lines)
        with pytest.raises(RejectedError):
            gate.add_region(wide)
        assert len(gate.ledger.lines) == before
        gate.add_cell(wide)
        gate.append(RegionEntry(wide.id, None))
        assert "margin" in str(gate.closed) and not gate.admit(INPUTS[number])


def test_what_is_out_of_order_is_not_even_written(tmp_path: Path) -> None:
    gate, _, cell = full_gate(tmp_path / "gate")
    with gate:
        rule = gate.history.lines[3].entry
        size = (tmp_path / "gate" / "ledger.jsonl").stat().st_size
        arrays = {"h": np.zeros((1, 5)), "outputs": np.zeros((1, 3)), "labels": np.zeros(1, int)}
        for entry, given in (
            (rule, None),
            (RegionEntry("0" * 64, None), None),
            (StreamEntry(shard_name(arrays), 7, 1), arrays),
            (gate.opened, None),
        ):
            with pytest.raises(UserError, match="nothing was added"):
                gate.append(entry, given)
        assert (tmp_path / "gate" / "ledger.jsonl").stat().st_size == size
        assert gate.add_mass(cell.id) and gate.closed is None


def test_a_family_is_admitted_up_to_the_group_that_meets_delta(tmp_path: Path) -> None:
    settings = {"rho": None, "delta": "1/20"}
    with Gate.create(tmp_path / "gate", NETWORK, SITES, alpha="1/5", **settings) as gate:
        h, outputs = gate.activations(INPUTS)
        best = np.argsort(np.sort(outputs, axis=1)[:, -2] - np.sort(outputs, axis=1)[:, -1])[:2]
        cells = [box(h[n], int(outputs[n].argmax())) for n in best]
        names = gate.add_regions([(cell, None) for cell in cells])
        for name in names:
            gate.add_mass(name, alpha="1/50")
        data = [near(h[n], 100, seed=int(n)) for n in best]
        labels = [data[0].outputs.argmax(axis=1), (data[1].outputs.argmax(axis=1) + 1) % 3]
        both = Activations(*(np.concatenate(parts) for parts in zip(*data, strict=True)))
        chosen = gate.add_calibration([[n] for n in names], both, np.concatenate(labels))
        gate.count_all()
        assert chosen == 1 and gate.closed is None
        assert [bool(verdict) for verdict in gate.admit_batch(INPUTS[best])] == [True, False]
        assert "delta" in str(gate.admit(INPUTS[best[1]]))


def test_coarser_sensors_admit_less(tmp_path: Path) -> None:
    admitted = []
    for eps in (0.0, 0.02, 0.045, 0.06):
        gate, _, cell = full_gate(tmp_path / f"gate {eps}", eps_act=eps)
        with gate:
            data = near((cell.low + cell.high) / 2, 200, seed=5)
            admitted.append(gate.admission.admitted(*data))
    counts = [int(one.sum()) for one in admitted]
    assert counts[0] > counts[1] > counts[2] > counts[3] == 0
    assert all((more | ~less).all() for more, less in zip(admitted, admitted[1:], strict=False))


def test_closed_gates_refuse_everything_and_say_why(tmp_path: Path) -> None:
    gate, number, _ = full_gate(tmp_path / "gate")
    gate.record(INPUTS[:1], signer="me")
    gate.ledger.release()
    other = ReluNetwork((NETWORK.layers[0], ReluLayer(2 * NETWORK.layers[1].W, np.zeros(3), True)))
    foreign = Gate.open(tmp_path / "gate", other)
    assert "about the network" in str(foreign.closed) and not any(foreign.admit_batch(INPUTS))
    with Gate.open(tmp_path / "gate", NETWORK, write=True) as gate:
        assert gate.admit(INPUTS[number])
        gate.close("the exchangeability test fired")
        assert not any(gate.admit_batch(INPUTS)) and not gate.admit(INPUTS[0])
        assert "exchangeability test fired" in str(gate.admit(INPUTS[number]))
        with pytest.raises(UserError, match="final"):
            gate.retract(gate.ledger.lines[-1].id, "please")


def test_mistakes_are_one_line_with_a_way_out(tmp_path: Path) -> None:
    wrongs: list[dict[str, Any]] = [
        {"alpha": 0}, {"alpha": "x"}, {"tau": 2}, {"rho": -1}, {"delta": 0}, {"eps_act": -1.0},
        {"eps_act": float("nan")}, {"alpha": "1/0"}, {"rho": float("inf")},
    ]  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(UserError) as caught:
            Gate.create(tmp_path / "gate", NETWORK, SITES, **wrong)
        assert "\n" not in str(caught.value) and next(iter(wrong)) in str(caught.value)
    with pytest.raises(ModelError):
        Gate.create(tmp_path / "gate", NETWORK, Sites((SiteGroup("x", "input", 9),), "x", 0))
    gate, _, cell = full_gate(tmp_path / "gate")
    with gate:
        data = gate.activations(INPUTS)
        for mistake in (
            lambda: gate.record(INPUTS[:0], signer="me"),
            lambda: gate.record(INPUTS, signer=""),
            lambda: gate.record(INPUTS, [0], signer="me"),
            lambda: gate.record(INPUTS, [7] * len(INPUTS), signer="me"),
            lambda: gate.record(INPUTS[:, :2], signer="me"),
            lambda: gate.observe(INPUTS, [-2] * len(INPUTS)),
            lambda: [gate.observe(data) for _ in range(2)],
            lambda: gate.add_mass("unknown"),
            lambda: gate.add_mass(cell.id, alpha="1/2"),
            lambda: gate.add_mass(cell.id, alpha=0),
            lambda: gate.add_mass(cell.id, take=0),
            lambda: gate.add_rule("odd", ("bad",), (cell.id,)),
            lambda: gate.add_rule("odd", (cell.id,), (cell.id,)),
            lambda: gate.add_family([], 5),
            lambda: gate.add_family([["unknown"]], 5),
            lambda: gate.calibrate(gate.add_family([[cell.id]], 10**6)),
            lambda: gate.count("unknown"),
            lambda: gate.refuse(cell.id, "no rule"),
            lambda: gate.retract("unknown", "why not"),
        ):
            with pytest.raises(UserError) as caught:
                mistake()
            assert "\n" not in str(caught.value)
        assert gate.closed is None


def test_one_input_has_the_same_numbers_in_every_batch() -> None:
    h, outputs = activations(DEEP, MODELS["cut before a ReLU"][1], RNG.normal(size=(33, 6)))
    x = RNG.normal(size=(33, 6))
    h, outputs = activations(DEEP, MODELS["cut before a ReLU"][1], x)
    for number in range(33):
        alone = activations(DEEP, MODELS["cut before a ReLU"][1], x[number : number + 1])
        assert (alone.h == h[number]).all() and (alone.outputs == outputs[number]).all()
