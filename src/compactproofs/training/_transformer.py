"""The torch half of the transformer recipe: layers of attention and ReLU neurons, and the loop.

This module imports torch; its importer does so only when a model is really trained.
Notation: b batch, k positions, p positions that ask, v tokens, d width of the residual stream,
a heads, h width of a head, m neurons.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int

from ..kernel import Task
from ._recipes import Batches, TransformerSettings
from ._result import TrainProgress
from ._torch import one_thread, usable_device

_TICK_EVERY = 50
_LOSSES_KEPT = 100
_WARM_UP = 100
_FLOOR = 0.02
_AT_ONCE = 1 << 13


@dataclass(frozen=True)
class _Mlp:
    W_in: Float[torch.Tensor, "d m"]
    b_in: Float[torch.Tensor, " m"]
    W_out: Float[torch.Tensor, "m d"]
    b_out: Float[torch.Tensor, " d"]


@dataclass(frozen=True)
class _Attention:
    W_Q: Float[torch.Tensor, "a d h"]
    W_K: Float[torch.Tensor, "a d h"]
    W_V: Float[torch.Tensor, "a d h"]
    W_O: Float[torch.Tensor, "a h d"]


@dataclass(frozen=True)
class _Weights:
    W_E: Float[torch.Tensor, "v d"]
    W_pos: Float[torch.Tensor, "k d"]
    blocks: tuple[tuple[_Attention, _Mlp | None], ...]
    W_U: Float[torch.Tensor, "d v"]

    def named(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor under its TransformerLens 3 name."""
        yield "embed.W_E", self.W_E
        yield "pos_embed.W_pos", self.W_pos
        for number, block in enumerate(self.blocks):
            for kind, part in zip(("attn", "mlp"), block, strict=True):
                for field in fields(part) if part is not None else ():
                    yield f"blocks.{number}.{kind}.{field.name}", getattr(part, field.name)
        yield "unembed.W_U", self.W_U


def fit(
    settings: TransformerSettings,
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
        tensors = {name: t.detach().cpu().numpy().copy() for name, t in weights.named()}
        return tensors, final_loss


def count_right(
    tensors: Mapping[str, Float32[np.ndarray, "..."]], task: Task, samples: int, seed: int
) -> tuple[int, int]:
    """Sequences answered right, and sequences tried: ``samples`` drawn ones, or all if not more.

    Right means that the label's logit, in float64, is strictly the largest.
    """
    weights = _from_named({n: torch.from_numpy(a).double() for n, a in tensors.items()})
    labels = _Labels(task, torch.device("cpu"))
    if task.total <= samples:
        tokens = every_sequence(task)
    else:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(task.v, (samples, task.k), generator=generator)
    right = 0
    with one_thread(), torch.no_grad():
        for some in tokens.split(_AT_ONCE):
            logits, label = last_logits(weights, some), labels(some)[:, None]
            own = logits.gather(1, label)
            others = logits.scatter(1, label, -torch.inf).amax(dim=1, keepdim=True)
            right += int((own > others).sum())
    return right, len(tokens)


def every_sequence(task: Task) -> Int[torch.Tensor, "n k"]:
    """All sequences of a task, the last token running fastest."""
    return torch.cartesian_prod(*[torch.arange(task.v)] * task.k).reshape(-1, task.k)


def last_logits(weights: _Weights, tokens: Int[torch.Tensor, "b k"]) -> Float[torch.Tensor, "b v"]:
    """The logits at the last position."""
    residual = torch.nn.functional.embedding(tokens, weights.W_E) + weights.W_pos
    for block in weights.blocks[:-1]:
        residual = _after(block, residual, residual)
    # Nothing is read from the last layer but its last position.
    return _after(weights.blocks[-1], residual, residual[:, -1:])[:, 0] @ weights.W_U


def _after(
    block: tuple[_Attention, _Mlp | None],
    residual: Float[torch.Tensor, "b k d"],
    asking: Float[torch.Tensor, "b p d"],
) -> Float[torch.Tensor, "b p d"]:
    """The residual stream after a layer at its last ``p`` positions, given that before it."""
    attention, mlp = block
    query = torch.einsum("bpd,adh->baph", asking, attention.W_Q)
    key = torch.einsum("bkd,adh->bahk", residual, attention.W_K)
    value = torch.einsum("bkd,adh->bakh", residual, attention.W_V)
    scores = query @ key / query.shape[-1] ** 0.5
    p, k = scores.shape[-2:]
    ahead = torch.ones(p, k, dtype=torch.bool, device=scores.device).triu(k - p + 1)
    mixed = torch.softmax(scores.masked_fill(ahead, -torch.inf), dim=-1) @ value
    after = asking + torch.einsum("baph,ahd->bpd", mixed, attention.W_O)
    if mlp is None:
        return after
    return after + torch.relu(after @ mlp.W_in + mlp.b_in) @ mlp.W_out + mlp.b_out


def _initial(settings: TransformerSettings, seed: int, device: torch.device) -> _Weights:
    # Drawn on the CPU, so that every device starts from the same weights.
    generator = torch.Generator().manual_seed(seed)
    d, h, a, m = settings.d_model, settings.head_width, settings.n_heads, settings.d_mlp
    k, v = settings.task.k, settings.task.v

    def normal(fan_in: int, *shape: int) -> torch.Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float32)
        return (drawn / fan_in**0.5).to(device).requires_grad_()

    def zeros(size: int) -> torch.Tensor:
        return torch.zeros(size, device=device).requires_grad_()

    def block() -> tuple[_Attention, _Mlp | None]:
        attention = _Attention(
            W_Q=normal(d, a, d, h),
            W_K=normal(d, a, d, h),
            W_V=normal(d, a, d, h),
            W_O=normal(a * h, a, h, d),
        )
        if not m:
            return attention, None
        return attention, _Mlp(
            W_in=normal(d, d, m), b_in=zeros(m), W_out=normal(m, m, d), b_out=zeros(d)
        )

    return _Weights(
        W_E=normal(d, v, d),
        W_pos=normal(d, k, d),
        blocks=tuple(block() for _ in range(settings.n_layers)),
        W_U=normal(d, d, v),
    )


def _from_named(tensors: Mapping[str, torch.Tensor]) -> _Weights:
    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    layers = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    return _Weights(
        W_E=tensors["embed.W_E"],
        W_pos=tensors["pos_embed.W_pos"],
        blocks=tuple(
            (
                _Attention(**part(f"blocks.{number}.attn.")),
                _Mlp(**mlp) if (mlp := part(f"blocks.{number}.mlp.")) else None,
            )
            for number in range(layers)
        ),
        W_U=tensors["unembed.W_U"],
    )


class _Labels:
    """The labels of a task: its automaton's tables as tensors."""

    def __init__(self, task: Task, device: torch.device) -> None:
        step, label = task.automaton
        self._step = torch.from_numpy(step.astype(np.int64)).to(device)
        self._label = torch.from_numpy(label.astype(np.int64)).to(device)

    def __call__(self, tokens: Int[torch.Tensor, "b k"]) -> Int[torch.Tensor, " b"]:
        state = torch.zeros(len(tokens), dtype=torch.int64, device=tokens.device)
        for column in tokens.T:
            state = self._step[state, column]
        return self._label[state]


def _batches(
    settings: TransformerSettings, seed: int, device: torch.device
) -> Iterator[Int[torch.Tensor, "b k"]]:
    """Sequences to learn from, for ever."""
    task, generator = settings.task, torch.Generator(device).manual_seed(seed)
    if settings.batches is Batches.EVERYTHING:
        everything = every_sequence(task).to(device)
        while True:
            yield everything
    shape = (settings.batch, task.k)
    capped = torch.arange(settings.batch, device=device) % 2 == 1
    while True:
        tokens = torch.randint(task.v, shape, generator=generator, device=device)
        if settings.batches is Batches.HALF_CAPPED:
            cap = torch.randint(1, task.v + 1, (shape[0], 1), generator=generator, device=device)
            tokens = _below(tokens, cap, capped, generator)
        yield tokens


def _below(
    tokens: Int[torch.Tensor, "b k"],
    cap: Int[torch.Tensor, "b 1"],
    capped: Bool[torch.Tensor, " b"],
    generator: torch.Generator,
) -> Int[torch.Tensor, "b k"]:
    """Where ``capped``, other tokens: uniform below the sequence's cap (at least 1)."""
    share = torch.rand(tokens.shape, generator=generator, device=tokens.device)
    # The product could round up to the cap itself.
    drawn = torch.minimum((share * cap).long(), cap - 1)
    return torch.where(capped[:, None], drawn, tokens)


def _rate(step: int, steps: int) -> float:
    """The factor of the learning rate at a step (from 1): warm-up, then a linear end."""
    end = min(1.0, (1 - step / steps) / 0.4)
    return min(1.0, step / _WARM_UP, _FLOOR + (1 - _FLOOR) * end)


def _descend(
    settings: TransformerSettings,
    weights: _Weights,
    data_seed: int,
    device: torch.device,
    tick: Callable[[TrainProgress], None] | None,
) -> float:
    trained = [tensor for _, tensor in weights.named()]
    optimiser = torch.optim.AdamW(
        trained,
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        eps=1e-8,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    label = _Labels(settings.task, device)
    losses: deque[torch.Tensor] = deque(maxlen=_LOSSES_KEPT)
    steps = range(1, settings.steps + 1)
    for step, tokens in zip(steps, _batches(settings, data_seed, device), strict=False):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, settings.steps)
        # In float32 the loss of a sure answer, about 1e-7, would round to 0 and stop its gradient.
        logits = last_logits(weights, tokens).double()
        loss = torch.nn.functional.cross_entropy(logits, label(tokens))
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
