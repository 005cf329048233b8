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


@pytest.mark.parametrize(
    "theorem", ["crosscoder-a", "crosscoder-b", "crosscoder-c", "crosscoder-d"]
)
def test_every_theorem_proves_writes_and_checks(
    theorem: str, given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "proof.safetensors"
    options = ["--theorem", theorem, "--k", "1", "--out", str(out), "--json"]
    assert crosscoder("prove", given, *options) == 0
    result = json.loads(capsys.readouterr().out)
    # Every input is its own feature, decoded exactly: what the model has right is proved.
    assert int(result["correct"]) == round(9 * result["model_accuracy"]) > 0
    assert result["claimed_accuracy"] == result["model_accuracy"]
    assert int(result["brute_force_flops"]) > 0 and result["certificate"] == str(out)
    assert run(["check", str(out), "--model", given[0]]) == 0
    assert run(["show", str(out)]) == 0
    assert crosscoder("prove", given, "--theorem", theorem, "--k", "1") == 0
    assert "no bound" in capsys.readouterr().out


def test_prove_says_when_a_bound_is_below_what_was_asked(
    given: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert crosscoder("prove", given, "--k", "1", "--at-least", "1") == 1
    assert "below --at-least 1" in capsys.readouterr().err
    for option, value, message in (
        ("--theorem", "crosscoder-e", "known are crosscoder-a"),
        ("--cells", "none", "known are one, label"),
        ("--k", "0", "0"),
        ("--levels", "0", "0"),
    ):
        assert crosscoder("prove", given, option, value) == 2, option
        assert message in capsys.readouterr().err


def test_the_rest_is_enumerated_if_asked(
    given: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--theorem", "crosscoder-b", "--k", "1", "--levels", "1", "--json", "--enumerate"]
    assert crosscoder("prove", given, *call) == 0
    result = json.loads(capsys.readouterr().out)
    assert int(result["correct"]) == round(9 * result["model_accuracy"])


def test_prove_says_where_the_bound_falls_short_and_what_each_step_gains(
    given: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    # Two features an input, of which one is enough, and one activation value for all of a feature.
    call = ["--theorem", "crosscoder-c", "--k", "2", "--levels", "1", "--cells", "one"]
    assert crosscoder("prove", given, *call, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    right = round(9 * first["model_accuracy"])
    causes = first["slack"]["not_proved_because"]
    assert sum(causes.values()) == 9 - int(first["correct"]) and causes["wrong"] == 9 - right
    assert crosscoder("prove", given, *call, "--target", "1", "--json", "--no-breakdown") == 0
    last = json.loads(capsys.readouterr().out)
    assert last["slack"] is None and int(last["correct"]) == right
    gained = [step["after"] - step["before"] for step in last["steps"] if step["kept"]]
    assert int(first["correct"]) + sum(gained) == right
    assert crosscoder("prove", given, "--theorem", "crosscoder-d", "--target", "1") == 2
    assert "--target is for crosscoder-b and crosscoder-c" in capsys.readouterr().err


def test_view_shows_the_way_from_all_inputs_to_the_proof(
    given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    call = ["--out", str(page), "--k", "1", "--theorem", "crosscoder-b"]
    assert crosscoder("view", given, *call) == 0
    text = page.read_text()
    assert "From the claim to the proof" in text and '="http' not in text.replace('xmlns="http', "")
    assert crosscoder("view", given, *call) == 2
    assert "exists" in capsys.readouterr().err
