"""``compactproofs gate free``: sites that may have any recorded values together, and the rest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from compactproofs.gate import Gate
from compactproofs.kernel.gate import RegionEntry, load_relu_network
from gate_directory import Given


@pytest.fixture
def given(tmp_path: Path) -> Given:
    """Its input is (5, 0, 0), and no recording is above 4 or below -4."""
    found = Given(tmp_path)
    save_file({"x": np.array([[5, 0, 0], [1, 1, 0]], np.float32)}, found.file("point"))
    assert found.call("create", "--rho", "1/2") == 0
    with Gate.open(found.gate, load_relu_network(found.network), write=True) as gate:
        gate.observe(np.random.default_rng(1).normal(size=(200, 3)).clip(-3.5, 3.5))
    return found


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], Any]:
    def read() -> Any:
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return read


def test_what_is_free_and_what_is_attended_add_up_to_the_cut(
    given: Given, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (Path(given.gate) / "ledger.jsonl").read_bytes()
    assert given.call("free", "--input", given.file("point"), "--json") == 0
    found = said()
    # Logit 0 is 5 less relu(p3); others reach 3.5, so p0 is needed and the rest need not be.
    assert "pre1[0]" in found["attended"] and found["label"] == 0
    assert {"pre1[1]", "pre1[2]"} <= set(found["free"]) and found["margin"] > 0
    assert sorted(found["free"] + found["attended"]) == [f"pre1[{n}]" for n in range(6)]
    assert found["recorded"] == 200 and not found["stored"]
    assert (Path(given.gate) / "ledger.jsonl").read_bytes() == before
    mine = ["--mine", given.file("mine")]
    assert given.call("free", "--input", given.file("point"), *mine) == 0
    text = capsys.readouterr().out
    assert "jointly" in text and "150 recordings" in text and "PROVED" in text


def test_with_write_the_cell_is_a_certified_region(given: Given, said: Callable[[], Any]) -> None:
    assert given.call("free", "--input", given.file("point"), "--write", "--json") == 0
    found = said()
    assert found["stored"]
    with Gate.open(given.gate, load_relu_network(given.network)) as gate:
        regions = [entry.cell for _, entry in gate.history.living(RegionEntry)]
        assert regions == [found["cell"]] and gate.closed is None
        cell = gate.cells[found["cell"]]
        recorded = gate.activations(np.random.default_rng(1).normal(size=(200, 3))).h
        for name in found["free"]:
            n = int(name[5:-1])
            clipped = recorded[:, n].clip(-3.5, 3.5)
            assert cell.low[n] <= clipped.min() and clipped.max() <= cell.high[n]


def test_what_cannot_be_freed_is_one_line(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = ["--input", given.file("point")]
    assert given.call("close", "--reason", "over") == 0
    for more, message in (
        ([*point, "--row", "1"], "no single answer"),
        ([*point, "--row", "7"], "inputs 0 to 1"),
        ([*point, "--write"], "closed: over"),
        ([*point, "--splits", "-1"], "splits=-1"),
    ):
        assert given.call("free", *more) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    given.gate = str(tmp_path / "other")
    assert given.call("create") == 0
    assert given.call("free", *point) == 2 and "counted no data" in capsys.readouterr().err
