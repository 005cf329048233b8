"""``compactproofs gate prune``: a smaller network that gives the same answer on one cell."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from compactproofs.gate import Gate, activations
from compactproofs.gate._prune import Pruned
from compactproofs.gate._pruned_chain import chain_of
from compactproofs.kernel import UserError
from compactproofs.kernel.gate import Cell, ReluLayer, ReluNetwork, load_relu_network
from gate_directory import Given


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], Any]:
    def read() -> Any:
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return read


@pytest.fixture
def given(tmp_path: Path) -> Given:
    """Two cells at the input, in both of which its first number is the largest."""
    found = Given(tmp_path)
    assert found.call("create", "--cut", "input", "--rho", "1/2") == 0
    with Gate.open(found.gate, load_relu_network(found.network), write=True) as gate:
        gate.add_region(cell(2.0))
        seen = gate.add_region(cell(4.0))
        gate.add_mass(seen, take=40, alpha="1/10000")
        gate.observe(points(4.0, 40), np.zeros(40, np.int64))
        gate.count_all()
    return found


def cell(first: float) -> Cell:
    low, none = np.array([first, 0.5, -1.0]), np.zeros(0)
    rows = np.zeros((0, 3))
    return Cell(low, low + 0.5, rows, none, none, np.zeros(6, np.int8), 0)


def points(first: float, n: int) -> np.ndarray:
    return cell(first).low + np.random.default_rng(0).random((n, 3)) / 2


@pytest.mark.parametrize("exact", [False, True])
def test_what_is_left_is_smaller_and_gives_the_same_answers_on_the_cell(
    given: Given, said: Callable[[], Any], exact: bool
) -> None:
    out = given.file("small")
    call = ["--out", out, "--json", *(["--exact"] if exact else [])]
    assert given.call("prune", *call) == 0
    found = said()
    assert found["cell"] == cell(4.0).id and found["label"] == 0
    assert (found["dead"], found["stable"]) == (3, 3)
    assert found["widths_before"] == [3, 6, 3] and found["weights"] < found["weights_before"]
    assert found["widths"][1] <= 3 and found["logits_kept"] is exact
    assert set(load_file(out)) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert load_file(out)["0.weight"].dtype == np.float32
    small, large = load_relu_network(out), load_relu_network(given.network)
    assert small.sha256 == found["network"] and small.widths == tuple(found["widths"])
    with Gate.open(given.gate, large) as gate:
        here, there = (activations(n, gate.sites, points(4.0, 50)) for n in (small, large))
        away = activations(small, gate.sites, -points(4.0, 50))
    assert (here.outputs.argmax(axis=1) == 0).all()
    assert not exact or (here.outputs == there.outputs).all()
    # It holds on that cell only.
    assert (away.outputs[:, 0] != -points(4.0, 50)[:, 0]).any()


def test_a_cell_is_named_by_how_it_begins_and_outputs_are_kept(
    given: Given, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    other = cell(2.0).id
    assert given.call("prune", "--cell", other[:20], "--json") == 0
    found = said()
    assert found["cell"] == other and found["lower_mass"] == "0" and found["out"] is None
    out = given.file("small")
    assert given.call("prune", "--out", out) == 0
    text = capsys.readouterr().out
    assert "3, 6, 3 -> 3, " in text and "on this cell only" in text
    written = Path(out).read_bytes()
    for more, message in (
        (["--out", out], "exists"),
        (["--cell", "z"], "0 certified cells"),
        (["--cell", ""], "0 certified cells"),
    ):
        assert given.call("prune", *more) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert Path(out).read_bytes() == written
    assert given.call("prune", "--cell", other, "--out", out, "--force") == 0


def test_nothing_is_pruned_on_no_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = Given(tmp_path)
    assert empty.call("create") == 0
    assert empty.call("prune") == 2 and "no certified cell" in capsys.readouterr().err
    assert empty.call("close", "--reason", "over") == 0
    assert empty.call("prune") == 2 and "closed: over" in capsys.readouterr().err


def test_a_relu_is_put_back_only_where_it_does_nothing(given: Given) -> None:
    def net(shift: float) -> ReluNetwork:
        one = np.eye(3)
        layers = (one, False), (one, False), (one, True)
        bias = np.full(3, shift)
        return ReluNetwork(tuple(ReluLayer(w, bias, relu) for w, relu in layers))

    with Gate.open(given.gate, load_relu_network(given.network)) as gate:
        held = replace(cell(4.0), pattern=np.zeros(3, np.int8))
        chain = chain_of(Pruned(net(9.0), held, (), (), None), gate.sites)
        assert [layer.relu for layer in chain.layers] == [False, True, True]
        with pytest.raises(UserError, match="no plain chain"):
            chain_of(Pruned(net(0.25), held, (), (), None), gate.sites)
