"""The torch half of training: a one-layer, one-head, attention-only transformer and its loop.

This module imports torch; its importer does so only when a model is really trained.
Notation: b batch, k positions, v tokens, d width of the residual stream, h width of the head.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Float32, Int

from ._max_of_k import TrainSettings
from ._result import TrainProgress
from ._torch import one_thread, usable_device

_TICK_EVERY = 50
_LOSSES_KEPT = 100


@dataclass(frozen=True)
class _Weights:
    W_E: Float[torch.Tensor, "v d"]
    W_pos: Float[torch.Tensor, "k d"]
    W_Q: Float[torch.Tensor, "d h"]
    W_K: Float[torch.Tensor, "d h"]
    W_V: Float[torch.Tensor, "d h"]
    W_O: Float[torch.Tensor, "h d"]
    W_U: Float[torch.Tensor, "d v"]


def fit_to_maximum(
    settings: TrainSettings,
    *,
    weight_seed: int,
    data_seed: int,
    tick: Callable[[TrainProgress], None] | None,
) -> tuple[dict[str, Float32[np.ndarray, "..."]], float]:
    """Return the trained tensors under TransformerLens 3 names, and the mean of the last losses.

    Raises ValueError for an unusable device and FloatingPointError when the loss is not finite.
    """
    device = usable_device(settings.device)
    with one_thread():
        weights = _initial(settings, weight_seed, device)
        final_loss = _descend(settings, weights, data_seed, device, tick)
        return _named(weights), final_loss


def _initial(settings: TrainSettings, seed: int, device: torch.device) -> _Weights:
    # Drawn on the CPU, so that every device starts from the same weights.
    generator = torch.Generator().manual_seed(seed)
    d, h, v = settings.d_model, settings.head_width, settings.v
    std = 0.8 / d**0.5

    def normal(rows: int, columns: int) -> torch.Tensor:
        drawn = torch.randn(rows, columns, generator=generator, dtype=torch.float32)
        return (std * drawn).to(device).requires_grad_()

    return _Weights(
        W_E=normal(v, d),
        W_pos=normal(settings.k, d),
        W_Q=normal(d, h),
        W_K=normal(d, h),
        W_V=normal(d, h),
        W_O=normal(h, d),
        W_U=normal(d, v),
    )


def _last_logits(weights: _Weights, tokens: Int[torch.Tensor, "b k"]) -> Float[torch.Tensor, "b v"]:
    residual = torch.nn.functional.embedding(tokens, weights.W_E) + weights.W_pos
    last = residual[:, -1]
    # Only the last position is read, so there is one query a sequence: carrying it back through
    # W_K, and the mixture forward through W_V, spares a product for every position.
    query = (last @ weights.W_Q) @ weights.W_K.T / weights.W_Q.shape[1] ** 0.5
    attention = torch.softmax((residual @ query[:, :, None])[:, :, 0], dim=1)
    mixture = (attention[:, None, :] @ residual)[:, 0]
    return (last + mixture @ weights.W_V @ weights.W_O) @ weights.W_U


def _descend(
    settings: TrainSettings,
    weights: _Weights,
    data_seed: int,
    device: torch.device,
    tick: Callable[[TrainProgress], None] | None,
) -> float:
    generator = torch.Generator(device).manual_seed(data_seed)
    trained = [getattr(weights, field.name) for field in fields(weights)]
    optimiser = torch.optim.AdamW(
        trained,
        lr=settings.learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.01,
        fused=True,
    )
    shape = (settings.batch, settings.k)
    losses: deque[torch.Tensor] = deque(maxlen=_LOSSES_KEPT)
    for step in range(1, settings.steps + 1):
        tokens = torch.randint(settings.v, shape, generator=generator, device=device)
        # In float32 the loss of a sure answer, about 1e-7, would round to 0 and stop its gradient.
        logits = _last_logits(weights, tokens).double()
        loss = torch.nn.functional.cross_entropy(logits, tokens.amax(dim=1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
        if tick is not None and (step % _TICK_EVERY == 0 or step == settings.steps):
            tick(TrainProgress(step=step, steps=settings.steps, loss=loss.item()))
    final_loss = torch.stack(list(losses)).mean().item()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in [losses[-1], *trained]):
        raise FloatingPointError(
            f"training diverged: learning_rate={settings.learning_rate} gave weights that are not "
            "finite; lower it"
        )
    return final_loss


def _named(weights: _Weights) -> dict[str, Float32[np.ndarray, "..."]]:
    def array(tensor: torch.Tensor) -> Float32[np.ndarray, "..."]:
        return tensor.detach().cpu().numpy().copy()

    attention = "blocks.0.attn."
    return {
        "embed.W_E": array(weights.W_E),
        "pos_embed.W_pos": array(weights.W_pos),
        attention + "W_Q": array(weights.W_Q)[None],
        attention + "W_K": array(weights.W_K)[None],
        attention + "W_V": array(weights.W_V)[None],
        attention + "W_O": array(weights.W_O)[None],
        "unembed.W_U": array(weights.W_U),
    }
