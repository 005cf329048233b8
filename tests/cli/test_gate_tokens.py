"""``compactproofs gate tokens``: which sequences a certificate admits, and what it says of them."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from compactproofs.cli._main import run

TASK = "max:k=4,v=64"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of the bundled max-of-4, by theorem."""
    at = tmp_path_factory.mktemp("certificates")
    for theorem in ("additive", "cubic"):
        out = ["--out", str(at / theorem)]
        assert run(["prove", "max-of-4", "--task", TASK, "--theorem", theorem, *out]) == 0
    return {theorem: str(at / theorem) for theorem in ("additive", "cubic")}


def tokens(certificate: str, *more: str) -> int:
    return run(["gate", "tokens", certificate, "--model", "max-of-4", "--task", TASK, *more])


def test_the_cubic_theorems_coverage_is_its_bound(
    certificates: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tokens(certificates["cubic"], "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["coverage"] == result["bound"] and result["coverage_is_the_bound"]
    assert result["admitted"] is None
    assert tokens(certificates["additive"], "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert 0.99 < Fraction(result["coverage"]) < Fraction(result["bound"])
    assert tokens(certificates["additive"]) == 0
    assert "below the bound 0.9998" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["jsonl", "safetensors"])
def test_sequences_are_admitted_or_refused_one_by_one(
    kind: str, certificates: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[63, 0, 0, 0], [1, 2, 3, 4], [5, 5, 5, 64], [0, 0, -1, 63], [0, 0, 0, 63]]
    path = tmp_path / f"given.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    else:
        save_file({"tokens": np.array(rows, dtype=np.int32)}, path)
    assert tokens(certificates["additive"], "--input", str(path), "--json") == 1
    admitted = json.loads(capsys.readouterr().out)["admitted"]
    assert admitted == [True, False, False, False, True]
    assert tokens(certificates["additive"], "--input", str(path)) == 1
    shown = capsys.readouterr().out.splitlines()[-5:]
    assert shown[0] == "ADMITTED  63 0 0 0" and shown[1] == "REFUSED   1 2 3 4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no sequence"),
        ("x\n", "line 1"),
        ("[1, 2, 3, 4]\n[1, 2, 3]\n", "line 2: 3 tokens"),
        ("[1, 2, 3, true]\n", "whole numbers"),
        ("[1, 2, 3, 4.0]\n", "whole numbers"),
        ("[1, 2, 3, 1" + "0" * 30 + "]\n", "whole numbers"),
        ("[" * 100_000 + "\n", "line 1"),
        ("[1, 2]\n", "2 tokens, but"),
    ],
)
def test_a_file_of_anything_else_is_refused_in_one_line(
    text: str,
    message: str,
    certificates: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text(text)
    assert tokens(certificates["cubic"], "--input", str(path)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_certificate_that_does_not_hold_makes_no_gate(
    certificates: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(certificates["cubic"]).read_bytes()
    spoilt = tmp_path / "spoilt"
    spoilt.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert tokens(str(spoilt)) != 0 and "COVERAGE" not in capsys.readouterr().out.upper()
    other = ["--model", "max-of-10", "--task", "max:k=10,v=64"]
    assert run(["gate", "tokens", certificates["cubic"], *other]) == 2
    assert "MISMATCH" in capsys.readouterr().err
