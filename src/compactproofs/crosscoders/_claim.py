"""What a crosscoder claims, and how far its reconstruction is from the model.

The claim pretends that the crosscoder represents the activations perfectly: the answer is read off
its reconstruction of the last site. Estimates if the inputs are a sample; never a bound.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Float64, Int

from ..kernel import Transformer
from ._activations import require_own_crosscoder, residuals, unembedded
from ._crosscoder import Crosscoder
from ._errors import CrosscoderError


@final
@dataclass(frozen=True)
class SiteError:
    """How well one site is reconstructed."""

    site: str
    fvu: float
    """Fraction of variance unexplained: E|a - a'|^2 / E|a - E a|^2."""
    radius_mean: float
    """Mean of |a - a'|, raw units."""
    radius_max: float
    """Largest |a - a'| of any input."""


@final
@dataclass(frozen=True)
class CrosscoderClaim:
    """What reading the answer off the reconstruction gives."""

    inputs: int
    claimed: int
    """Inputs answered right by the reconstruction of the last site."""
    right: int
    """Inputs answered right by the model."""
    agree: int
    """Inputs to which both give one answer."""
    smallest_margin: float
    """Of the reconstruction: the least logit(label) - logit(other)."""
    active_mean: float
    """Mean number of active features, L0."""
    ball_radius_mean: float
    """Of the embedding ball: mean distance of the first site from its decode."""
    ball_radius_max: float
    sites: tuple[SiteError, ...]

    @property
    def claimed_accuracy(self) -> float:
        """Share of inputs that the reconstruction answers right."""
        return self.claimed / self.inputs

    @property
    def accuracy(self) -> float:
        """Share of inputs that the model answers right."""
        return self.right / self.inputs


def claim_of(
    net: Transformer,
    crosscoder: Crosscoder,
    tokens: Int[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    *,
    active: int | None = None,
    batch: int = 16_384,
) -> CrosscoderClaim:
    """Decode every input and read the answer off; the last position alone is looked at.

    active: encode with so many features at most (`Crosscoder.encode_topk`); None: as trained.
    Raises CrosscoderError for a crosscoder of another model, or one without the last site.
    Cost: a forward pass and an encoding of each input.
    """
    config = crosscoder.config
    require_own_crosscoder(config, net)
    names = [site.name for site in config.sites]
    last = f"blocks.{len(net.blocks) - 1}.hook_resid_post"
    if last not in names:
        raise CrosscoderError(
            f"the crosscoder has the sites {', '.join(names)}: a claim needs {last}, from which "
            "the answer is read"
        )
    sums = _Sums(len(names), net.d_model)
    claimed = right = agree = codes_active = 0
    smallest = np.inf
    for start in range(0, len(tokens), batch):
        own, wanted = tokens[start : start + batch], labels[start : start + batch]
        acts = residuals(net, own, names)
        codes = crosscoder.encode(acts) if active is None else crosscoder.encode_topk(acts, active)
        decoded = crosscoder.decode(codes).astype(np.float64)
        codes_active += int((codes > 0).sum())
        sums.add(acts, decoded)
        theirs = unembedded(net, decoded[:, names.index(last)])
        ours = unembedded(net, acts[:, names.index(last)])
        margins = _margins(theirs, wanted)
        claimed += int((margins > 0).sum())
        smallest = min(smallest, float(margins.min()))
        right += int((_margins(ours, wanted) > 0).sum())
        agree += int((theirs.argmax(1) == ours.argmax(1)).sum())
    radii = sums.radii(len(tokens))
    return CrosscoderClaim(
        inputs=len(tokens),
        claimed=claimed,
        right=right,
        agree=agree,
        smallest_margin=smallest,
        active_mean=codes_active / len(tokens),
        ball_radius_mean=radii[0][0],
        ball_radius_max=radii[0][1],
        sites=tuple(
            SiteError(name, fvu, *radius)
            for name, fvu, radius in zip(names, sums.fvu(len(tokens)), radii, strict=True)
        ),
    )


def _margins(
    logits: Float64[np.ndarray, "n x"], labels: Int[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    own = logits[np.arange(len(labels)), labels]
    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return own - others.max(axis=1)


class _Sums:
    """Running sums over batches: squared errors, variances and distances of each site."""

    def __init__(self, n_sites: int, d: int) -> None:
        self.errors = np.zeros(n_sites)
        self.squares = np.zeros(n_sites)
        self.totals = np.zeros((n_sites, d))
        self.distance = np.zeros(n_sites)
        self.farthest = np.zeros(n_sites)

    def add(self, acts: Float64[np.ndarray, "n L d"], decoded: Float[np.ndarray, "n L d"]) -> None:
        distance = np.linalg.norm(acts - decoded, axis=2)
        self.errors += (distance**2).sum(axis=0)
        self.squares += (acts**2).sum(axis=(0, 2))
        self.totals += acts.sum(axis=0)
        self.distance += distance.sum(axis=0)
        self.farthest = np.maximum(self.farthest, distance.max(axis=0))

    def fvu(self, n: int) -> list[float]:
        variance = self.squares - (self.totals**2).sum(axis=1) / n
        return [
            float(error / spread) if spread > 0 else float(error > 0)
            for error, spread in zip(self.errors, variance, strict=True)
        ]

    def radii(self, n: int) -> list[tuple[float, float]]:
        return [
            (float(total / n), float(most))
            for total, most in zip(self.distance, self.farthest, strict=True)
        ]
