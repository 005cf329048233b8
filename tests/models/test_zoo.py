import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from compactproofs.models import resolve_model, zoo_names

EXPECTED = {"max-of-4": 4, "max-of-4-undertrained": 4, "max-of-10": 10, "max-of-20": 20}


def test_names_are_those_of_the_bundled_models() -> None:
    assert zoo_names() == tuple(sorted(EXPECTED))


@pytest.mark.parametrize(("name", "k"), EXPECTED.items())
def test_bundled_models_have_the_shapes_they_announce(name: str, k: int) -> None:
    directory = resolve_model(name)
    config = json.loads((directory / "config.json").read_text())
    assert (config["n_ctx"], config["d_vocab"], config["d_vocab_out"]) == (k, 64, 64)
    d, h = config["d_model"], config["d_head"]
    tensors = load_file(directory / "model.safetensors")
    assert {key: array.shape for key, array in tensors.items()} == {
        "embed.W_E": (64, d),
        "pos_embed.W_pos": (k, d),
        "blocks.0.attn.W_Q": (1, d, h),
        "blocks.0.attn.W_K": (1, d, h),
        "blocks.0.attn.W_V": (1, d, h),
        "blocks.0.attn.W_O": (1, h, d),
        "unembed.W_U": (d, 64),
    }
    assert all(a.dtype == np.float32 and np.isfinite(a).all() for a in tensors.values())


def test_a_directory_resolves_to_itself_and_a_bundled_name_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "max-of-4").mkdir()
    assert resolve_model("mine") == Path("mine")
    assert resolve_model("max-of-4") != Path("max-of-4")
    assert resolve_model("./max-of-4") == Path("max-of-4")


@pytest.mark.parametrize("name", ["max-of-5", "", "MAX-OF-4", "a\0b", "x" * 5000, "__init__.py"])
def test_what_is_neither_is_refused_with_the_bundled_names(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="bundled models: ") as caught:
        resolve_model(name)
    assert all(known in str(caught.value) for known in EXPECTED)


def test_a_file_is_called_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="is a file, not a model directory"):
        resolve_model(str(path))
