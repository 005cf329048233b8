"""Witnesses made by hand, good and bad."""

from typing import Any

import numpy as np

from compactproofs.kernel import Model, SubcubicWitness


def blank_subcubic_witness(model: Any, kind: Any = SubcubicWitness) -> Any:
    """Every class claimed with gap 1, no direction projected on."""
    v, k, d = model.d_vocab, model.n_ctx, model.W_E.shape[1]
    return kind(
        gap=np.ones((v, v, k), dtype=np.int32),
        average=np.zeros((v, k)),
        query_directions=np.zeros((2, v)),
        key_directions=np.zeros((2, v)),
        W_Q_direction=np.zeros(d + 1),
        W_K_direction=np.zeros(d + 1),
        residual_direction=np.zeros(d),
    )


def random_subcubic_witness(rng: np.random.Generator, model: Model, kind: Any = None) -> Any:
    """Any gaps, averages and directions; some directions are 0."""
    v, k, d = model.d_vocab, model.n_ctx, model.W_E.shape[1]
    blank = blank_subcubic_witness(model, kind or SubcubicWitness)
    return blank._replace(
        gap=rng.integers(0, v + 1, (v, v, k)).astype(np.int32),
        average=rng.random((v, k)) * rng.integers(0, 2, (v, k)),
        query_directions=rng.normal(size=(2, v)) * rng.integers(0, 2),
        key_directions=rng.normal(size=(2, v)) * rng.integers(0, 2),
        W_Q_direction=rng.normal(size=d + 1) * rng.integers(0, 2),
        W_K_direction=rng.normal(size=d + 1),
        residual_direction=rng.normal(size=d) * rng.integers(0, 2),
    )
