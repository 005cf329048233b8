"""``compactproofs crosscoder ...`` as its users meet it."""

import json
from pathlib import Path

import numpy as np
import pytest

from compactproofs.cli._main import run
from compactproofs.crosscoders import default_sites, inputs_of, load_encoded, save_crosscoder
from compactproofs.kernel import MaxOfK
from lookup_crosscoder import lookup_crosscoder
from transformers_for_tests import random_transformer, write_transformer

TASK = "max:k=2,v=3"


@pytest.fixture
def given(tmp_path: Path) -> tuple[str, str]:
    """A model directory, and a crosscoder that knows each of its nine inputs by heart."""
    net = random_transformer(np.random.default_rng(3), k=2, v=3, layers=1, mlp=4)
    tokens, _ = inputs_of(MaxOfK(2, 3), 9)
    own = lookup_crosscoder(net, default_sites(net), tokens)
    save_crosscoder(tmp_path / "crosscoder", own)
    return str(write_transformer(tmp_path / "net", net)), str(tmp_path / "crosscoder")


def crosscoder(command: str, given: tuple[str, str], *more: str) -> int:
    model, own = given
    return run(["crosscoder", command, own, "--model", model, "--task", TASK, *more])


def test_encode_writes_every_input(
    given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "encoded.safetensors"
    assert crosscoder("encode", given, "--out", str(out), "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["inputs"] == 9 and result["all_sequences"] and result["active_max"] == 1
    encoded = load_encoded(out)
    assert encoded.token_ids.tolist() == [[a, b] for a in range(3) for b in range(3)]
    assert encoded.label.tolist() == [max(a, b) for a in range(3) for b in range(3)]
    assert sorted(encoded.indices.tolist()) == list(range(9))
    assert crosscoder("encode", given, "--out", str(out)) == 2
    assert "exists" in capsys.readouterr().err
    assert crosscoder("encode", given, "--out", str(out), "--force", "--levels", "2") == 0


def test_claim_says_that_it_is_no_bound(
    given: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert crosscoder("claim", given) == 0
    assert "not a bound" in capsys.readouterr().out
    assert crosscoder("claim", given, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["inputs"] == 9 and result["claimed"] == result["right"] == result["agree"] - (
        9 - result["right"]
    )
    assert crosscoder("claim", given, "--json", "--limit", "4") == 0
    assert json.loads(capsys.readouterr().out)["inputs"] == 4


def test_another_models_crosscoder_is_refused_in_one_line(
    given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = random_transformer(np.random.default_rng(4), k=2, v=3, layers=1, mlp=4)
    model = str(write_transformer(tmp_path / "other", other))
    assert crosscoder("claim", (model, given[1])) == 2
    message = capsys.readouterr().err
    assert "was trained on the model" in message and message.count("\n") == 1
    assert crosscoder("claim", (given[0], str(tmp_path / "none"))) == 2
    assert "cfg.json" in capsys.readouterr().err
    assert crosscoder("claim", given, "--k", "99") == 2
    assert "99" in capsys.readouterr().err
    assert run(["crosscoder", "claim", given[1], "--model", given[0], "--task", "max:k=3,v=3"]) == 2
    assert "k=3" in capsys.readouterr().err


def test_import_reads_what_export_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["crosscoder", "import", str(tmp_path), "--format", "x", "--out", "y"]) == 2
    assert "known are ckkissane" in capsys.readouterr().err
    call = ["crosscoder", "import", str(tmp_path), "--out", str(tmp_path / "out")]
    assert run([*call, "--format", "dictionary-learning"]) == 2
    assert "pass --sites" in capsys.readouterr().err
    assert run([*call, "--format", "ckkissane"]) == 2
    assert "cfg.json" in capsys.readouterr().err
