"""``compactproofs train``: which recipe a command line takes, and what it says."""

from pathlib import Path

import pytest

from compactproofs.cli._main import run
from compactproofs.kernel import Transformer, load_network

from .test_cli import json_of, refusal

SHORT = ["--steps", "5", "--d-model", "4"]


def test_a_maximum_without_a_shape_takes_the_published_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json_of(capsys, "train", "max:k=2,v=4", "--out", tmp_path / "m", *SHORT)
    assert found["steps"] == 5 and "accuracy_sampled" not in found
    refused = refusal(
        capsys, "train", "max:k=2,v=4", "--out", tmp_path / "x", "--weight-decay", "0.1"
    )
    assert "--weight-decay 0.1" in refused and "--layers 1 --mlp 0" in refused
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("task", "options", "shape"),
    [
        ("max:k=2,v=4", ["--mlp", "3"], (1, 1, 3)),
        ("max:k=2,v=4", ["--layers", "2"], (2, 1, 64)),
        ("max:k=2,v=4", ["--heads", "2", "--mlp", "0"], (1, 2, 0)),
        ("second:k=3,v=3", ["--mlp", "3", "--weight-decay", "0.2"], (1, 1, 3)),
        ("sum:k=2,v=4", ["--learning-rate", "0.01"], (1, 1, 128)),
        ("fetch:k=3,v=3", ["--d-head", "2", "--batch", "9"], (1, 1, 64)),
    ],
)
def test_other_shapes_and_tasks_take_the_transformer_recipe(
    task: str,
    options: list[str],
    shape: tuple[int, int, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "model"
    found = json_of(capsys, "train", task, "--out", out, *SHORT, *options)
    network = load_network(out)
    assert isinstance(network, Transformer)
    assert found["model_sha256"] == network.sha256
    assert (found["task"], found["steps"], found["seed"]) == (task, 5, 0)
    assert 0 <= found["accuracy_sampled"] <= 1 and found["sampled"] in (9, 16, 27)
    sizes = (len(network.blocks), network.blocks[0].n_heads, network.blocks[0].d_mlp)
    assert sizes == shape


def test_the_estimate_is_called_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "sum:k=2,v=3", "--out", str(tmp_path / "m"), *SHORT]) == 0
    printed = capsys.readouterr().out
    assert "of 9 sequences: an estimate" in printed
    assert f"compactproofs prove {tmp_path / 'm'} --task sum:k=2,v=3" in printed


def test_refusals_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "sum:k=2,v=3", "--out", tmp_path / "m"]
    assert "n_layers=0" in refusal(capsys, *train, "--layers", "0")
    assert "d_mlp=-1" in refusal(capsys, *train, "--mlp", "-1")
    assert "weight_decay=-1.0" in refusal(capsys, *train, "--weight-decay", "-1")
    assert "learning_rate" in refusal(capsys, *train, "--steps", "9", "--learning-rate", "1e30")
    assert "k must be" in refusal(capsys, "train", "second:k=1,v=3", "--out", tmp_path / "m")
    assert "part of" in refusal(capsys, "train", "sum:k=2,v=3,q=0-1", "--out", tmp_path / "m")
    assert not (tmp_path / "m").exists()
