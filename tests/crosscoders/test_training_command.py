import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_examples import transformer

from compactproofs.cli._main import run
from compactproofs.crosscoders import load_crosscoder
from transformers_for_tests import random_transformer, write_transformer

TASK = "max:k=3,v=6"
SHORT = ["--features", "16", "--k", "3", "--steps", "60", "--batch", "32"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_transformer(tmp_path / "net", transformer()))


def _train(model: str, out: Path, *more: str) -> int:
    return run(["crosscoder", "train", model, "--task", TASK, "--out", str(out), *SHORT, *more])


def test_train_writes_a_crosscoder(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "own"
    assert _train(model, out, "--json") == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    own = load_crosscoder(out)
    assert result["crosscoder_sha256"] == own.sha256
    assert own.config.model_sha256 == result["model_sha256"]
    assert own.config.metadata["metrics"]["fvu"] == result["metrics"]["fvu"]
    assert own.config.metadata["settings"]["certificate"]["weight"] == 3.0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["net", "own"]
    assert _train(model, out) == 2
    assert "exists" in capsys.readouterr().err
    assert _train(model, out, "--force", "--certificate-weight", "0", "--penalty", "0.1") == 0
    printed = capsys.readouterr().out
    assert "crosscoder prove" in printed and "not a bound" in printed
    settings = load_crosscoder(out).config.metadata["settings"]
    assert settings["certificate"] is None and settings["penalty"]["weight"] == 0.1


def test_an_interrupted_run_is_resumed(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compactproofs.crosscoders.training import _trainer

    whole, out = tmp_path / "whole", tmp_path / "own"
    long = ["--steps", "1010", "--features", "4", "--batch", "4", "--certificate-weight", "0"]
    assert _train(model, whole, *long) == 0
    finish = _trainer._finish

    def interrupted(state: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(_trainer, "_finish", interrupted)
    assert _train(model, out, *long) == 130
    monkeypatch.setattr(_trainer, "_finish", finish)
    assert not out.exists() and (tmp_path / "own.checkpoint").is_dir()
    assert _train(model, out, *long) == 2
    assert _train(model, out, *long, "--resume") == 0
    assert not (tmp_path / "own.checkpoint").exists()
    for name, array in load_crosscoder(whole).tensors():
        assert np.array_equal(array, dict(load_crosscoder(out).tensors())[name])


def test_an_attention_only_model_has_no_certificate_loss(tmp_path: Path) -> None:
    net = random_transformer(np.random.default_rng(0), k=3, v=6, d=8, mlp=0)
    model = str(write_transformer(tmp_path / "net", net))
    sites = "blocks.0.hook_resid_pre, blocks.0.hook_resid_post"
    assert _train(model, tmp_path / "own", "--sites", sites) == 0
    own = load_crosscoder(tmp_path / "own")
    assert own.config.metadata["settings"]["certificate"] is None
    assert [site.name for site in own.config.sites] == sites.split(", ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sites", "blocks.9.hook_resid_mid"], "blocks.9.hook_resid_mid"),
        (["--sites", "somewhere"], "somewhere"),
        (["--k", "17"], "k = 17"),
        (["--device", "tpu"], "device='tpu'"),
        (["--architecture", "clt"], "the mask 'clt'"),
        (["--learning-rate", "1e30"], "lower it"),
    ],
)
def test_misuse_is_one_line(
    model: str,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _train(model, tmp_path / "own", *options) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "own").exists()
