"""Accuracy by uniform sampling: an estimate with an error bar, never a bound.

Notation: n sequences, k positions, v tokens, x output classes, d width of the residual stream,
h width of the head.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int

from ._binomial import clopper_pearson

# Large enough to keep the matrix products busy, small enough to stay in cache at k = 20.
_BATCH = 4096


@runtime_checkable
class OneHeadWeights(Protocol):
    """The weights of a one-layer, one-head, attention-only model, as `kernel.Model` holds them.

    The key's bias is not among them: it adds one number to all scores of a query, which the
    softmax does not see.
    """

    @property
    def W_E(self) -> Float64[np.ndarray, "v d"]:
        """Token embedding."""
        ...

    @property
    def W_pos(self) -> Float64[np.ndarray, "k d"]:
        """Position embedding."""
        ...

    @property
    def W_Q(self) -> Float64[np.ndarray, "d h"]:
        """Queries."""
        ...

    @property
    def W_K(self) -> Float64[np.ndarray, "d h"]:
        """Keys."""
        ...

    @property
    def W_V(self) -> Float64[np.ndarray, "d h"]:
        """Values."""
        ...

    @property
    def W_O(self) -> Float64[np.ndarray, "h d"]:
        """Output of the head."""
        ...

    @property
    def W_U(self) -> Float64[np.ndarray, "d x"]:
        """Unembedding."""
        ...

    @property
    def b_Q(self) -> Float64[np.ndarray, " h"]:
        """Bias of the queries."""
        ...

    @property
    def b_V(self) -> Float64[np.ndarray, " h"]:
        """Bias of the values."""
        ...

    @property
    def b_O(self) -> Float64[np.ndarray, " d"]:
        """Bias of the head's output."""
        ...

    @property
    def b_U(self) -> Float64[np.ndarray, " x"]:
        """Bias of the logits."""
        ...

    @property
    def score_divisor_squared(self) -> Fraction:
        """Scores are divided by its square root."""
        ...


@runtime_checkable
class LabelledSequences(Protocol):
    """A task with uniform sequences of k of v tokens, as `kernel.Task` gives them."""

    @property
    def k(self) -> int:
        """Length of a sequence."""
        ...

    @property
    def v(self) -> int:
        """Number of tokens."""
        ...

    def labels(self, tokens: Int[np.ndarray, "n k"]) -> Int[np.ndarray, " n"]:
        """The right answer to each sequence."""
        ...


@dataclass(frozen=True)
class AccuracyEstimate:
    """An estimated accuracy. It says what is likely, not what is proved.

    correct of samples sequences were answered rightly; estimate is their ratio; low and high are
    the ends of the Clopper-Pearson interval, which covers the true accuracy with probability at
    least `confidence` over the choice of the seed.
    """

    correct: int
    samples: int
    estimate: float
    low: float
    high: float
    confidence: float


def sample_accuracy(
    model: OneHeadWeights,
    task: LabelledSequences,
    *,
    samples: int,
    seed: int,
    confidence: float = 0.95,
    tick: Callable[[int, int], None] | None = None,
) -> AccuracyEstimate:
    """Estimate the accuracy of `model` on uniformly random sequences of `task`.

    Right means that the label's logit, in float64, is strictly the largest: ties count as wrong.
    `tick(done, samples)` is called after every batch; it only reports, and may raise to stop.
    The same arguments draw the same sequences.

    Raises ValueError when a number is out of range or the task does not fit the model.
    Cost: samples * O(k d + d h + d x) operations; 4 s for a million sequences at k=20, v=64.
    """
    if samples < 1:
        raise ValueError(f"sample_accuracy: samples={samples}, but it must be at least 1")
    if seed < 0:
        raise ValueError(f"sample_accuracy: seed={seed}, but it must be at least 0")
    if not 0 < confidence < 1:
        raise ValueError(
            f"sample_accuracy: confidence={confidence}, but it must lie strictly between 0 and 1"
        )
    _check_fit(model, task)
    generator = np.random.default_rng(seed)
    correct = done = 0
    while done < samples:
        n = min(_BATCH, samples - done)
        tokens = generator.integers(task.v, size=(n, task.k))
        logits = last_position_logits(model, tokens)
        correct += int(np.count_nonzero(_right(logits, task.labels(tokens))))
        done += n
        if tick is not None:
            tick(done, samples)
    low, high = clopper_pearson(correct, samples, confidence)
    return AccuracyEstimate(
        correct=correct,
        samples=samples,
        estimate=correct / samples,
        low=low,
        high=high,
        confidence=confidence,
    )


def last_position_logits(
    model: OneHeadWeights, tokens: Int[np.ndarray, "n k"]
) -> Float64[np.ndarray, "n x"]:
    """Logits at the last position, in float64 and without error control.

    Raises ValueError when the sequences are empty or longer than the context, or hold a token
    that the model does not have.
    Cost: n * O(k d + d h + d x) operations and n * k * d floats of memory.
    """
    length = tokens.shape[1]
    v, context = len(model.W_E), len(model.W_pos)
    if not 1 <= length <= context:
        raise ValueError(f"tokens have {length} positions, but the model reads 1 to {context}")
    if tokens.size and not (0 <= tokens.min() and tokens.max() < v):
        raise ValueError(
            f"tokens range over {tokens.min()}..{tokens.max()}, but the model knows 0..{v - 1}"
        )
    # Weights may be huge: what overflows is not a number, and hence not right.
    with np.errstate(over="ignore", invalid="ignore"):
        return _forward(model, tokens)


def _forward(model: OneHeadWeights, tokens: Int[np.ndarray, "n k"]) -> Float64[np.ndarray, "n x"]:
    residual = model.W_E[tokens] + model.W_pos[: tokens.shape[1]]
    last = residual[:, -1]
    # One query a sequence: carrying it back through W_K, and the mixture forward through W_V,
    # spares a product for every position.
    query = (last @ model.W_Q + model.b_Q) @ model.W_K.T
    divisor = math.sqrt(model.score_divisor_squared)
    scores = (residual @ query[:, :, None])[:, :, 0] / divisor
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    attention = weights / weights.sum(axis=1, keepdims=True)
    mixture = (attention[:, None, :] @ residual)[:, 0]
    after = last + (mixture @ model.W_V + model.b_V) @ model.W_O + model.b_O
    return after @ model.W_U + model.b_U


def _check_fit(model: OneHeadWeights, task: LabelledSequences) -> None:
    v, context = len(model.W_E), len(model.W_pos)
    if task.v > v:
        raise ValueError(f"the task has v={task.v} tokens, but the model knows {v}; lower v")
    if task.k > context:
        raise ValueError(
            f"the task has k={task.k} positions, but the model reads {context}; lower k"
        )


def _right(
    logits: Float64[np.ndarray, "n x"], labels: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Whether the label's logit is strictly the largest; a NaN anywhere makes it wrong."""
    classes = logits.shape[1]
    if not (0 <= labels.min() and labels.max() < classes):
        raise ValueError(
            f"labels range over {labels.min()}..{labels.max()}, but the model has {classes} outputs"
        )
    rows = np.arange(len(labels))
    of_label = logits[rows, labels]
    others = logits.copy()
    others[rows, labels] = -np.inf
    return of_label > others.max(axis=1)
