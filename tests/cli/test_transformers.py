"""Models with MLPs and several layers on the command line: what proves them, what refuses them."""

import json
from pathlib import Path

import numpy as np
import pytest

from compactproofs.cli._main import run
from compactproofs.kernel import MaxOfK
from compactproofs.kernel._network import sequences
from transformers_for_tests import float_logits, random_transformer, write_transformer

TASK = "max:k=2,v=3"


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    net = random_transformer(np.random.default_rng(3), k=2, v=3, layers=2, mlp=4)
    return write_transformer(tmp_path / "deep", net)


def test_brute_force_is_proved_written_and_checked(
    deep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "proof.safetensors"
    call = ["prove", str(deep), "--task", TASK, "--theorem", "brute-force", "--out", str(out)]
    assert run([*call, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    net = random_transformer(np.random.default_rng(3), k=2, v=3, layers=2, mlp=4)
    tokens = sequences(MaxOfK(2, 3), 0, 9)
    right = (float_logits(net, tokens).argmax(1) == tokens.max(1)).sum()
    assert result["correct"] == str(right) and result["total"] == "9"
    assert result["model_sha256"] == net.sha256
    assert run(["check", str(out), "--model", str(deep)]) == 0
    assert run(["show", str(out)]) == 0


def test_a_certificate_of_another_kind_of_model_is_refused(
    deep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "proof.safetensors"
    run(["prove", str(deep), "--task", TASK, "--theorem", "brute-force", "--out", str(out)])
    other = random_transformer(np.random.default_rng(4), k=2, v=3, layers=1, mlp=0)
    assert other.is_attention_only_layer
    path = write_transformer(tmp_path / "other", other)
    capsys.readouterr()
    assert run(["check", str(out), "--model", str(path)]) == 2
    assert "MISMATCH" in capsys.readouterr().err


@pytest.mark.parametrize("theorem", ["additive", "cubic", "subcubic", "windowed"])
def test_theorems_about_one_attention_name_those_that_read_more(
    deep: Path, theorem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["prove", str(deep), "--task", TASK, "--theorem", theorem]) == 2
    message = capsys.readouterr().err
    assert f"the theorem {theorem} is about one layer of attention" in message
    assert "brute-force" in message and message.count("\n") == 1


def test_float32_semantics_is_refused_by_name(
    deep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["prove", str(deep), "--task", TASK, "--theorem", "brute-force"]
    assert run([*call, "--semantics", "float32"]) == 2
    assert "has no semantics float32" in capsys.readouterr().err
