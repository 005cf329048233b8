"""Max-of-K: settings and result of the published recipe.

Source: Gross et al., "Compact Proofs of Model Performance via Mechanistic Interpretability"
(arXiv 2406.11779): one layer, one head, attention only, no LayerNorm, no biases; fresh uniform
sequences at every step; cross-entropy at the last position; AdamW. Seeds give other weights than
the authors' code does, because the random streams differ.

Nothing here imports torch before a model is trained, so that a command's ``--help`` stays quick.
"""

import hashlib
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

# A recipe for toy models: an absurd size should be a sentence, not a failed allocation.
_MOST_NUMBERS = 100_000_000


@dataclass(frozen=True)
class TrainSettings:
    """What to train and how; the defaults are the published recipe.

    k: length of a sequence; v: number of tokens; d_model: width of the residual stream;
    d_head: width of the head (None: d_model); steps: optimiser steps; batch: sequences a step;
    learning_rate: AdamW's, constant; seed: of the initial weights and of the data;
    device: "cpu" or "cuda" (or "cuda:N").

    Raises ValueError, naming the field and its value, when a value is out of range.
    """

    k: int
    v: int
    d_model: int = 32
    d_head: int | None = None
    steps: int = 3000
    batch: int = 128
    learning_rate: float = 1e-3
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        sizes = {"k": self.k, "v": self.v, "d_model": self.d_model, "d_head": self.head_width}
        for name, value in {**sizes, "steps": self.steps, "batch": self.batch}.items():
            if value < 1:
                raise ValueError(f"TrainSettings: {name}={value}, but it must be at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(
                f"TrainSettings: learning_rate={self.learning_rate}, but it must be positive "
                "and finite"
            )
        if self.seed < 0:
            raise ValueError(f"TrainSettings: seed={self.seed}, but it must be at least 0")
        if self.parameters > _MOST_NUMBERS:
            raise ValueError(
                f"TrainSettings: k={self.k}, v={self.v}, d_model={self.d_model}, "
                f"d_head={self.head_width} make {self.parameters} parameters; "
                f"at most {_MOST_NUMBERS} are allowed"
            )
        if self.batch * max(self.k * self.d_model, self.v) > _MOST_NUMBERS:
            raise ValueError(
                f"TrainSettings: batch={self.batch} is too large for k={self.k}, v={self.v}, "
                f"d_model={self.d_model}; lower it"
            )

    @property
    def head_width(self) -> int:
        """d_head, or d_model where none was given."""
        return self.d_model if self.d_head is None else self.d_head

    @property
    def parameters(self) -> int:
        """How many numbers are trained: 2 v d + k d + 4 d h."""
        return self.d_model * (2 * self.v + self.k + 4 * self.head_width)


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
    tensors: float32 arrays under TransformerLens 3 names; biases are zero and left out.
    final_loss: mean cross-entropy (nats) over the last 100 batches, or over all if fewer.
    """

    config: dict[str, object]
    tensors: dict[str, Float32[np.ndarray, "..."]]
    final_loss: float


def train_max_of_k(
    settings: TrainSettings, tick: Callable[[TrainProgress], None] | None = None
) -> TrainedModel:
    """Train one model to name the largest of k tokens.

    `tick` is called every 50 steps and at the end; it only reports, and may raise to stop.
    On a CPU the same settings give the same weights, bit for bit, with one build of torch and one
    kind of CPU (libraries choose their order of summation by it); on a CUDA device they need not.

    Raises ImportError when torch is missing, ValueError for a device that torch cannot use and
    FloatingPointError when training diverges.
    Cost: about 1 ms a step at k=4, v=64, d_model=32 on one core.
    """
    try:
        importlib.import_module("torch")
    except ImportError as missing:
        raise ImportError(
            "train_max_of_k needs torch, which is not installed: pip install 'compactproofs[train]'"
        ) from missing
    from ._attention_only import fit_to_maximum

    tensors, final_loss = fit_to_maximum(
        settings,
        weight_seed=_derived_seed(settings.seed, "weights"),
        data_seed=_derived_seed(settings.seed, "data"),
        tick=tick,
    )
    return TrainedModel(config=_config(settings), tensors=tensors, final_loss=final_loss)


def _derived_seed(seed: int, label: str) -> int:
    # Hashed apart, so that neighbouring seeds share neither weights nor data.
    digest = hashlib.sha256(f"{seed}:{label}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _config(settings: TrainSettings) -> dict[str, object]:
    return {
        "n_layers": 1,
        "n_heads": 1,
        "d_model": settings.d_model,
        "d_head": settings.head_width,
        "d_mlp": None,
        "d_vocab": settings.v,
        "d_vocab_out": settings.v,
        "n_ctx": settings.k,
        "act_fn": None,
        "attn_only": True,
        "normalization_type": None,
        "eps": 1e-5,
        "attn_scale": -1.0,
        "use_attn_scale": True,
        "attention_dir": "causal",
        "positional_embedding_type": "standard",
        "dtype": "float32",
        "seed": settings.seed,
    }
