"""``compactproofs circuits`` and ``compactproofs report`` as their users meet them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from compactproofs import save_model
from compactproofs.cli._main import run
from random_models import max_like_model

TASK = "max:k=3,v=4"


@pytest.fixture
def model(tmp_path: Path) -> str:
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
    return str(save_model(tmp_path / "model", config, tensors))


def test_circuits_print_numbers_and_write_pictures(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["circuits", model]) == 0
    assert "QK, position-independent" in capsys.readouterr().out
    out = tmp_path / "circuits"
    arguments = ["circuits", model, "--task", TASK, "--samples", "200", "--out", str(out)]
    assert run(arguments) == 0
    assert "bound lost" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == [
        "A.svg", "B.svg", "F.svg", "G.svg", "H.svg", "circuits.json",
    ]  # fmt: skip
    assert len(json.loads((out / "circuits.json").read_text())["ablations"]) == 22
    assert run(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert run([*arguments, "--force", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["circuits"]) == set("ABFGH")


def test_a_report_is_written_from_a_run_or_from_a_stored_frontier(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    arguments = ["report", model, "--task", TASK, "--samples", "100", "--out", str(page)]
    assert run([*arguments, "--strategies", "cubic,additive"]) == 0
    html = page.read_text()
    for words in ("Bound against length", "Which parts matter", "Where the proof fails"):
        assert words in html
    # Cells under their headings: strategy, family, bound.
    assert re.search(
        r"<tr[^>]*><td[^>]*>cubic</td><td[^>]*>cubic</td><td[^>]*>[01]\.\d{7}</td>", html
    )
    assert run(arguments) == 2
    assert "--force" in capsys.readouterr().err
    folder = tmp_path / "frontier"
    run(["frontier", model, "--task", TASK, "--strategies", "cubic", "--out", str(folder)])
    stored = folder / "frontier.json"
    assert run([*arguments, "--force", "--frontier", str(stored), "--json"]) == 0
    capsys.readouterr()
    other = json.loads(stored.read_text()) | {"model_sha256": "1" * 64}
    stored.write_text(json.dumps(other))
    for text in (stored.read_text(), "{", "[]", '{"models": []}'):
        stored.write_text(text)
        assert run([*arguments, "--force", "--frontier", str(stored)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "frontier.json" in err
