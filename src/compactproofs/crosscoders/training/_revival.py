"""Features that no longer fire are moved onto samples that are badly served.

Notation: n samples of this process, L sites, d width, H features.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float

from ._ranks import Ranks
from ._settings import Revival
from ._weights import Masks, Weights, unit_rows


class Served(NamedTuple):
    """The samples of a batch, normalised, and how badly each was served."""

    x: Float[torch.Tensor, "n L d"]
    y: Float[torch.Tensor, "n L d"]
    badness: Float[torch.Tensor, " n"]


def is_due(revival: Revival, step: int, steps: int) -> bool:
    """Whether features are moved after this step, counted from 1."""
    every = revival.resample_every
    return every > 0 and step % every == 0 and step <= revival.resample_until * steps


def resample(
    weights: Weights,
    optimiser: torch.optim.Optimizer,
    dead: Bool[torch.Tensor, " H"],
    served: Served,
    masks: Masks,
    ranks: Ranks,
    drawn: np.random.Generator,
) -> Bool[torch.Tensor, " H"]:
    """Move dead features onto the worst samples of the joint batch; returns which were moved.

    A moved feature's directions, of norm 1, point from the decoder's bias to the sample, and so
    does its encoder; the optimiser forgets it. At most a quarter of the samples are taken, so that
    some of many dead features may have to wait.
    """
    badness = ranks.gathered(served.badness)
    x, y = ranks.gathered(served.x), ranks.gathered(served.y)
    n = min(int(dead.sum()), max(1, len(badness) // 4))
    moved = torch.zeros_like(dead)
    if n == 0:
        return moved
    worst = badness.topk(n).indices
    worst = worst[torch.from_numpy(drawn.permutation(n)).to(worst.device)]
    features = dead.nonzero()[:n, 0]
    moved[features] = True
    with torch.no_grad():
        W_dec, W_enc = torch.zeros_like(weights.W_dec), torch.zeros_like(weights.W_enc)
        W_dec[features] = y[worst] - weights.b_dec
        W_enc[:, :, features] = unit_rows(x[worst]).permute(1, 2, 0)
        masks.apply(W_enc, W_dec)
        weights.W_dec[features] = unit_rows(W_dec)[features]
        weights.W_enc[:, :, features] = W_enc[:, :, features]
        weights.b_enc[features] = 0
        _forget(optimiser, weights, features)
    return moved


def _forget(optimiser: torch.optim.Optimizer, weights: Weights, features: torch.Tensor) -> None:
    for name, tensor in weights.named():
        if name == "b_dec":
            continue
        for moment in ("exp_avg", "exp_avg_sq"):
            values = optimiser.state[tensor][moment]
            if name == "W_enc":
                values[:, :, features] = 0
            else:
                values[features] = 0
