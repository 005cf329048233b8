"""What is minimised, but for what concerns proofs (that is in ``_interaction``).

Everything is in normalised units. Notation: n samples of this process, L sites, d width, H
features.
"""

import torch
from jaxtyping import Bool, Float

from .._config import JUMPRELU, L1
from ._ranks import Ranks
from ._settings import CrosscoderSettings, Revival
from ._weights import Weights

_SATURATION = 4.0
"""c in the recipe's ``tanh(c f w)``."""


def errors(
    weights: Weights, codes: Float[torch.Tensor, "n H"], y: Float[torch.Tensor, "n L d"]
) -> Float[torch.Tensor, "n L d"]:
    """Target less reconstruction."""
    return y - weights.decode(codes)


def reconstruction(error: Float[torch.Tensor, "n L d"]) -> Float[torch.Tensor, ""]:
    """Mean over samples of the squared error summed over sites."""
    return error.square().sum(dim=(1, 2)).mean()


def sparsity(
    settings: CrosscoderSettings,
    weights: Weights,
    h: Float[torch.Tensor, "n H"],
    codes: Float[torch.Tensor, "n H"],
    progress: float,
) -> Float[torch.Tensor, ""]:
    """The price of active features; 0 for architectures that select by rank.

    ``l1_crosscoder``: lambda times the sum of f_i w_i, w_i the sum of the norms of the directions.
    ``jumprelu_crosscoder``: lambda_S (growing with `progress`, 0 to 1) times the sum of
    ``tanh(4 f_i w_i)``, plus lambda_P times the sum of ``relu(e^t_i - h_i) w_i``.
    """
    if settings.architecture not in (L1, JUMPRELU):
        return h.new_zeros(())
    weight = weights.scores("sum")
    if settings.architecture == L1:
        return settings.sparsity * (codes * weight).sum(dim=1).mean()
    price = torch.tanh(_SATURATION * codes * weight).sum(dim=1).mean()
    total = settings.sparsity * progress * price
    if weights.log_threshold is not None:
        below = torch.relu(weights.log_threshold.exp() - h) * weight
        total = total + settings.pre_activation * below.sum(dim=1).mean()
    return total


def aux_loss(
    revival: Revival,
    weights: Weights,
    h: Float[torch.Tensor, "n H"],
    error: Float[torch.Tensor, "n L d"],
    dead: Bool[torch.Tensor, " H"],
    ranks: Ranks,
) -> Float[torch.Tensor, ""]:
    """How badly dead features reconstruct what the others leave, as a share of its variance.

    Of each sample the largest pre-activations among the dead (not what was selected, which is zero
    for them), decoded without bias; the error is a constant here. Not yet weighted.
    """
    n_dead = int(dead.sum())
    if revival.aux_weight == 0 or n_dead == 0:
        return h.new_zeros(())
    wanted = weights.W_dec.shape[2] // 2 if revival.aux_k is None else revival.aux_k
    k = max(1, min(wanted, n_dead))
    target = error.detach()
    values, places = h[:, dead].topk(k, dim=1)
    codes = torch.zeros_like(h[:, dead]).scatter(1, places, torch.relu(values))
    estimate = (codes @ weights.W_dec[dead].flatten(1)).view_as(target)
    mean = ranks.mean(target.mean(dim=0))
    variance = ranks.mean((target - mean).square().sum(dim=(1, 2)).mean())
    missed = (target - estimate).square().sum(dim=(1, 2)).mean()
    floor = torch.finfo(variance.dtype).tiny
    return min(1.0, n_dead / wanted) * missed / torch.clamp(variance, min=floor)
