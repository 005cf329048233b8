"""What all recipes share: progress, the trained model and its config, seeds kept apart, torch."""

import hashlib
import importlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True)
class TrainProgress:
    """Where a run stands: steps done, steps in all, and the loss (nats) of the latest batch."""

    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, ready for `compactproofs.models.save_model`.

    config: the fields of ``config.json`` (TransformerLens names).
    tensors: float32 arrays under TransformerLens 3 names; biases that are zero are left out.
    final_loss: mean cross-entropy (nats) over the last 100 batches, or over all if fewer.
    """

    config: dict[str, object]
    tensors: dict[str, Float32[np.ndarray, "..."]]
    final_loss: float


def derived_seed(seed: int, label: str) -> int:
    """A seed (32 bits) for one use of ``seed``.

    Hashed apart, so that neighbouring seeds share neither weights nor data.
    """
    digest = hashlib.sha256(f"{seed}:{label}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def model_config(
    *,
    k: int,
    v: int,
    n_layers: int,
    n_heads: int,
    d_model: int,
    d_head: int,
    d_mlp: int,
    seed: int,
) -> dict[str, object]:
    """The fields of ``config.json`` for ``v`` tokens and outputs; d_mlp 0: attention only."""
    return {
        "n_layers": n_layers,
        "n_heads": n_heads,
        "d_model": d_model,
        "d_head": d_head,
        "d_mlp": d_mlp or None,
        "d_vocab": v,
        "d_vocab_out": v,
        "n_ctx": k,
        "act_fn": "relu" if d_mlp else None,
        "attn_only": not d_mlp,
        "normalization_type": None,
        "eps": 1e-5,
        "attn_scale": -1.0,
        "use_attn_scale": True,
        "attention_dir": "causal",
        "positional_embedding_type": "standard",
        "dtype": "float32",
        "seed": seed,
    }


def require_torch(caller: str) -> None:
    """Raise ImportError, naming the way out, if torch cannot be imported."""
    try:
        importlib.import_module("torch")
    except ImportError as missing:
        raise ImportError(
            f"{caller} needs torch, which is not installed: pip install 'compactproofs[train]'"
        ) from missing
