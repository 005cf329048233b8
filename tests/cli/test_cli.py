"""The command line as its users meet it: JSON, exit status, one-line errors, whole files."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certificates import altered
from compactproofs import load_model, save_model
from compactproofs.cli._main import run
from random_models import random_model

TASK = "max:k=3,v=5"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", seed=3)


def write_model(path: Path, seed: int, unembed: float = 1.0, **config: object) -> Path:
    weights = random_model(np.random.default_rng(seed), k=3, v=5, d=4, h=4)
    fields = {
        "n_layers": 1, "n_heads": 1, "d_model": 4, "d_head": 4, "d_vocab": 5, "n_ctx": 3,
        "attn_only": True, "normalization_type": None,
    }  # fmt: skip
    tensors = {
        "embed.W_E": weights.W_E,
        "pos_embed.W_pos": weights.W_pos,
        "blocks.0.attn.W_Q": weights.W_Q[None],
        "blocks.0.attn.W_K": weights.W_K[None],
        "blocks.0.attn.W_V": weights.W_V[None],
        "blocks.0.attn.W_O": weights.W_O[None],
        "unembed.W_U": weights.W_U * unembed,
    }
    return save_model(path, fields | config, tensors)


def json_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert run([*map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    return json.loads(out)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 2) -> str:
    assert run([*map(str, arguments)]) == status
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("compactproofs: "), (out, err)
    return err


def test_prove_json_has_the_promised_fields(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "proof.safetensors"
    result = json_of(capsys, "prove", model, "--task", TASK, "--out", out)
    assert result["theorem"] == "additive" and result["options"] == {"bins": 128}
    assert result["semantics"] == "real" and result["outcome"] in ("PROVED", "VACUOUS")
    for name in ("correct", "total", "undecided", "flops", "unexplained_dimension"):
        assert isinstance(result[name], str) and str(int(result[name])) == result[name]
    bound = Fraction(int(result["correct"]), int(result["total"]))
    assert Fraction(result["bound"]) == bound and result["total"] == "125"
    assert 0 <= bound - Fraction(result["bound_decimal"]) < Fraction(1, 10**10)
    assert result["model_sha256"] == load_model(model).sha256
    assert result["certificate"] == str(out) and out.is_file()
    assert result["seconds_prove"] >= result["seconds_verify"] > 0


def test_prove_check_show(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "proof.safetensors"
    for theorem in ("brute-force", "additive"):
        made = json_of(
            capsys, "prove", model, "--task", TASK, "--theorem", theorem, "--out", out, "--force"
        )
        checked = json_of(capsys, "check", out, "--model", model, "--task", TASK)
        shown = json_of(capsys, "show", out)
        assert checked["valid"] and checked["outcome"] == made["outcome"]
        assert shown["checked"] is False and shown["claim"] == checked["claim"]
        assert made.items() >= checked["claim"].items()
    assert run(["show", str(out)]) == 0
    assert "NOT CHECKED" in capsys.readouterr().out
    assert run(["check", str(out), "--model", str(model)]) == 0
    assert f"{made['correct']}/125" in capsys.readouterr().out


def test_check_outcomes_and_exit_status(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "proof.safetensors", write_model(tmp_path / "other", seed=4)
    assert run(["prove", str(model), "--task", TASK, "--out", str(out)]) == 0
    capsys.readouterr()
    assert "MISMATCH" in refusal(capsys, "check", out, "--model", other)
    assert "MISMATCH" in refusal(capsys, "check", out, "--model", model, "--task", "max:k=3,v=6")
    data = out.read_bytes()
    out.write_bytes(data[:-1])
    assert "MALFORMED" in refusal(capsys, "check", out, "--model", model)
    assert "MALFORMED" in refusal(capsys, "show", out)
    assert run(["check", str(out), "--model", str(model), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["outcome"] == "MALFORMED"


def test_a_certificate_that_does_not_hold_exits_1(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file of another network, edited to name this one, with its digest made to fit."""
    other, out = write_model(tmp_path / "other", seed=4), tmp_path / "proof.safetensors"
    assert run(["prove", str(other), "--task", TASK, "--out", str(out)]) == 0
    out.write_bytes(altered(out.read_bytes(), model_sha256=load_model(model).sha256))
    capsys.readouterr()
    assert "REJECTED" in refusal(capsys, "check", out, "--model", model, status=1)


def test_at_least(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prove = ["prove", str(model), "--task", TASK, "--theorem", "brute-force"]
    assert run([*prove, "--json"]) == 0
    bound = Fraction(json.loads(capsys.readouterr().out)["bound"])
    assert run([*prove, "--at-least", str(bound)]) == 0
    assert run([*prove, "--at-least", str(bound + Fraction(1, 10**9))]) == 1
    assert "below --at-least" in capsys.readouterr().err
    for text in ("1.5", "-0.1", "high", "1/0", "nan"):
        assert "--at-least" in refusal(capsys, *prove, "--at-least", text)


def test_a_vacuous_bound_says_so_and_exits_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All logits are equal, so every sequence is a tie and none is right."""
    flat = write_model(tmp_path / "flat", seed=3, unembed=0.0)
    assert run(["prove", str(flat), "--task", TASK]) == 0
    out = capsys.readouterr().out
    assert "VACUOUS" in out and ">= 0/125" in out
    assert json_of(capsys, "prove", flat, "--task", TASK)["outcome"] == "VACUOUS"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--semantics", "float16"], ["float16", "real, float32"]),
        (["--semantics", "float32", "--theorem", "subcubic"], ["subcubic", "float32", "additive"]),
        (["--theorem", "cubik"], ["cubik", "additive, brute-force", "windowed"]),
        (["--bins", "0"], ["bins = 0"]),
        (["--bins", "many"], ["many"]),
        (["--theorem", "brute-force", "--bins", "9"], ["bins = 9"]),
        (["--task", "max:k=4,v=5"], ["k=4", "k=3"]),
        (["--task", "max:k=3,v=6"], ["v=6", "v=5"]),
        (["--task", "min:k=3,v=5"], ["min", "max"]),
        (["--task", "max"], ["max:k=4,v=64"]),
        (["--out", "missing/proof"], ["missing"]),
        (["--out", "."], ["directory"]),
        (["--colour"], ["--colour"]),
    ],
)
def test_bad_options_are_one_line(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    task = [] if "--task" in arguments else ["--task", TASK]
    message = refusal(capsys, "prove", model, *task, *arguments)
    assert all(word in message for word in words), message


def test_bad_models_are_one_line(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "max-of-4" in refusal(capsys, "prove", "no-such-model", "--task", TASK)
    (model / "model.safetensors").write_bytes(b"\0" * 5)
    assert "model.safetensors" in refusal(capsys, "prove", model, "--task", TASK)
    deep = write_model(tmp_path / "deep", seed=1, n_layers=2)
    message = refusal(capsys, "prove", deep, "--task", TASK)
    assert "blocks.1.attn.W_Q" in message and "missing" in message


def test_nothing_is_overwritten_or_left_behind(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "proof"
    out.write_text("precious")
    prove = ["prove", str(model), "--task", TASK, "--out", str(out)]
    assert "--force" in refusal(capsys, *prove)
    assert out.read_text() == "precious"
    assert "bins" in refusal(capsys, *prove, "--force", "--bins", "0")
    assert out.read_text() == "precious"
    assert run([*prove, "--force"]) == 0
    capsys.readouterr()
    assert [path.name for path in folder.iterdir()] == ["proof"]
    assert "cannot be read" in refusal(capsys, "check", folder / "none", "--model", model)


def test_usage_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--help" in refusal(capsys)
    assert "nonsense" in refusal(capsys, "nonsense")
    assert "--task" in refusal(capsys, "prove", "max-of-4")


def test_train_then_prove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "trained"
    train = ["train", "max:k=2,v=4", "--out", str(out), "--steps", "5", "--d-model", "4"]
    trained = json_of(capsys, *train)
    assert trained["model_sha256"] == load_model(out).sha256
    assert json_of(capsys, "prove", out, "--task", "max:k=2,v=4")["total"] == "16"
    assert "--force" in refusal(capsys, *train)
    assert run([*train, "--force", "--seed", "9"]) == 0
    capsys.readouterr()
    assert load_model(out).sha256 != trained["model_sha256"]
    elsewhere = ["train", "max:k=2,v=4", "--out", str(tmp_path / "x")]
    assert "steps" in refusal(capsys, *elsewhere, "--steps", "0")
    assert "device" in refusal(capsys, *elsewhere, "--device", "abacus")
    assert not (tmp_path / "x").exists()
