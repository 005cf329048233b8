"""``prove --theorem crosscoder-d`` on a model directory with neurons, ``check`` and ``show``."""

import json
from pathlib import Path

import numpy as np
import pytest

from compactproofs.cli._main import run
from random_models import max_like_model
from soundness.one_layer_networks import with_neurons
from transformers_for_tests import random_transformer, write_transformer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    rng = np.random.default_rng(7)
    net = max_like_model(rng, k=3, v=4, sharpness=2.0, noise=0.1).as_transformer()
    return write_transformer(tmp_path / "model", with_neurons(rng, net, 5, 0.3))


def test_prove_check_and_show(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cells.safetensors"
    task = ["--task", "max:k=3,v=4", "--theorem", "crosscoder-d"]
    assert run(["prove", str(model), *task, "--bins", "0", "--out", str(out), "--json"]) == 0
    proved = json.loads(capsys.readouterr().out)
    assert proved["outcome"] == "PROVED" and proved["theorem"] == "crosscoder-d"
    assert int(proved["correct"]) + int(proved["undecided"]) == int(proved["total"]) == 64
    assert proved["options"] == {"bins": 0, "cells": 1024}
    assert run(["check", str(out), "--model", str(model), "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked["outcome"] == "PROVED" and checked["claim"]["correct"] == proved["correct"]
    assert run(["show", str(out)]) == 0
    assert "range_low" in capsys.readouterr().out


def test_fewer_cells_prove_less(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: list[int] = []
    for cells in ("1", "1024"):
        task = ["--task", "max:k=3,v=4", "--theorem", "crosscoder-d", "--cells", cells]
        assert run(["prove", str(model), *task, "--json"]) == 0
        found.append(int(json.loads(capsys.readouterr().out)["correct"]))
    assert 0 < found[0] < found[1]


def test_a_model_of_two_layers_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = random_transformer(np.random.default_rng(1), k=3, v=4, layers=2)
    path = write_transformer(tmp_path / "deep", net)
    arguments = ["prove", str(path), "--task", "max:k=3,v=4", "--theorem", "crosscoder-d"]
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "2 layers of 1 heads" in err
