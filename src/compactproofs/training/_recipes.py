"""Transformers with ReLU neurons: settings of the recipe for any task, and training by it.

Causal attention, learned positions, no LayerNorm, no biases but those of the MLPs; cross-entropy
at the last position; AdamW with a warm-up of 100 steps and, over the last 40% of the steps, a
linear descent to 2% of the learning rate. Weights start as N(0, 1/fan-in), embeddings as
N(0, 1/d_model), biases as 0.

Nothing here imports torch before a model is trained, so that a command's ``--help`` stays quick.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from ..kernel import MaxOfK, SecondLargest, SumModV, Task
from ._result import TrainedModel, TrainProgress, derived_seed, model_config, require_torch

# A recipe for toy models: an absurd size should be a sentence, not a failed allocation.
_MOST_NUMBERS = 100_000_000
_EVERY_UP_TO = 4096
_CAPPED_FROM = 6
_LONG_FROM = 6
_SAMPLES = 1 << 16


class Batches(Enum):
    """What a step learns from."""

    EVERYTHING = "all sequences, whatever the size of a batch"
    UNIFORM = "fresh uniform sequences"
    HALF_CAPPED = "fresh sequences: half uniform, half uniform below a cap drawn for each"


@dataclass(frozen=True)
class TransformerSettings:
    """What to train and how; ``default_settings`` adapts the defaults to a task.

    task: a whole task, its labels below its v; n_layers: blocks, each of attention and then an MLP;
    d_model: width of the residual stream; d_head: width of a head (None: d_model); n_heads: heads
    of a block; d_mlp: ReLU neurons of a block (0: attention only); steps: optimiser steps;
    batch: sequences a step (unless all there are make a step, see ``batches``);
    learning_rate: AdamW's, at its highest; weight_decay: AdamW's, of all parameters;
    seed: of the initial weights and of the data; device: "cpu" or "cuda" (or "cuda:N").

    Raises ValueError, naming the field and its value, when a value is out of range.
    """

    task: Task
    n_layers: int = 1
    d_model: int = 32
    d_head: int | None = None
    n_heads: int = 1
    d_mlp: int = 64
    steps: int = 4000
    batch: int = 1024
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        least = {"n_layers": 1, "d_model": 1, "d_head": 1, "n_heads": 1, "d_mlp": 0}
        for name, bound in {**least, "steps": 1, "batch": 1, "seed": 0}.items():
            value = self.head_width if name == "d_head" else getattr(self, name)
            if value < bound:
                raise ValueError(
                    f"TransformerSettings: {name}={value}, but it must be at least {bound}"
                )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(
                f"TransformerSettings: learning_rate={self.learning_rate}, but it must be positive "
                "and finite"
            )
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(
                f"TransformerSettings: weight_decay={self.weight_decay}, but it must be 0 or more, "
                "and finite"
            )
        self._check_task()
        if self.parameters > _MOST_NUMBERS:
            raise ValueError(
                f"TransformerSettings: n_layers={self.n_layers}, n_heads={self.n_heads}, "
                f"d_model={self.d_model}, d_head={self.head_width}, d_mlp={self.d_mlp} for "
                f"{self.task.name} make {self.parameters} parameters; at most {_MOST_NUMBERS} are "
                "allowed"
            )
        if self._activations > _MOST_NUMBERS:
            raise ValueError(
                f"TransformerSettings: batch={self.batch} is too large for {self.task.name}, "
                f"d_model={self.d_model}, d_head={self.head_width}, n_heads={self.n_heads}, "
                f"d_mlp={self.d_mlp}; lower it"
            )

    def _check_task(self) -> None:
        if self.task.whole is not self.task:
            raise ValueError(
                f"TransformerSettings: task={self.task.name} is a part; train on the whole, "
                f"{self.task.whole.name}"
            )
        labels = self.task.automaton.label
        if not 0 <= int(labels.min()) <= int(labels.max()) < self.task.v:
            raise ValueError(
                f"TransformerSettings: task={self.task.name} has labels {int(labels.min())} to "
                f"{int(labels.max())}, but outputs are 0 to {self.task.v - 1}; take another task"
            )

    @property
    def head_width(self) -> int:
        """d_head, or d_model where none was given."""
        return self.d_model if self.d_head is None else self.d_head

    @property
    def parameters(self) -> int:
        """How many numbers are trained: 2 v d + k d + n_layers (4 a d h + 2 d m + m + d)."""
        d, m = self.d_model, self.d_mlp
        block = 4 * self.n_heads * d * self.head_width + (2 * d * m + m + d if m else 0)
        return d * (2 * self.task.v + self.task.k) + self.n_layers * block

    @property
    def batches(self) -> Batches:
        """All sequences if there are at most 4096; capped ones where uniform ones teach little.

        The largest of six or more uniform tokens is rarely a small one.
        """
        if self.task.total <= _EVERY_UP_TO:
            return Batches.EVERYTHING
        if self.task.k >= _CAPPED_FROM and isinstance(self.task, MaxOfK | SecondLargest):
            return Batches.HALF_CAPPED
        return Batches.UNIFORM

    @property
    def _activations(self) -> int:
        """Numbers in the largest array of a step."""
        k, heads = self.task.k, self.n_heads
        rows = self.task.total if self.batches is Batches.EVERYTHING else self.batch
        width = max(self.d_model, self.d_mlp, heads * self.head_width, heads * k)
        return rows * max(k * width, self.task.v)


def default_settings(task: Task, **changes: Any) -> TransformerSettings:
    """The settings that were found to work for a task, with ``changes`` by name.

    Sums take a wider model; any weight decay from 0.05 to 1 learned sum:k=2,v=31, and of those
    tried 0.3 left the fewest directions in use before the neurons. Six tokens or more take more
    steps. Raises as ``TransformerSettings`` does.
    """
    chosen: dict[str, Any] = {}
    if isinstance(task, SumModV):
        chosen = {"d_model": 48, "d_mlp": 128, "steps": 3000, "weight_decay": 0.3}
    elif task.k >= _LONG_FROM:
        chosen = {"steps": 5000}
    return TransformerSettings(task=task, **chosen | changes)


def train_transformer(
    settings: TransformerSettings, tick: Callable[[TrainProgress], None] | None = None
) -> TrainedModel:
    """Train one model to give the label of its task at the last position.

    `tick` is called every 50 steps and at the end; it only reports, and may raise to stop.
    On a CPU the same settings give the same weights, bit for bit, with one build of torch and one
    kind of CPU (libraries choose their order of summation by it); on a CUDA device they need not.

    Raises ImportError when torch is missing, ValueError for a device that torch cannot use and
    FloatingPointError when training diverges.
    Cost: about 6 ms a step for max:k=4,v=16 with the defaults on one core.
    """
    require_torch("train_transformer")
    from ._transformer import fit

    tensors, final_loss = fit(
        settings,
        weight_seed=derived_seed(settings.seed, "weights"),
        data_seed=derived_seed(settings.seed, "data"),
        tick=tick,
    )
    config = model_config(
        k=settings.task.k,
        v=settings.task.v,
        n_layers=settings.n_layers,
        n_heads=settings.n_heads,
        d_model=settings.d_model,
        d_head=settings.head_width,
        d_mlp=settings.d_mlp,
        seed=settings.seed,
    )
    return TrainedModel(config=config, tensors=tensors, final_loss=final_loss)


class SampledAccuracy(NamedTuple):
    """How often a model was right: an estimate, no proof, unless all sequences were tried."""

    right: int
    sequences: int

    @property
    def share(self) -> float:
        """Right sequences among those tried."""
        return self.right / self.sequences


def sampled_accuracy(
    trained: TrainedModel, task: Task, seed: int = 0, samples: int = _SAMPLES
) -> SampledAccuracy:
    """Try a model on uniform sequences of a task: ``samples``, or all if there are no more.

    Right means that the label's logit, in float64, is strictly the largest. The model is one that
    was trained here: no biases but those of its MLPs, scores divided by sqrt(d_head).

    Raises ImportError when torch is missing.
    """
    require_torch("sampled_accuracy")
    from ._transformer import count_right

    right, tried = count_right(trained.tensors, task, samples, derived_seed(seed, "accuracy"))
    return SampledAccuracy(right, tried)
