"""From pre-activations to codes: which features of a sample are active.

Notation: n samples of this process, H features, h pre-activations, s scores.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float

from .._config import BATCHTOPK, CLT, TOPK
from ._ranks import Ranks
from ._settings import CrosscoderSettings
from ._weights import Weights

_WIDTH = 2.0
"""Of the window around the threshold in which JumpReLU's threshold gets a gradient."""


def codes_of(
    settings: CrosscoderSettings,
    weights: Weights,
    h: Float[torch.Tensor, "n H"],
    ranks: Ranks,
) -> Float[torch.Tensor, "n H"]:
    """The codes of a batch in training; gradients flow through the values of active features.

    ``batchtopk_crosscoder`` selects over the joint batch of all processes.
    """
    if weights.log_threshold is not None:
        return jump_relu(h, weights.log_threshold)
    positive = torch.relu(h)
    k = settings.k
    if k is None or settings.architecture not in (BATCHTOPK, TOPK, CLT):
        return positive
    scores = (positive * weights.scores(settings.score)).detach()
    if settings.architecture == BATCHTOPK:
        return positive * _largest_of_batch(scores, k, ranks)
    return positive * _largest_of_rows(scores, k)


def _largest_of_rows(scores: Float[torch.Tensor, "n H"], k: int) -> Bool[torch.Tensor, "n H"]:
    kept = torch.zeros_like(scores, dtype=torch.bool)
    return kept.scatter(1, scores.topk(k, dim=1).indices, True)


def _largest_of_batch(
    scores: Float[torch.Tensor, "n H"], k: int, ranks: Ranks
) -> Bool[torch.Tensor, "n H"]:
    wanted = k * len(scores) * ranks.world
    flat = scores.flatten()
    # No process can have more than all of those wanted.
    candidates = flat.topk(min(wanted, len(flat)), sorted=False).values
    joint = ranks.gathered(candidates)
    least = joint.topk(min(wanted, len(joint)), sorted=False).values.min()
    return (scores >= least) & (scores > 0)


def smallest_kept(
    codes: Float[torch.Tensor, "n H"], scores: Float[torch.Tensor, " H"], ranks: Ranks
) -> Float[torch.Tensor, ""]:
    """The smallest positive score of the joint batch; infinity if nothing is active."""
    weighed = (codes * scores).detach()
    least = torch.where(weighed > 0, weighed, torch.full_like(weighed, torch.inf)).min()
    return -ranks.largest(-least)


def estimated_threshold(scores: Float[torch.Tensor, "n H"], k: int) -> float:
    """The threshold above which k scores a sample lie on average; 0 if fewer are positive.

    Half-way to the largest score that is left out, so that rounding changes nothing.
    """
    wanted = k * len(scores)
    flat = scores.flatten()
    if int((flat > 0).sum()) <= wanted:
        return 0.0
    top = flat.topk(wanted + 1).values.double()
    middle = float((top[-1] + top[-2]) / 2)
    return max(0.0, middle)


def jump_relu(
    h: Float[torch.Tensor, "n H"], log_threshold: Float[torch.Tensor, " H"]
) -> Float[torch.Tensor, "n H"]:
    """``h`` where it exceeds ``exp(log_threshold)``, else 0.

    Gradients, as in the recipe of January 2025: to h where it exceeds the threshold; to the
    log-threshold ``-(e^t / width)`` where h is within half a width of it, width 2.
    """
    return _JumpRelu.apply(h, log_threshold)  # type: ignore[no-any-return]


class _JumpRelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h: Float[torch.Tensor, "n H"], log_threshold: Float[torch.Tensor, " H"]
    ) -> Float[torch.Tensor, "n H"]:
        threshold = log_threshold.exp()
        ctx.save_for_backward(h, threshold)
        return h * (h > threshold)

    @staticmethod
    def backward(
        ctx: Any, *gradients: Float[torch.Tensor, "n H"]
    ) -> tuple[Float[torch.Tensor, "n H"], Float[torch.Tensor, " H"]]:
        (gradient,) = gradients
        h, threshold = ctx.saved_tensors
        near = (h - threshold).abs() < _WIDTH / 2
        to_threshold = -(threshold / _WIDTH) * (near * gradient).sum(dim=0)
        return gradient * (h > threshold), to_threshold
