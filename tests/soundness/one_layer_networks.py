"""Transformers of one layer with one head to attack theorem D with."""

from dataclasses import replace
from functools import cache

import numpy as np

from compactproofs.kernel import Transformer
from random_models import float32, hostile_models, max_like_model
from transformers_for_tests import random_transformer

_SHAPES = [(3, 3), (2, 4), (1, 5), (2, 2), (4, 2), (3, 2), (2, 5), (3, 4), (1, 1), (2, 1)]


@cache
def one_layer_networks() -> dict[str, Transformer]:
    """By name: random ones, ones that are mostly right, and hostile ones, all with neurons."""
    rng = np.random.default_rng(51)
    found: dict[str, Transformer] = {}
    for n in range(14):
        k, v = _SHAPES[n % len(_SHAPES)]
        found[f"random {n}, k={k}, v={v}"] = random_transformer(
            rng,
            k=k,
            v=v,
            mlp=n % 7,
            d=4,
            h=2,
            outputs=v + n % 2,
            scale=(0.3, 1.0, 30.0)[n % 3],
            weights=(1.0, 1e-6, 50.0)[n // 3 % 3],
            direction=("causal", "bidirectional")[n % 2],
        )
    for n in range(4):
        model = max_like_model(rng, k=3, v=4, sharpness=1.0 + n, noise=0.1 * n)
        found[f"like max {n}"] = with_neurons(rng, model.as_transformer(), 2 + n, 0.2)
    for number, (name, model) in enumerate(hostile_models(rng, k=2, v=3).items()):
        if number % 2 or "cancel" in name or "equal" in name:
            size = (1.0, 1e-3, 30.0)[number % 3]
            found[name] = with_neurons(rng, model.as_transformer(), number % 4, size)
    some = found["random 6, k=2, v=5"]
    block = some.blocks[0]
    for name, edited in {
        "neurons at zero": replace(
            block, W_in=np.zeros_like(block.W_in), b_in=np.zeros_like(block.b_in)
        ),
        "tiny inputs of neurons": replace(block, W_in=float32(block.W_in * 1e-42)),
        "subnormal outputs of neurons": replace(block, W_out=float32(block.W_out * 1e-43)),
        "huge outputs of neurons": replace(block, W_out=float32(block.W_out * 1e9)),
        "huge neurons": replace(
            block, W_in=float32(block.W_in * 1e12), b_in=float32(block.b_in * 1e12)
        ),
        "b_out alone": replace(block, W_out=np.zeros_like(block.W_out), b_out=40 * block.b_out),
        "neurons that cancel": replace(
            block,
            W_in=np.hstack([block.W_in[:, :3], block.W_in[:, :3]]),
            b_in=np.hstack([block.b_in[:3], block.b_in[:3]]),
            W_out=float32(1e6 * np.vstack([block.W_out[:3], -block.W_out[:3]])),
        ),
    }.items():
        found[name] = replace(some, blocks=(edited,))
    return found


def with_neurons(rng: np.random.Generator, net: Transformer, m: int, size: float) -> Transformer:
    """The same layer followed by random neurons with outputs of a size."""
    d = net.d_model
    scale = float(np.abs(net.W_E).max()) or 1.0
    block = replace(
        net.blocks[0],
        W_in=float32(rng.normal(size=(d, m)) / d**0.5),
        b_in=float32(0.3 * scale * rng.normal(size=m)),
        W_out=float32(size * rng.normal(size=(m, d)) / max(1, m) ** 0.5),
        b_out=float32(size * 0.3 * scale * rng.normal(size=d) * bool(m)),
    )
    return replace(net, blocks=(block,))
