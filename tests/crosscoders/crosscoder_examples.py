"""Small crosscoders of every kind, for the tests of this folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
import numpy as np
import torch

from compactproofs.crosscoders import (
    Crosscoder,
    CrosscoderConfig,
    Site,
    causal_masks,
    site_of,
)

D, H = 5, 12
SITES = tuple(
    site_of(f"blocks.{layer}.hook_{part}")
    for layer in (0, 1)
    for part in ("resid_pre", "resid_mid")
)
MLP_SITES = tuple(site_of(f"blocks.{layer}.hook_mlp_out") for layer in range(len(SITES)))
NORMALISATIONS = ("none", "sqrt_d_over_mean_norm", "centred_sqrt_d_over_mean_norm")
KINDS = ("batchtopk_crosscoder", "topk_crosscoder", "jumprelu_crosscoder", "l1_crosscoder", "clt")


def numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def make(
    architecture: str = "topk_crosscoder",
    seed: int = 0,
    *,
    normalisation: str = "none",
    mask: str | None = None,
    sites: tuple[Site, ...] = SITES,
    **settings: Any,
) -> Crosscoder:
    """A random crosscoder of L sites of width `D` with `H` features, decided by the seed."""
    rng = np.random.default_rng(seed)
    n_sites, is_clt = len(sites), architecture == "clt"
    mask = mask or ("clt" if is_clt else "acausal")
    if architecture in ("batchtopk_crosscoder", "topk_crosscoder"):
        settings.setdefault("k", 3)
    config = CrosscoderConfig(
        architecture,
        sites,
        (D,) * n_sites,
        H,
        output_sites=MLP_SITES[:n_sites] if is_clt else (),
        mask=mask,
        normalize_activations=normalisation,
        **settings,
    )
    arrays: dict[str, Any] = {
        "W_enc": numbers(rng, n_sites, D, H),
        "b_enc": numbers(rng, H),
        "W_dec": numbers(rng, H, n_sites, D),
        "b_dec": numbers(rng, n_sites, D),
    }
    if mask != "acausal":
        enc_mask, dec_mask = causal_masks(rng.integers(n_sites, size=H), n_sites)
        arrays["W_enc"] *= enc_mask.T[:, None]
        arrays["W_dec"] *= dec_mask[:, :, None]
        arrays |= {"enc_mask": enc_mask, "dec_mask": dec_mask}
    if architecture == "batchtopk_crosscoder":
        arrays["threshold"] = np.array(4, np.float32)
    elif architecture in ("jumprelu_crosscoder", "clt"):
        arrays["threshold"] = np.abs(numbers(rng, H))
    if normalisation != "none":
        for part in ("norm", "out") if is_clt else ("norm",):
            arrays[f"{part}_scale"] = 0.5 + np.abs(numbers(rng, n_sites))
            if normalisation.startswith("centred"):
                arrays[f"{part}_mean"] = numbers(rng, n_sites, D)
    return Crosscoder(config, **arrays)


def acts(n: int = 40, seed: int = 1, n_sites: int = len(SITES)) -> np.ndarray:
    """Raw activations [n, L, d]."""
    return numbers(np.random.default_rng(seed), n, n_sites, D)


@contextmanager
def as_users_call() -> Iterator[None]:
    """Without the types that tests check at every call: what a user's mistake meets is the code."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def of_seed(seed: int, *shape: int) -> torch.Tensor:
    """Normal numbers that the seed decides."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def close_to(mine: np.ndarray, theirs: torch.Tensor) -> None:
    np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-4, atol=1e-4)
