"""Parts, their combination, float32 and quiet checks, as users meet them."""

from pathlib import Path

import pytest

from compactproofs.cli._main import run

from .test_cli import json_of, refusal, write_model

TASK = "max:k=3,v=5"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", seed=3)


@pytest.fixture
def parts(model: Path, tmp_path: Path) -> list[Path]:
    files = [tmp_path / "low.safetensors", tmp_path / "high.safetensors"]
    for file, queries, theorem in zip(files, ("0-1", "2-4"), ("additive", "cubic"), strict=True):
        command = ["prove", str(model), "--task", f"{TASK},q={queries}", "--theorem", theorem]
        assert run([*command, "--out", str(file)]) == 0
    return files


def test_parts_are_checked_and_combined(
    model: Path, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "whole.safetensors"
    capsys.readouterr()
    low = json_of(capsys, "check", parts[0], "--model", model, "--task", f"{TASK},q=0-1")
    high = json_of(capsys, "check", parts[1], "--model", model)
    made = json_of(capsys, "combine", *reversed(parts), "--model", model, "--out", out)
    assert made["total"] == "125" and made["theorem"] == "composed" and made["task"] == TASK
    assert int(made["correct"]) == int(low["claim"]["correct"]) + int(high["claim"]["correct"])
    checked = json_of(capsys, "check", out, "--model", model, "--task", TASK)
    assert checked["valid"] and made.items() >= checked["claim"].items()
    assert "composed" in json_of(capsys, "show", out)["claim"]["theorem"]


def test_combine_refuses_what_does_not_tile_and_writes_nothing(
    model: Path, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "whole.safetensors", write_model(tmp_path / "other", seed=4)
    capsys.readouterr()
    command = ["--model", model, "--out", out]
    assert "0-1 missing" in refusal(capsys, "combine", parts[1], *command)
    assert "twice" in refusal(capsys, "combine", *parts, parts[0], *command)
    assert "MISMATCH" in refusal(capsys, "combine", *parts, "--model", other, "--out", out)
    parts[0].write_bytes(parts[0].read_bytes()[:-1])
    assert "MALFORMED" in refusal(capsys, "combine", *parts, *command)
    assert not out.exists()


def test_other_commands_want_whole_tasks(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "whole task" in refusal(capsys, "frontier", model, "--task", f"{TASK},q=0-1")


def test_a_quiet_check_says_nothing_unless_it_fails(
    model: Path, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["check", str(parts[0]), "--model", str(model), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    other = write_model(tmp_path / "other", seed=4)
    assert "MISMATCH" in refusal(capsys, "check", parts[0], "--model", other, "--quiet")


def test_float32_claims_are_proved_and_checked(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "proof.safetensors"
    prove = ["prove", model, "--task", TASK, "--semantics", "float32", "--out", out]
    made = json_of(capsys, *prove)
    real = json_of(capsys, "prove", model, "--task", TASK)
    assert made["semantics"] == "float32" and int(made["correct"]) <= int(real["correct"])
    assert json_of(capsys, "check", out, "--model", model)["claim"]["semantics"] == "float32"
    refined = json_of(capsys, *prove, "--force", "--budget", "1e9")
    assert int(refined["correct"]) >= int(made["correct"])
    assert run(["check", str(out), "--model", str(model)]) == 0
    assert "every float32 evaluation" in capsys.readouterr().out


def test_float32_refuses_weights_that_are_not_float32_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = write_model(tmp_path / "odd", seed=3, unembed=1 / 3)
    message = refusal(capsys, "prove", odd, "--task", TASK, "--semantics", "float32")
    assert "W_U holds" in message and "--semantics real" in message
