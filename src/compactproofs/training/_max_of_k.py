"""Max-of-K: settings of the published recipe, and training by it.

Source: Gross et al., "Compact Proofs of Model Performance via Mechanistic Interpretability"
(arXiv 2406.11779): one layer, one head, attention only, no LayerNorm, no biases; fresh uniform
sequences at every step; cross-entropy at the last position; AdamW. Seeds give other weights than
the authors' code does, because the random streams differ.

Nothing here imports torch before a model is trained, so that a command's ``--help`` stays quick.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ._result import TrainedModel, TrainProgress, derived_seed, model_config, require_torch

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
    require_torch("train_max_of_k")
    from ._attention_only import fit_to_maximum

    tensors, final_loss = fit_to_maximum(
        settings,
        weight_seed=derived_seed(settings.seed, "weights"),
        data_seed=derived_seed(settings.seed, "data"),
        tick=tick,
    )
    config = model_config(
        k=settings.k,
        v=settings.v,
        n_layers=1,
        n_heads=1,
        d_model=settings.d_model,
        d_head=settings.head_width,
        d_mlp=0,
        seed=settings.seed,
    )
    return TrainedModel(config=config, tensors=tensors, final_loss=final_loss)
