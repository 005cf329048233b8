"""``compactproofs gate ...`` as its users meet it: from an empty gate to a page, on a tiny task.

The network answers which of three numbers is the largest, exactly; its data are drawn, not trained.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from compactproofs.cli._main import run
from gate_directory import Given
from transformers_for_tests import random_transformer, write_transformer


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """With a gate that admits something. Tests do not change it."""
    found = Given(tmp_path_factory.mktemp("built"))
    assert found.call("create", "--cut", "pre1", "--delta", "1/10", "--alpha", "1/20") == 0
    assert found.explain("--rounds", "2", "--proposals", "4") == 0
    return found


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], Any]:
    def read() -> Any:
        return json.loads(capsys.readouterr().out)

    return read


def test_an_empty_gate_refuses_and_records_are_admitted(
    given: Given, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert given.call("create", "--sites", "input", "--json") == 0
    made = said()
    assert made["cut"] == "pre1" and made["delta"] == "1/20" and made["rho"] is None
    assert given.call("admit", "--input", given.file("test"), "--json") == 1
    assert said()["admitted"] == 0
    signed = ["--input", given.file("test"), "--signer", "us"]
    assert given.call("record", *signed, "--row", "3", "--row", "5", "--json") == 0
    assert said()["records"] == 2
    assert given.call("admit", "--input", given.file("test"), "--json") == 1
    verdicts = said()["verdicts"]
    assert [n for n, verdict in enumerate(verdicts) if verdict["admitted"]] == [3, 5]
    assert verdicts[3]["warrants"]["record"]["signer"] == "us"
    assert given.call("record", *signed) == 0
    capsys.readouterr()
    assert given.call("admit", "--input", given.file("test")) == 0
    assert "40 of 40" in capsys.readouterr().out


def test_what_is_retracted_or_closed_admits_nothing(
    given: Given, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert given.call("create") == 0
    signed = ["--input", given.file("test"), "--signer", "us", "--json"]
    capsys.readouterr()
    assert given.call("record", *signed) == 0
    entry = said()["entry"]
    assert given.call("retract", "--entry", "f" * 64, "--reason", "x") == 2
    assert given.call("retract", "--entry", entry, "--reason", "a mistake", "--json") == 0
    assert said()["retracted"] == 1
    admit = ["admit", "--input", given.file("test"), "--json"]
    assert given.call(*admit) == 1 and said()["admitted"] == 0
    assert given.call("record", *signed) == 0
    capsys.readouterr()
    assert given.call(*admit) == 0
    capsys.readouterr()
    assert given.call("close", "--reason", "the data have drifted") == 0
    assert "closed: the data have drifted" in capsys.readouterr().out
    assert given.call(*admit) == 1
    assert "drifted" in said()["verdicts"][0]["reasons"][0]


def test_explain_builds_a_gate_that_admits_on_proofs_and_measurements(
    built: Given, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert built.call("admit", "--input", built.file("test"), "--json") == 1
    found = said()
    assert found["admitted"] > 10 and found["wrong_admitted"] == 0 and found["closed"] is None
    admitted = next(verdict for verdict in found["verdicts"] if verdict["admitted"])
    kinds = {name: warrant["kind"] for name, warrant in admitted["warrants"].items()}
    assert kinds == {"certificate": "PROVED", "mass": "MEASURED", "risk": "MEASURED"}
    refused = next(verdict for verdict in found["verdicts"] if not verdict["admitted"])
    assert refused["reasons"] and refused["warrants"] == {}
    assert built.call("status", "--json") == 0
    status = said()
    assert 0 < status["admitting"] <= status["cells"] and status["stream"] == 200
    assert 0 < status["spent_decimal"] <= status["alpha_decimal"] == 0.05
    assert built.call("status") == 0 and built.call("admit", "--input", built.file("test")) == 1
    text = capsys.readouterr().out
    assert "open" in text and "REFUSED" in text and "ADMITTED by cell" in text


def test_fresh_data_count_once(built: Given, capsys: pytest.CaptureFixture[str]) -> None:
    assert built.explain() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "200 of 200 fresh data are in the stream already" in error


def test_a_report_shows_coverage_falling_with_alpha_and_data(
    built: Given, tmp_path: Path, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "page.html")
    page = ["--input", built.file("test"), "--out", out]
    assert built.call("report", *page, "--json") == 0
    found = said()
    alphas, shares = zip(*found["coverage_by_alpha"], strict=True)
    assert list(alphas) == sorted(alphas) and list(shares) == sorted(shares)
    assert shares[0] < shares[-1] == found["admitted"] / 40
    _, by_data = zip(*found["coverage_by_data"], strict=True)
    assert list(by_data) == sorted(by_data) and by_data[-1] == shares[-1]
    html = Path(out).read_text()
    assert "Coverage against alpha" in html and "pre1[5]" in html and "PROVED" in html
    assert built.call("report", *page) == 2 and "exists" in capsys.readouterr().err
    assert built.call("report", *page, "--force", "--no-curves") == 0
    assert "Coverage against alpha" not in Path(out).read_text()


def test_a_report_of_an_empty_and_of_a_closed_gate_says_so(
    given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    assert given.call("create") == 0
    page = ["--input", given.file("test"), "--out", str(given.at / "page.html"), "--force"]
    assert given.call("report", *page) == 0
    assert "There is none, so nothing is admitted" in (given.at / "page.html").read_text()
    assert given.call("close", "--reason", "the data have drifted") == 0
    assert given.call("report", *page) == 0
    assert "CLOSED: it refuses everything" in (given.at / "page.html").read_text()
    assert given.call("status") == 0 and "CLOSED" in capsys.readouterr().out
    for command in ("refute", "generalise"):
        more = ["--site", "pre1[0]", "--mine", given.file("mine"), "--fresh", given.file("fresh")]
        assert given.call(command, *(more if command == "generalise" else [])) == 2
        assert "drifted" in capsys.readouterr().err


def test_another_network_is_refused(
    built: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Given(tmp_path)
    save_file(
        {"0.weight": np.ones((6, 3), np.float32), "2.weight": np.ones((3, 6), np.float32)},
        other.network,
    )
    call = ["gate", "admit", built.gate, "--network", other.network]
    assert run([*call, "--input", built.file("test")]) == 1
    shown = capsys.readouterr().out
    assert "0 of 40" in shown and "closed" in shown and "other weights" in shown
    head = Path(built.gate, "ledger.jsonl").read_bytes()
    record = ["gate", "record", built.gate, "--network", other.network, "--signer", "us"]
    assert run([*record, "--input", built.file("test")]) == 2
    assert "pass its own as --network" in capsys.readouterr().err
    assert Path(built.gate, "ledger.jsonl").read_bytes() == head


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cut", "pre9"], "pre1 post1 to pre2"),
        (["--cut", "middle"], "this network has input"),
        (["--alpha", "1.5"], "alpha"),
        (["--alpha", "x"], "--alpha x"),
        (["--tau", "0"], "tau"),
        (["--delta", "1/0"], "--delta 1/0"),
        (["--eps", "-1"], "eps"),
    ],
)
def test_a_gate_is_not_created_out_of_range(
    options: list[str], message: str, given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    assert given.call("create", *options) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not Path(given.gate).exists()


def test_files_that_are_no_inputs_are_refused_in_one_line(
    built: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.zeros((4, 3), np.float32)
    for arrays, message in (
        ({"y": x}, "no x"),
        ({"x": x[:, :2]}, "takes floats [n, 3]"),
        ({"x": x.astype(np.int32)}, "takes floats"),
        ({"x": x, "labels": np.zeros(3, np.int64)}, "one integer for each"),
        ({"x": x, "labels": np.full(4, 3)}, "none of the network's 3 outputs"),
        ({"tokens": np.zeros((4, 3), np.int64)}, "no x"),
    ):
        path = tmp_path / "given.safetensors"
        save_file(arrays, path)
        assert built.call("admit", "--input", str(path)) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    path.write_bytes(b"no tensors")
    assert built.call("admit", "--input", str(path)) == 2
    save_file({"x": x}, path)
    assert built.call("explain", "--mine", str(path), "--fresh", str(path)) == 2
    assert "has no labels" in capsys.readouterr().err
    assert built.call("admit", "--input", built.file("absent")) == 2
    assert run(["gate", "status", str(tmp_path), "--network", built.network]) == 2
    assert "gate.json" in capsys.readouterr().err


def test_what_is_not_finite_is_refused_not_an_error(
    built: Given, tmp_path: Path, said: Callable[[], Any]
) -> None:
    path = tmp_path / "given.safetensors"
    hostile = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [1e38, -1e38, 0]], np.float32)
    save_file({"x": hostile}, path)
    assert built.call("admit", "--input", str(path), "--json") == 1
    assert said()["admitted"] == 0


def test_a_transformer_is_gated_at_its_last_mlp(
    tmp_path: Path, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    net = random_transformer(np.random.default_rng(0), k=2, v=4, layers=2, mlp=4)
    model, gate = str(write_transformer(tmp_path / "net", net)), str(tmp_path / "gate")
    tokens = np.array([[a, b] for a in range(4) for b in range(4)])
    save_file({"tokens": tokens}, tmp_path / "tokens.safetensors")
    data = ["--input", str(tmp_path / "tokens.safetensors")]
    assert run(["gate", "create", gate, "--network", model, "--json"]) == 0
    assert said()["cut"] == "input"
    call = [gate, "--network", model, *data]
    assert run(["gate", "record", *call, "--signer", "us", "--row", "0", "--row", "6"]) == 0
    capsys.readouterr()
    assert run(["gate", "admit", *call, "--json"]) == 1
    admitted = [n for n, v in enumerate(said()["verdicts"]) if v["admitted"]]
    assert admitted == [0, 6]
    save_file({"tokens": tokens + 1}, tmp_path / "tokens.safetensors")
    assert run(["gate", "admit", *call]) == 2 and "0 to 3" in capsys.readouterr().err
