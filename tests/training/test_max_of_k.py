import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compactproofs.models import save_model
from compactproofs.training import (
    TrainedModel,
    TrainProgress,
    TrainSettings,
    train_max_of_k,
)
from compactproofs.training._attention_only import _last_logits, _Weights

SMALL = TrainSettings(k=3, v=8, d_model=8, d_head=4, steps=60, batch=16, seed=5)


def _digest(model: TrainedModel) -> str:
    content = [(name, array.tobytes()) for name, array in sorted(model.tensors.items())]
    return hashlib.sha256(repr((content, model.final_loss)).encode()).hexdigest()


def test_shapes_names_and_config() -> None:
    trained = train_max_of_k(SMALL)
    assert {name: array.shape for name, array in trained.tensors.items()} == {
        "embed.W_E": (8, 8),
        "pos_embed.W_pos": (3, 8),
        "blocks.0.attn.W_Q": (1, 8, 4),
        "blocks.0.attn.W_K": (1, 8, 4),
        "blocks.0.attn.W_V": (1, 8, 4),
        "blocks.0.attn.W_O": (1, 4, 8),
        "unembed.W_U": (8, 8),
    }
    assert sum(array.size for array in trained.tensors.values()) == SMALL.parameters
    assert all(array.dtype == np.float32 for array in trained.tensors.values())
    config = trained.config
    assert (config["n_ctx"], config["d_vocab"], config["d_head"], config["seed"]) == (3, 8, 4, 5)
    assert config["attn_scale"] == -1.0 and config["normalization_type"] is None


def test_the_published_model_has_the_published_size() -> None:
    assert TrainSettings(k=4, v=64).parameters == 8320


def test_training_is_deterministic_whatever_the_number_of_threads() -> None:
    digests = set()
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            digests.add(_digest(train_max_of_k(SMALL)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(digests) == 1


def test_another_seed_gives_another_model() -> None:
    other = TrainSettings(k=3, v=8, d_model=8, d_head=4, steps=60, batch=16, seed=6)
    assert _digest(train_max_of_k(SMALL)) != _digest(train_max_of_k(other))


def test_training_learns_the_maximum() -> None:
    settings = TrainSettings(k=2, v=8, d_model=16, steps=400, batch=64, learning_rate=1e-2)
    reports: list[TrainProgress] = []
    trained = train_max_of_k(settings, reports.append)
    assert [progress.step for progress in reports] == list(range(50, 401, 50))
    assert trained.final_loss < 0.05
    tokens = np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2)
    right = _plain_logits(trained.tensors, tokens).argmax(axis=1) == tokens.max(axis=1)
    assert right.mean() > 0.95


def _plain_logits(tensors: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """The causal attention of every position written out, of which the last is kept."""
    W_E, W_pos, W_U = (
        tensors[key].astype(np.float64) for key in ("embed.W_E", "pos_embed.W_pos", "unembed.W_U")
    )
    W_Q, W_K, W_V, W_O = (
        tensors[f"blocks.0.attn.W_{part}"][0].astype(np.float64) for part in "QKVO"
    )
    k = tokens.shape[1]
    residual = W_E[tokens] + W_pos[:k]
    query, key, value = residual @ W_Q, residual @ W_K, residual @ W_V
    scores = np.einsum("nih,njh->nij", query, key) / np.sqrt(W_Q.shape[1])
    scores = np.where(np.tril(np.ones((k, k), dtype=bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    pattern = weights / weights.sum(axis=2, keepdims=True)
    return ((residual + pattern @ value @ W_O) @ W_U)[:, -1]


def test_the_forward_pass_of_training_is_causal_attention_at_the_last_position() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "W_E": (9, 6),
        "W_pos": (5, 6),
        "W_Q": (6, 4),
        "W_K": (6, 4),
        "W_V": (6, 4),
        "W_O": (4, 6),
        "W_U": (6, 9),
    }
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tokens = torch.randint(9, (20, 5), generator=generator)
    tensors = {f"blocks.0.attn.W_{part}": drawn[f"W_{part}"][None].numpy() for part in "QKVO"}
    for key, name in (("embed", "W_E"), ("pos_embed", "W_pos"), ("unembed", "W_U")):
        tensors[f"{key}.{name}"] = drawn[name].numpy()
    np.testing.assert_allclose(
        _last_logits(_Weights(**drawn), tokens).numpy(),
        _plain_logits(tensors, tokens.numpy()),
        rtol=1e-4,
        atol=1e-3,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"v": -1}, "v=-1"),
        ({"d_model": 0}, "d_model=0"),
        ({"d_head": 0}, "d_head=0"),
        ({"steps": 0}, "steps=0"),
        ({"batch": 0}, "batch=0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"learning_rate": float("inf")}, "learning_rate=inf"),
        ({"seed": -3}, "seed=-3"),
        ({"v": 10**12}, "at most 100000000 are allowed"),
        ({"batch": 10**9}, "batch=1000000000 is too large"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        TrainSettings(**{"k": 4, "v": 64, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["cuda:99", "mps", "meta", "toaster", ""])
def test_a_device_that_cannot_be_used_is_refused_in_one_line(device: str) -> None:
    with pytest.raises(ValueError, match="device=.*use 'cpu'") as caught:
        train_max_of_k(TrainSettings(k=2, v=4, steps=1, device=device))
    assert "\n" not in str(caught.value)


def test_cuda_where_there_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="device='cuda', but torch sees 0 CUDA devices"):
        train_max_of_k(TrainSettings(k=2, v=4, steps=1, device="cuda"))


def test_divergence_is_an_error_that_names_the_learning_rate() -> None:
    with pytest.raises(FloatingPointError, match="learning_rate=1e\\+30"):
        train_max_of_k(TrainSettings(k=2, v=4, d_model=4, steps=20, learning_rate=1e30))


def test_one_token_and_one_position_can_be_trained() -> None:
    trained = train_max_of_k(TrainSettings(k=1, v=1, d_model=1, steps=2, batch=1))
    assert trained.final_loss == 0


def test_missing_torch_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'compactproofs\[train\]'") as caught:
        train_max_of_k(SMALL)
    assert "\n" not in str(caught.value)


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, compactproofs.training, compactproofs.models, compactproofs.estimate\n"
    code += "sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_an_interrupted_run_stops_and_writes_nothing(tmp_path: Path) -> None:
    before = torch.get_num_threads()

    def interrupt(progress: TrainProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained = train_max_of_k(SMALL, interrupt)
        save_model(tmp_path / "model", trained.config, trained.tensors)
    assert list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() == before
