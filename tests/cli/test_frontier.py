"""``compactproofs frontier``: the table, the JSON and the files."""

import json
from pathlib import Path

import numpy as np
import pytest

from compactproofs import save_model
from compactproofs.cli._main import run
from random_models import max_like_model

TASK = "max:k=3,v=4"
QUICK = "cubic,windowed,additive,brute-force"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weights = max_like_model(np.random.default_rng(1), k=3, v=4)
    d, h = weights.W_Q.shape
    config = {
        "n_layers": 1, "n_heads": 1, "d_model": d, "d_head": h, "d_vocab": 4, "n_ctx": 3,
        "attn_only": True, "normalization_type": None,
    }  # fmt: skip
    tensors = {
        "embed.W_E": weights.W_E,
        "pos_embed.W_pos": weights.W_pos,
        "blocks.0.attn.W_Q": weights.W_Q[None],
        "blocks.0.attn.W_K": weights.W_K[None],
        "blocks.0.attn.W_V": weights.W_V[None],
        "blocks.0.attn.W_O": weights.W_O[None],
        "unembed.W_U": weights.W_U,
    }
    return save_model(tmp_path / "model", config, tensors)


def test_json_has_points_and_the_pareto_frontier(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["frontier", str(model), "--task", TASK, "--strategies", QUICK, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == "" and out.count("\n") == 1
    names = {p["name"] for p in found["points"]}
    assert "cubic" in names and set(found["pareto"]) <= names
    assert found["accuracy"]["kind"] == "exact"


def test_the_table_marks_the_frontier(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["frontier", str(model), "--task", TASK, "--strategies", QUICK]) == 0
    out, _ = capsys.readouterr()
    assert "log2 FLOPs" in out and "brute-force" in out and "\n* " in out


def test_files_are_written_and_kept(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["frontier", str(model), "--task", TASK, "--strategies", QUICK]
    arguments += ["--out", str(tmp_path / "out")]
    assert run(arguments) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["dimension.svg", "faithfulness.svg", "frontier.json", "frontier.svg"]
    assert json.loads((tmp_path / "out" / "frontier.json").read_text())["task"] == TASK
    capsys.readouterr()
    assert run(arguments) == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 1 and "--force" in err


def test_unknown_strategies_list_the_valid_ones(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["frontier", str(model), "--task", TASK, "--strategies", "cubik"]) == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 1 and "'cubik'" in err and "collapsed-subcubic" in err
