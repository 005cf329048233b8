"""``compactproofs gate tokens``: which sequences a certificate admits, and what it says of them."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from safetensors.numpy import save_file

from compactproofs.cli._main import run
from compactproofs.models import save_model
from model_directories import CONFIG

V = 5
TASK = f"max:k=3,v={V}"


def save_largest(path: Path) -> None:
    """A model that looks at the largest token, and copies it: wrong where 1 stands before 0s."""
    ramp = 4.0 * np.arange(V)
    ramp[1] = -4.0
    one, zero = np.eye(V), np.zeros((1, V))
    tensors = {
        "embed.W_E": one,
        "pos_embed.W_pos": np.zeros((3, V)),
        "blocks.0.attn.W_Q": np.ones((1, V, V)),
        "blocks.0.attn.W_K": (np.outer(ramp, np.ones(V)) / V**0.5)[None],
        "blocks.0.attn.W_V": one[None],
        "blocks.0.attn.W_O": 8 * one[None],
        "unembed.W_U": one,
    }
    tensors |= {f"blocks.0.attn.b_{name}": zero for name in "QKV"}
    tensors |= {"blocks.0.attn.b_O": zero[0], "unembed.b_U": zero[0]}
    sizes = {"d_model": V, "d_head": V, "d_vocab": V, "d_vocab_out": V, "n_ctx": 3}
    arrays = {name: values.astype(np.float32) for name, values in tensors.items()}
    save_model(path, CONFIG | sizes, arrays)


class Given(NamedTuple):
    model: str
    additive: str
    cubic: str

    def tokens(self, *more: str, of: str = "") -> int:
        certificate = of or self.cubic
        return run(["gate", "tokens", certificate, "--model", self.model, "--task", TASK, *more])


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    at = tmp_path_factory.mktemp("tokens")
    found = Given(*(str(at / name) for name in Given._fields))
    save_largest(Path(found.model))
    for theorem in ("additive", "cubic"):
        call = ["prove", found.model, "--task", TASK, "--theorem", theorem]
        assert run([*call, "--out", str(at / theorem)]) == 0
    return found


def test_the_cubic_theorems_coverage_is_its_bound(
    given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    assert given.tokens("--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["coverage"] == result["bound"] == "119/125" and result["coverage_is_the_bound"]
    assert result["admitted"] is None
    assert given.tokens("--json", of=given.additive) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["coverage"], result["bound"]) == ("118/125", "119/125")
    assert given.tokens(of=given.additive) == 0
    assert "below the bound 0.952" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["jsonl", "safetensors"])
def test_sequences_are_admitted_or_refused_one_by_one(
    kind: str, given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[4, 0, 0], [0, 0, 1], [4, 4, V], [0, -1, 4], [0, 0, 4]]
    path = tmp_path / f"given.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    else:
        save_file({"tokens": np.array(rows, dtype=np.int32)}, path)
    assert given.tokens("--input", str(path), "--json", of=given.additive) == 1
    admitted = json.loads(capsys.readouterr().out)["admitted"]
    assert admitted == [True, False, False, False, True]
    assert given.tokens("--input", str(path), of=given.additive) == 1
    shown = capsys.readouterr().out.splitlines()[-5:]
    assert shown[0] == "ADMITTED  4 0 0" and shown[1] == "REFUSED   0 0 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no sequence"),
        ("x\n", "line 1"),
        ("[1, 2, 3]\n[1, 2]\n", "line 2: 2 tokens"),
        ("[1, 2, true]\n", "whole numbers"),
        ("[1, 2, 4.0]\n", "whole numbers"),
        ("[1, 2, 1" + "0" * 30 + "]\n", "whole numbers"),
        ("[" * 100_000 + "\n", "line 1"),
        ("[1, 2]\n", "2 tokens, but"),
    ],
)
def test_a_file_of_anything_else_is_refused_in_one_line(
    text: str,
    message: str,
    given: Given,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text(text)
    assert given.tokens("--input", str(path)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_certificate_that_does_not_hold_makes_no_gate(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(given.cubic).read_bytes()
    spoilt = tmp_path / "spoilt"
    spoilt.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert given.tokens(of=str(spoilt)) != 0 and "COVERAGE" not in capsys.readouterr().out.upper()
    other = ["--model", "max-of-10", "--task", "max:k=10,v=64"]
    assert run(["gate", "tokens", given.cubic, *other]) == 2
    assert "MISMATCH" in capsys.readouterr().err
