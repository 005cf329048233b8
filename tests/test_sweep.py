"""Sweeps: one line a seed, resumed, corrupt lines named."""

import json
from pathlib import Path

import pytest

from compactproofs._sweep import (
    CorruptLineError,
    SweepSettings,
    parse_seeds,
    read_results,
    sweep,
)
from compactproofs.cli._main import run
from compactproofs.kernel import OptionError, TaskError
from compactproofs.scale import map_shards

SETTINGS = SweepSettings("max:k=2,v=4", steps=30, d_model=4, strategies="cubic,windowed")


def test_seeds_are_read() -> None:
    assert parse_seeds("0-3,7, 2") == [0, 1, 2, 3, 7]
    for text in ("", "3-1", "a", "1-", "-4", "0-999999999"):
        with pytest.raises(OptionError, match="seeds"):
            parse_seeds(text)


def test_bad_settings_are_refused_before_any_work() -> None:
    with pytest.raises(OptionError, match="unknown strategy 'cubik'"):
        SweepSettings("max:k=2,v=4", strategies="cubik")
    with pytest.raises(OptionError, match="steps = 0"):
        SweepSettings("max:k=2,v=4", steps=0)
    with pytest.raises(TaskError):
        SweepSettings("min:k=2,v=4")


def test_a_sweep_resumes_without_repeating(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first = list(sweep(SETTINGS, [0, 1], path))
    assert [r["seed"] for r in first] == [0, 1]
    again = list(sweep(SETTINGS, [1, 0, 5], path))
    assert [r["seed"] for r in again] == [5]
    stored = read_results(path)
    assert [r["seed"] for r in stored] == [0, 1, 5]
    assert {p["family"] for p in stored[0]["points"]} == {"cubic", "windowed"}
    with pytest.raises(OptionError, match="other settings \\(steps\\)"):
        list(sweep(SweepSettings(**{**vars(SETTINGS), "steps": 31}), [9], path))


def test_trained_models_are_kept_and_taken_again(tmp_path: Path) -> None:
    models = tmp_path / "models"
    (first,) = sweep(SETTINGS, [3], tmp_path / "a.jsonl", models=models)
    (kept,) = models.iterdir()
    changed = (kept / "model.safetensors").stat().st_mtime_ns
    (again,) = sweep(SETTINGS, [3], tmp_path / "b.jsonl", models=models)
    assert again["model_sha256"] == first["model_sha256"]
    assert again["points"][0]["correct"] == first["points"][0]["correct"]
    assert (kept / "model.safetensors").stat().st_mtime_ns == changed
    (fresh,) = sweep(SETTINGS, [3], tmp_path / "c.jsonl")
    assert fresh["model_sha256"] == first["model_sha256"]


def test_a_corrupt_line_is_named_and_skipped_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    list(sweep(SETTINGS, [0, 1], path))
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for broken, number, fault in (
        (lines[0][:40] + b"\n" + lines[1], 1, "is not JSON"),
        (lines[0] + b"[1]\n", 2, "is no result"),
        (lines[0] + lines[1][:-2], 2, "was cut off"),
        (lines[0] + lines[1][:50], 2, "was cut off"),
    ):
        path.write_bytes(broken)
        with pytest.raises(CorruptLineError, match=f"line {number} of .*{fault}.*--skip-corrupt"):
            list(sweep(SETTINGS, [0, 1], path))
        assert path.read_bytes() == broken
        ran = list(sweep(SETTINGS, [0, 1], path, skip_corrupt=True))
        assert len(ran) == 1 and len(read_results(path, skip_corrupt=True)) == 2
    path.write_bytes(whole[:-1])  # only the last newline is missing: nothing is
    assert list(sweep(SETTINGS, [0, 1], path)) == []


def test_processes_give_what_one_process_gives(tmp_path: Path) -> None:
    one = {r["seed"]: r for r in sweep(SETTINGS, [0, 1, 2], tmp_path / "1.jsonl")}
    two = {r["seed"]: r for r in sweep(SETTINGS, [0, 1, 2], tmp_path / "2.jsonl", processes=2)}
    for seed, result in one.items():
        assert result["model_sha256"] == two[seed]["model_sha256"]
        assert [p["correct"] for p in result["points"]] == [
            p["correct"] for p in two[seed]["points"]
        ]


def double(x: int) -> int:
    if x == 13:
        raise ValueError("unlucky")
    return 2 * x


@pytest.mark.parametrize("processes", [1, 3])
def test_shards_are_mapped(processes: int) -> None:
    found = dict(map_shards(double, range(10), processes))
    assert found == {x: 2 * x for x in range(10)}
    with pytest.raises(ValueError, match="unlucky"):
        list(map_shards(double, [13], processes))
    with pytest.raises(OptionError, match="processes = 0"):
        list(map_shards(double, [1], 0))


def test_the_command_prints_a_table_or_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.jsonl"
    arguments = ["sweep", "max:k=2,v=4", "--seeds", "0-1", "--steps", "30", "--d-model", "4"]
    arguments += ["--strategies", "cubic", "--out", str(out)]
    assert run(arguments) == 0
    assert "cubic" in capsys.readouterr().out
    assert run([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["seeds"] == 2 and result["families"][0]["family"] == "cubic"
    out.write_bytes(out.read_bytes() + b"{")
    assert run(arguments) == 2
    assert "line 3" in capsys.readouterr().err
