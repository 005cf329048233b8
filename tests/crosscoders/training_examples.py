"""Small sources and settings for the tests of crosscoder training."""

from typing import Any

import numpy as np

from compactproofs.crosscoders import Site, site_of
from compactproofs.crosscoders.training import CrosscoderSettings, Revival, TransformerSource
from compactproofs.kernel import MaxOfK, Transformer
from transformers_for_tests import random_transformer

TASK = MaxOfK(k=3, v=6)
LAST = ("blocks.0.hook_resid_pre", "blocks.0.hook_resid_mid", "blocks.0.hook_resid_post")


def transformer(seed: int = 0, *, layers: int = 1, k: int = 3, v: int = 6) -> Transformer:
    return random_transformer(np.random.default_rng(seed), k=k, v=v, layers=layers, d=8, mlp=10)


def source(seed: int = 0, *, layers: int = 1, **options: Any) -> TransformerSource:
    """All 216 sequences of max-of-3 in a random transformer; three sites of width 8."""
    return TransformerSource.of_task(transformer(seed, layers=layers), TASK, **options)


def settings(**changes: Any) -> CrosscoderSettings:
    """A run of less than a second."""
    fields: dict[str, Any] = {
        "features": 16,
        "k": 3,
        "architecture": "topk_crosscoder",
        "steps": 60,
        "batch": 32,
        "learning_rate": 1e-2,
        "warm_up": 5,
        "revival": Revival(dead_after=10, resample_every=15),
    }
    return CrosscoderSettings(**fields | changes)


def clt_source() -> TransformerSource:
    """Two layers: residual streams before the MLPs, and what the MLPs add."""
    return source(
        layers=2,
        sites=sites("blocks.0.hook_resid_mid", "blocks.1.hook_resid_mid"),
        output_sites=sites("blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"),
    )


def sites(*names: str) -> tuple[Site, ...]:
    return tuple(map(site_of, names))
