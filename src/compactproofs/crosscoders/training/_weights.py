"""The numbers that are trained, how they begin, and the crosscoder that they become.

Everything is in normalised units: a' = (a - mean) scale. Notation: L sites, d width, H features.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float

from .._config import BATCHTOPK, CENTRED, CLT, JUMPRELU, CrosscoderConfig
from .._crosscoder import Crosscoder
from .._errors import CrosscoderError
from .._masks import causal_masks
from ._settings import CrosscoderSettings
from ._sources import ActivationSource

_FIRST_LOG_THRESHOLD = 0.1
_NOISE = 0.1


@final
@dataclass(frozen=True)
class Normalisation:
    """What is done to each site before training, with the square roots of the sites' weights."""

    scale: Float[torch.Tensor, " L"]
    mean: Float[torch.Tensor, "L d"]

    def apply(self, raw: Float[torch.Tensor, "n L d"]) -> Float[torch.Tensor, "n L d"]:
        """Normalised units from raw ones."""
        return (raw - self.mean) * self.scale[:, None]

    def undo(self, normalised: Float[torch.Tensor, "n L d"]) -> Float[torch.Tensor, "n L d"]:
        """Raw units from normalised ones."""
        return normalised / self.scale[:, None] + self.mean


@final
@dataclass(frozen=True)
class Weights:
    """The trained tensors; leaves of the graph of gradients."""

    W_enc: Float[torch.Tensor, "L d H"]
    b_enc: Float[torch.Tensor, " H"]
    W_dec: Float[torch.Tensor, "H L d"]
    b_dec: Float[torch.Tensor, "L d"]
    log_threshold: Float[torch.Tensor, " H"] | None = None
    """Of ``jumprelu_crosscoder``."""

    def named(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor that is there, by name."""
        for field in fields(self):
            if (value := getattr(self, field.name)) is not None:
                yield field.name, value

    def tensors(self) -> list[torch.Tensor]:
        """Every tensor that is there."""
        return [value for _, value in self.named()]

    def pre_activations(self, x: Float[torch.Tensor, "n L d"]) -> Float[torch.Tensor, "n H"]:
        """h of normalised activations. Cost: n L d H multiply-adds."""
        return x.flatten(1) @ self.W_enc.flatten(0, 1) + self.b_enc

    def decode(self, codes: Float[torch.Tensor, "n H"]) -> Float[torch.Tensor, "n L d"]:
        """Normalised activations of `codes`. Cost: n H L d multiply-adds."""
        return (codes @ self.W_dec.flatten(1)).unflatten(1, self.b_dec.shape) + self.b_dec

    def scores(self, kind: str) -> Float[torch.Tensor, " H"]:
        """What a code is multiplied by to rank it; see `Crosscoder.feature_weights`."""
        if kind == "none":
            return torch.ones_like(self.b_enc)
        if kind == "sum":
            return self.W_dec.norm(dim=2).sum(dim=1)
        return self.W_dec.flatten(1).norm(dim=1)


@final
@dataclass(frozen=True)
class Masks:
    """Which sites a feature reads and writes, as factors; None: all."""

    enc: Bool[torch.Tensor, "H L"] | None = None
    dec: Bool[torch.Tensor, "H L"] | None = None

    def apply(
        self, W_enc: Float[torch.Tensor, "L d H"], W_dec: Float[torch.Tensor, "H L d"]
    ) -> None:
        """Zero, in place, what is masked: of weights or of their gradients."""
        if self.enc is not None:
            W_enc *= self.enc.T[:, None]
        if self.dec is not None:
            W_dec *= self.dec[:, :, None]


def masks_of(settings: CrosscoderSettings, source: ActivationSource) -> Masks:
    """The masks of the settings; raises CrosscoderError for a site to read that is not there."""
    H, L = settings.features, len(source.sites)
    if settings.mask != "acausal":
        # Each site gets an equal share of the features, in order.
        enc, dec = causal_masks(np.arange(H) * L // H, L)
    elif settings.reads:
        names = [site.name for site in source.sites]
        for name in settings.reads:
            if name not in names:
                raise CrosscoderError(f"reads: {name!r} is not one of {', '.join(names)}")
        enc = np.tile([name in settings.reads for name in names], (H, 1))
        dec = np.ones_like(enc)
    else:
        return Masks()
    device = settings.device
    return Masks(torch.tensor(enc, device=device), torch.tensor(dec, device=device))


def normalisation_of(
    settings: CrosscoderSettings, raw: Float[torch.Tensor, "n L d"]
) -> Normalisation:
    """Estimated on a sample of rows: sqrt(d) / E|a|, of a less its mean where that is asked for.

    Raises CrosscoderError for a site at which all rows are equal, or weights of another number.
    """
    n_sites, d = raw.shape[1:]
    kind = settings.normalize
    mean = raw.mean(dim=0) if kind == CENTRED else torch.zeros_like(raw[0])
    if kind == "none":
        scale = torch.ones(n_sites, device=raw.device)
    else:
        norms = (raw - mean).norm(dim=2).mean(dim=0)
        if not bool((norms > 0).all()):
            raise CrosscoderError(
                f"site {int(norms.argmin())} is the same in all rows, so it has no scale; leave it "
                "out, or take normalize='none'"
            )
        scale = d**0.5 / norms
    if settings.site_weights:
        if len(settings.site_weights) != n_sites:
            raise CrosscoderError(
                f"site_weights has {len(settings.site_weights)} entries for {n_sites} sites"
            )
        scale = scale * torch.tensor(settings.site_weights, device=raw.device).sqrt()
    return Normalisation(scale, mean)


def initial_weights(
    settings: CrosscoderSettings,
    x: Float[torch.Tensor, "n L d"],
    y: Float[torch.Tensor, "n L d"],
    begin: tuple[Float[torch.Tensor, "H L d"], Float[torch.Tensor, "H L d"]],
    masks: Masks,
    seed: int,
) -> Weights:
    """The weights before the first step, from normalised inputs x and targets y of some rows.

    The decoder's bias begins at the mean of y, which is 0 if rows are centred. begin: inputs and
    targets of the rows that features begin at, if they begin at data.
    """
    H, (L, d) = settings.features, x.shape[1:]
    # Drawn on the CPU, so that every device starts from the same numbers.
    drawn = torch.Generator().manual_seed(seed)
    b_dec = y.mean(dim=0)
    if settings.initial == "data":
        noise = torch.randn(H, L, d, generator=drawn).to(y.device)
        W_dec = unit_rows((begin[1] - b_dec) * (1 + _NOISE * noise))
        W_enc = unit_rows(begin[0] * (1 + _NOISE * noise)).permute(1, 2, 0).contiguous()
    else:
        n = L * d
        W_dec = (2 * torch.rand(H, L, d, generator=drawn) - 1).to(y.device) / n**0.5
        W_enc = (n / H) * W_dec.permute(1, 2, 0).contiguous()
    masks.apply(W_enc, W_dec)
    if settings.unit_decoder:
        W_dec = unit_rows(W_dec)
    b_enc = torch.zeros(H, device=y.device)
    log_threshold = None
    if settings.architecture == JUMPRELU:
        log_threshold = torch.full_like(b_enc, _FIRST_LOG_THRESHOLD)
        b_enc = _calibrated(x, W_enc, settings.features)
    return Weights(
        *(one.clone().requires_grad_() for one in (W_enc, b_enc, W_dec, b_dec)),
        log_threshold=None if log_threshold is None else log_threshold.requires_grad_(),
    )


def unit_rows(W: Float[torch.Tensor, "H L d"]) -> Float[torch.Tensor, "H L d"]:
    """Each feature's directions together scaled to norm 1; those of a zero feature stay zero."""
    norms = W.flatten(1).norm(dim=1)
    return W / torch.where(norms > 0, norms, torch.ones_like(norms))[:, None, None]


def _calibrated(
    x: Float[torch.Tensor, "n L d"], W_enc: Float[torch.Tensor, "L d H"], H: int
) -> Float[torch.Tensor, " H"]:
    """Biases with which each feature fires on a share 10000 / H of the sample, at most one half."""
    h = x.flatten(1) @ W_enc.flatten(0, 1)
    share = min(0.5, 10_000 / H)
    quantile = torch.quantile(h[: 1 << 14], 1 - share, dim=0)
    return float(np.exp(_FIRST_LOG_THRESHOLD)) - quantile


def finished_crosscoder(
    settings: CrosscoderSettings,
    source: ActivationSource,
    weights: Weights,
    read: Normalisation,
    written: Normalisation,
    masks: Masks,
    threshold: float | None,
    metadata: dict[str, Any],
) -> Crosscoder:
    """The crosscoder of trained weights, folded to raw units.

    read, written: normalisation of what the encoder reads and the decoder writes.
    """

    def array(tensor: torch.Tensor) -> np.ndarray:
        return tensor.detach().cpu().numpy()

    is_clt = settings.architecture == CLT
    applied, centred = settings.normalize != "none", settings.normalize == CENTRED
    # Weighted sites are rescaled even where nothing was normalised: that is not in the config, and
    # need not be, because it is folded at once.
    normalize = settings.normalize
    if not applied and settings.site_weights:
        normalize, applied = "sqrt_d_over_mean_norm", True
    chosen: np.ndarray | None = None
    if weights.log_threshold is not None:
        chosen = array(weights.log_threshold.exp())
    elif settings.architecture == BATCHTOPK:
        chosen = np.array(threshold, np.float32)
    config = CrosscoderConfig(
        architecture=settings.architecture,
        sites=source.sites,
        d_in=(source.d,) * len(source.sites),
        d_sae=settings.features,
        k=settings.k,
        output_sites=source.output_sites if is_clt else (),
        positions=source.positions,
        score=settings.score,
        mask="custom" if settings.reads else settings.mask,
        normalize_activations=normalize,
        model_sha256=source.model_sha256,
        metadata=metadata,
    )
    return Crosscoder(
        config,
        W_enc=array(weights.W_enc),
        b_enc=array(weights.b_enc),
        W_dec=array(weights.W_dec),
        b_dec=array(weights.b_dec),
        threshold=chosen,
        norm_scale=array(read.scale) if applied else None,
        norm_mean=array(read.mean) if centred else None,
        out_scale=array(written.scale) if applied and is_clt else None,
        out_mean=array(written.mean) if centred and is_clt else None,
        enc_mask=None if masks.enc is None else array(masks.enc),
        dec_mask=None if masks.dec is None else array(masks.dec),
    ).fold()
