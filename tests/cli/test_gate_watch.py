"""``compactproofs gate watch``: quiet on data like those counted, closed by others, resumable."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from compactproofs.gate import Gate
from compactproofs.gate._judge import GateJudge
from compactproofs.gate._watch import LiveWatch
from compactproofs.kernel.gate import load_relu_network
from gate_directory import Given


@pytest.fixture
def given(tmp_path: Path) -> Given:
    """A gate that has seen ``fresh``."""
    found = Given(tmp_path)
    assert found.call("create") == 0
    with Gate.open(found.gate, load_relu_network(found.network), write=True) as gate:
        gate.observe(np.random.default_rng(1).normal(size=(200, 3)))
    return found


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], Any]:
    def read() -> Any:
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return read


def save(given: Given, name: str, x: np.ndarray) -> None:
    save_file({"x": x.astype(np.float32)}, given.file(name))


def watch(given: Given, name: str, *more: str, mine: str = "mine") -> int:
    data = ["--mine", given.file(mine), "--input", given.file(name)]
    return given.call("watch", *data, *more)


def test_the_gate_stays_open_on_data_of_the_same_kind_and_closes_on_others(
    given: Given, said: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2)
    save(given, "same", rng.normal(size=(150, 3)))
    save(given, "other", 6 + rng.normal(size=(40, 3)))
    assert watch(given, "same", "--json") == 0
    quiet = said()
    assert (quiet["seen"], quiet["reference"], quiet["fired"]) == (150, 200, False)
    assert quiet["wealth"] < 20
    assert given.call("status", "--json") == 0 and said()["closed"] is None
    assert watch(given, "other", "--json") == 1
    fired = said()
    assert fired["fired"] and fired["seen"] == 190 and fired["wealth"] >= 1000
    assert given.call("admit", "--input", given.file("same"), "--json") == 1
    assert "test of exchangeability fired" in said()["verdicts"][0]["reasons"][0]
    # It stays fired, whatever comes.
    assert watch(given, "same") == 1 and "CLOSED" in capsys.readouterr().out


def test_a_watch_in_portions_is_the_watch_of_the_whole(
    given: Given, tmp_path: Path, said: Callable[[], Any]
) -> None:
    x = np.random.default_rng(3).normal(size=(60, 3)) * 1.05
    for name, part in (("all", x), ("first", x[:23]), ("second", x[23:])):
        save(given, name, part)
    assert watch(given, "first") == 0 and watch(given, "second", "--json") == 0
    in_portions = said()
    (Path(given.gate) / "watch.json").unlink()
    assert watch(given, "all", "--json") == 0
    assert said() == in_portions


def test_what_is_not_finite_is_evidence_and_no_error(given: Given, said: Callable[[], Any]) -> None:
    hostile = np.full((30, 3), np.nan)
    hostile[10:20] = np.inf
    hostile[20:] = 1e38
    save(given, "hostile", hostile)
    assert watch(given, "hostile", "--json") == 1
    assert said()["fired"]


def test_a_watch_goes_on_with_what_it_began_with(
    given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    save(given, "same", np.random.default_rng(2).normal(size=(10, 3)))
    assert watch(given, "same") == 0
    capsys.readouterr()
    for more, mine in ((["--alpha", "1/100"], "mine"), ([], "test")):
        assert watch(given, "same", *more, mine=mine) == 2
        error = capsys.readouterr().err
        assert "delete it to begin anew" in error and error.count("\n") == 1
    (Path(given.gate) / "watch.json").write_text("{}")
    assert watch(given, "same") == 2 and "no state of a watch" in capsys.readouterr().err


def test_nothing_is_compared_with_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = Given(tmp_path)
    assert empty.call("create") == 0
    assert watch(empty, "test") == 2 and "counted no data" in capsys.readouterr().err


def test_a_service_that_watches_refuses_all_once_it_has_fired(given: Given) -> None:
    network = load_relu_network(given.network)
    rng = np.random.default_rng(2)
    with Gate.open(given.gate, network, write=True) as gate:
        x = rng.normal(size=(1, 3))
        gate.record(x, signer="us")
        said: list[str] = []
        mined = gate.activations(np.random.default_rng(5).normal(size=(150, 3)))
        watch = LiveWatch(gate, mined, Fraction(1, 1000), said.append)
    judge = GateJudge(Path(given.gate), network, watch)
    verdicts, answers = judge.judge(x)
    assert verdicts[0].admitted and answers[0] == x.argmax()
    assert not any(v.admitted for v in judge.judge(rng.normal(size=(150, 3)))[0])
    assert watch.reason is None and judge.status()["closed"] is None and said == []
    verdicts, _ = judge.judge(6 + rng.normal(size=(40, 3)))
    assert "service is closed: after" in verdicts[0].reasons[0]
    assert said == [watch.reason] == [judge.status()["closed"]]
    # Also by a ledger that is read again, and what was recorded.
    again = GateJudge(Path(given.gate), network, watch)
    verdicts, answers = again.judge(x)
    assert not verdicts[0].admitted and answers[0] == x.argmax() and len(said) == 1
    assert again.status()["watch"]["fired"]
    # The ledger is as it was.
    assert GateJudge(Path(given.gate), network).judge(x)[0][0].admitted


def test_a_service_cannot_watch_with_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = Given(tmp_path)
    assert empty.call("create") == 0
    data = ["--watch", empty.file("mine"), "--port", "0"]
    assert empty.call("serve", *data) == 2 and "counted no data" in capsys.readouterr().err
