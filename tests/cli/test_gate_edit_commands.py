"""What may be edited, generalised and refuted, on a network whose logits are its inputs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from compactproofs.gate._gate import Gate
from compactproofs.gate._structure_notes import structure_counts
from compactproofs.kernel.gate import Cell, CountEntry, RegionEntry, load_relu_network
from gate_directory import Given


@pytest.fixture
def given(tmp_path: Path) -> Given:
    """Its first input is (1, 1/2, 0): pre1 is that, and its negative."""
    found = Given(tmp_path)
    x = np.array([[1, 0.5, 0], [2.5, 0, 0], [0, 0, 0]], np.float32)
    save_file({"x": x}, found.file("point"))
    assert found.call("create", "--cut", "pre1", "--sites", "input", "--rho", "1/2") == 0
    return found


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], Any]:
    def read() -> Any:
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return read


def add_cell(given: Given, measured: bool) -> str:
    """p0 is large and all else is not: label 0, by a margin of 1."""
    low = np.array([-np.inf] * 3 + [2.0, -1.0, -1.0, -3.0, -1.0, -1.0])
    high = np.array([np.inf] * 3 + [3.0, 1.0, 1.0, -2.0, 1.0, 1.0])
    none = np.zeros(0)
    cell = Cell(low, high, np.zeros((0, 9)), none, none, np.zeros(0, np.int8), 0)
    network = load_relu_network(given.network)
    with Gate.open(given.gate, network, write=True) as gate:
        name = gate.add_region(cell)
        if measured:
            gate.add_mass(name, take=50, alpha="1/10000")
            x = np.tile([2.5, 0.25, 0.0], (50, 1)) + np.arange(50)[:, None] / 1000
            gate.observe(x, np.zeros(50, np.int64))
            gate.count_all()
        return name


def test_the_interval_of_one_site_is_exact(
    given: Given, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["safe-interval", "--input", given.file("point"), "--site"]
    assert given.call(*call, "pre1[0]", "--json") == 0
    found = said()
    # Logit 0 is relu(p0) - relu(p3), and must stay above logit 1, which is a half.
    assert (found["low"], found["high"], found["open_low"]) == ("1/2", None, True)
    assert (found["value"], found["label"]) == (1.0, 0)
    assert given.call(*call, "pre1[3]", "--json") == 0
    assert (lambda f: (f["low"], f["high"]))(said()) == (None, "1/2")
    assert given.call(*call, "pre1[0]") == 0
    assert "0.5 to inf" in capsys.readouterr().out
    assert given.call(*call, "pre1[0]", "--label", "1") == 2
    assert "does not win" in capsys.readouterr().err
    for site in ("pre1[6]", "pre2[0]", "pre1", "pre1[-1]", "input[9]"):
        assert given.call(*call, site) == 2
        assert "known are input[0..2], pre1[0..5]" in capsys.readouterr().err
    assert given.call(*call, "input[0]") == 2 and "cut" in capsys.readouterr().err


def test_edits_are_safe_unsafe_with_a_witness_or_unknown(
    given: Given, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["check-edit", "--input", given.file("point"), "--json"]
    assert given.call(*call, "--edit", "pre1[0]=0.625:100") == 0
    assert said()["safety"] == "SAFE"
    assert given.call(*call, "--edit", "pre1[0]=1/2:1") == 1
    found = said()
    assert found["safety"] == "UNSAFE" and found["witness"] == {"pre1[0]": "1/2"}
    # Each by itself is safe; together they are not.
    for edit in ("pre1[0]=0.75:1", "pre1[1]=0:0.9375"):
        assert given.call(*call, "--edit", edit) == 0
        assert said()["safety"] == "SAFE"
    both = ["--edit", "pre1[0]=0.75:1", "--edit", "pre1[1]=0:0.9375"]
    assert given.call(*call, *both) == 1
    assert said()["safety"] == "UNSAFE"
    assert given.call(*call, "--edit", "pre1[0]=0.75:1", "--edit", "pre1[1]=0:0.625") == 0
    assert said()["safety"] == "SAFE"
    for edit in ("pre1[0]", "pre1[0]=1", "pre1[0]=a:b", "pre1[0]=1:0", "pre1[0]=nan:1"):
        assert given.call(*call, "--edit", edit) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "pre1[0]" in error
    assert given.call(*call, *both, *both) == 2 and "twice" in capsys.readouterr().err


def test_an_edit_is_of_one_known_input(
    given: Given, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    point = ["--input", given.file("point")]
    assert given.call("record", *point, "--signer", "us", "--row", "1", "--json") == 0
    entry = said()["entry"]
    site = ["--site", "pre1[0]", "--json"]
    assert given.call("safe-interval", "--record", entry, *site) == 0
    assert (lambda f: (f["value"], f["low"]))(said()) == (2.5, "0")
    assert given.call("safe-interval", "--record", entry, "--row", "1", *site) == 2
    assert "rows 0 to 0" in capsys.readouterr().err
    for call, message in (
        ([], "either"),
        ([*point, "--record", entry], "either"),
        (["--record", "f" * 64], "no record"),
        ([*point, "--row", "3"], "inputs 0 to 2"),
        ([*point, "--row", "2"], "no single answer"),
    ):
        assert given.call("safe-interval", *call, *site) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_generalise_says_which_kind_holds_where(given: Given, said: Callable[[], Any]) -> None:
    cell = add_cell(given, measured=False)
    data = ["--mine", given.file("mine"), "--fresh", given.file("fresh"), "--json"]
    assert given.call("generalise", "--site", "pre1[0]", *data) == 0
    found = said()
    assert found["stable"] == [cell] and found["dead"] == [] == found["irrelevant"]
    assert found["constant"]["fresh"] == 200 and 0 < found["constant"]["at_most_decimal"] < 0.2
    assert given.call("generalise", "--site", "pre1[3]", *data) == 0
    assert said()["dead"] == [cell]


def test_generalise_with_write_freezes_counts_and_notes(
    given: Given, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    cell = add_cell(given, measured=False)
    data = ["--site", "pre1[0]", "--mine", given.file("mine"), "--fresh", given.file("fresh")]
    assert given.call("generalise", *data, "--write", "--alpha", "1/5000", "--json") == 0
    found = said()
    assert found["stable"] == [cell] and found["stored"]["notes"] == 1
    with Gate.open(given.gate, load_relu_network(given.network)) as gate:
        assert gate.closed is None and gate.position == 200
        kinds = [type(line.entry).__name__ for line in gate.ledger.lines]
        ordered = [kinds.index(kind) for kind in ("RuleEntry", "StreamEntry", "CountEntry")]
        assert ordered == sorted(ordered)
        counted = [entry for _, entry in gate.history.living(CountEntry)]
        assert counted[0].rule == found["stored"]["rule"]
        assert str(1 - counted[0].low) == found["constant"]["at_most"]
        assert counted[0].k == 200 - found["constant"]["outside"]
        assert found["constant"]["alpha"] == "1/5000"
        assert [(one.kind, one.units) for one in structure_counts(gate.history)] == [("stable", 1)]
    # The fresh data arrived: they cannot be fresh again, and nothing more is frozen.
    before = (Path(given.gate) / "ledger.jsonl").read_bytes()
    assert given.call("generalise", *data, "--write") == 2
    assert "200 of 200 fresh data are in the stream" in capsys.readouterr().err
    assert (Path(given.gate) / "ledger.jsonl").read_bytes() == before


def test_an_irrelevant_site_becomes_a_region_and_its_note_falls_with_the_cell(
    given: Given, said: Callable[[], Any]
) -> None:
    cell = add_cell(given, measured=False)
    low = np.array([[2.5, 0.25, 0.0], [2.6, 0.25, 1.5]], np.float32)
    save_file({"x": low}, given.file("narrow"))
    data = ["--site", "pre1[2]", "--mine", given.file("narrow"), "--fresh", given.file("fresh")]
    assert given.call("generalise", *data, "--write", "--json") == 0
    found = said()
    assert found["irrelevant"] == [cell] and found["stored"] | {"rule": ""} == {
        "rule": "", "notes": 1, "regions": 1,
    }  # fmt: skip
    with Gate.open(given.gate, load_relu_network(given.network), write=True) as gate:
        regions = [entry.cell for _, entry in gate.history.living(RegionEntry)]
        assert len(regions) == 1 + found["stored"]["regions"] and gate.closed is None
        gate.retract(cell, "test")
        assert structure_counts(gate.history) == []


def test_a_sound_gate_withstands_and_a_false_interval_does_not(
    given: Given, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    cell = add_cell(given, measured=True)
    fast = ["--points", "50", "--starts", "8", "--steps", "6"]
    assert given.call("refute", *fast, "--json") == 0
    assert said() == {"certificates": 1, "intervals": None, "findings": []}
    like = np.tile([2.5, 0.5, 0.25], (80, 1)).astype(np.float32)
    save_file({"x": like}, given.file("like"))
    assert given.call("refute", *fast, "--input", given.file("like"), "--json") == 0
    assert said()["intervals"] == 1
    # Data of another kind are never in the cell, which is said to be probable.
    assert given.call("refute", *fast, "--input", given.file("mine"), "--json") == 1
    found = said()["findings"]
    assert len(found) == 1 and "of 150 fresh data" in found[0]["what"] and cell
    assert given.call("refute", "--points", "0") == 2
    assert "--points 0" in capsys.readouterr().err
