"""A trained crosscoder, in numpy: encode, decode, fold.

Notation: n samples, L sites, d their width, H features, k active ones; a sample's activations a
[L, d], its code f [H], and row i of ``W_dec`` at site l the direction of feature i there. Codes are
never negative. Nothing here is trusted by a proof: a bad code gives a weaker bound.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Final, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped

from ._config import (
    BATCHTOPK,
    CENTRED,
    CLT,
    JUMPRELU,
    TOPK,
    CrosscoderConfig,
    Site,
    require_positive,
)
from ._errors import CrosscoderError
from ._masks import require_masks
from ._selection import largest

TENSORS: Final = (
    "W_enc b_enc W_dec b_dec threshold norm_scale norm_mean out_scale out_mean feature_scale "
    "enc_mask dec_mask"
).split()
"""The arrays of a crosscoder, in the order in which they are digested."""


@final
@dataclass(frozen=True, eq=False)
class Crosscoder:
    """Settings and weights; arrays are kept as read-only float32 copies (masks: bool).

    With a' = (a - norm_mean) * norm_scale per site, less ``b_dec`` where
    ``config.apply_b_dec_to_input``: pre-activations are h = sum over sites of a' W_enc + b_enc,
    codes f are the selected entries of ReLU(h), and the output is f W_dec + b_dec, divided by the
    scale, plus the mean. Both directions take and give raw activations.

    Raises CrosscoderError for a wrong shape, NaN or infinity, naming the array.
    """

    config: CrosscoderConfig
    W_enc: Float[np.ndarray, "L d H"]
    b_enc: Float[np.ndarray, " H"]
    W_dec: Float[np.ndarray, "H L d"]
    b_dec: Float[np.ndarray, "L d"]
    threshold: Float[np.ndarray, ""] | Float[np.ndarray, " H"] | float | np.floating | None = None
    """``batchtopk_crosscoder``: a scalar that a score must exceed. ``jumprelu_crosscoder`` (and a
    ``clt`` that has one): a scalar or one of each feature that its pre-activation must exceed.
    """
    norm_scale: Float[np.ndarray, " L"] | None = None
    """Factor of each site before encoding; None where nothing is applied."""
    norm_mean: Float[np.ndarray, "L d"] | None = None
    """Subtracted from each site before that; None unless it is centred."""
    out_scale: Float[np.ndarray, " L"] | None = None
    """``clt`` only: `norm_scale` of the output sites."""
    out_mean: Float[np.ndarray, "L d"] | None = None
    """``clt`` only: `norm_mean` of the output sites."""
    feature_scale: Float[np.ndarray, " H"] | None = None
    """Weights of the score, where they are not those of the present `W_dec`; set by `fold`."""
    enc_mask: Bool[np.ndarray, "H L"] | None = None
    """Which sites a feature reads; None with the mask ``acausal``. `W_enc` is zero elsewhere."""
    dec_mask: Bool[np.ndarray, "H L"] | None = None
    """Which sites a feature writes; None with the mask ``acausal``. `W_dec` is zero elsewhere."""

    def __post_init__(self) -> None:
        """Keep copies that nobody can change."""
        n_sites, d, n_features = len(self.config.sites), self.config.d, self.config.d_sae
        shapes = {
            "W_enc": (n_sites, d, n_features),
            "b_enc": (n_features,),
            "W_dec": (n_features, n_sites, d),
            "b_dec": (n_sites, d),
            "norm_scale": (n_sites,),
            "norm_mean": (n_sites, d),
            "out_scale": (n_sites,),
            "out_mean": (n_sites, d),
            "feature_scale": (n_features,),
        }
        for name, shape in shapes.items():
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, _kept(name, value, shape))
        if self.threshold is not None:
            shape = () if np.ndim(self.threshold) == 0 else (n_features,)
            object.__setattr__(self, "threshold", _kept("threshold", self.threshold, shape))
        for name in ("enc_mask", "dec_mask"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, _kept_mask(name, value, (n_features, n_sites)))
        require_masks(self.config.mask, self.enc_mask, self.dec_mask, self.W_enc, self.W_dec)
        self._require_threshold()
        self._require_normalisation()

    def _require_threshold(self) -> None:
        architecture = self.config.architecture
        if self.threshold is None:
            if architecture in (BATCHTOPK, JUMPRELU):
                raise CrosscoderError(f"threshold is missing: {architecture} selects by it")
            return
        if architecture not in (BATCHTOPK, JUMPRELU, CLT):
            raise CrosscoderError(f"threshold is given, but {architecture} has none; drop it")
        threshold = np.asarray(self.threshold)
        if architecture == BATCHTOPK and threshold.ndim:
            raise CrosscoderError(
                f"threshold has shape {threshold.shape}, but {BATCHTOPK} has one number"
            )
        if threshold.min() < 0:
            raise CrosscoderError(
                f"threshold holds {threshold.min()}, but it must be at least 0; "
                "a negative one means that training never estimated it"
            )

    def _require_normalisation(self) -> None:
        config = self.config
        is_clt = config.architecture == CLT
        applied = config.normalize_activations != "none" and not config.folded
        centred = applied and config.normalize_activations == CENTRED
        expected = {
            "norm_scale": applied,
            "norm_mean": centred,
            "out_scale": applied and is_clt,
            "out_mean": centred and is_clt,
        }
        for name, wanted in expected.items():
            if (getattr(self, name) is not None) != wanted:
                raise CrosscoderError(
                    f"{name} is {'missing' if wanted else 'given'}, but normalize_activations is "
                    f"{config.normalize_activations!r}, folded is {config.folded} and the "
                    f"architecture is {config.architecture!r}"
                )
        for name in ("norm_scale", "out_scale", "feature_scale"):
            value = getattr(self, name)
            lowest = np.inf if value is None else value.min()
            if lowest < 0 or (lowest == 0 and name != "feature_scale"):
                raise CrosscoderError(f"{name} holds {lowest}, but a scale must be positive")

    @property
    def sha256(self) -> str:
        """Digest (hex) of everything but the metadata. Cost: reads every weight."""
        fields = asdict(self.config)
        del fields["metadata"]
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
        for name, array in self.tensors():
            digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def tensors(self) -> Iterator[tuple[str, Shaped[np.ndarray, "..."]]]:
        """Name and value of every array that is not None, in the order of `TENSORS`."""
        for name in TENSORS:
            if (array := getattr(self, name)) is not None:
                yield name, array

    def feature_weights(self) -> Float32[np.ndarray, " H"]:
        """What a code is multiplied by to rank it, by ``config.score``.

        ``sum``: the sum over sites of the norms of its directions; ``concat``: the norm of all its
        directions together; ``none``: 1. Always those of training, in normalised units: folding
        changes the norms and keeps these.
        """
        if self.feature_scale is not None:
            return self.feature_scale
        return _weights(self.W_dec, self.config.score)

    def pre_activations(self, acts: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "n H"]:
        """h of raw activations `acts` [n, L, d]; cost: n L d H multiply-adds.

        Raises CrosscoderError for another shape, NaN or infinity.
        """
        acts = self._checked(acts)
        if self.norm_mean is not None:
            acts = acts - self.norm_mean
        if self.norm_scale is not None:
            acts = acts * self.norm_scale[:, None]
        if self.config.apply_b_dec_to_input:
            acts = acts - self.b_dec
        flat = acts.reshape(len(acts), self.b_dec.size)
        return flat @ self.W_enc.reshape(self.b_dec.size, len(self.b_enc)) + self.b_enc

    def encode(self, acts: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "n H"]:
        """Codes of raw activations `acts` [n, L, d], each sample by itself.

        ``batchtopk_crosscoder``: codes whose score (code times `feature_weights`) exceeds the
        threshold; any number of them. ``topk_crosscoder``: the k largest scores, the lower index
        first among equals. ``jumprelu_crosscoder``: pre-activations above the threshold.
        ``l1_crosscoder``: ReLU. ``clt``: by its threshold, else by its k, else ReLU.

        Raises and costs what `pre_activations` does.
        """
        codes = self._candidates(self.pre_activations(acts))
        config = self.config
        if config.architecture == BATCHTOPK:
            return np.where(codes * self.feature_weights() > self.threshold, codes, np.float32(0))
        by_rank = config.architecture == CLT and self.threshold is None and config.k is not None
        if config.architecture == TOPK or by_rank:
            return self._kept_largest(codes, config.k or config.d_sae)
        return codes

    def encode_topk(self, acts: Shaped[np.ndarray, "..."], k: int) -> Float32[np.ndarray, "n H"]:
        """Codes with at most `k` active: the largest scores of each sample, whatever is trained.

        Replaces the threshold of ``batchtopk_crosscoder`` and comes after that of the others; the
        lower index goes first among equal scores. Raises CrosscoderError for a k out of range.
        """
        require_positive("k", k)
        if k > self.config.d_sae:
            raise CrosscoderError(f"k = {k} is more than the {self.config.d_sae} features")
        return self._kept_largest(self._candidates(self.pre_activations(acts)), k)

    def decode(self, codes: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "n L d"]:
        """Raw activations at ``config.written_sites`` from `codes` [n, H].

        Raises CrosscoderError for another shape, NaN or infinity. Cost: n H L d multiply-adds.
        """
        codes = np.asarray(codes)
        n_features = self.config.d_sae
        if codes.ndim != 2 or codes.shape[1] != n_features:
            raise CrosscoderError(f"codes have shape {codes.shape}, not [n, H={n_features}]")
        codes = _as_float32("codes", codes)
        decoded = codes @ self.W_dec.reshape(n_features, self.b_dec.size)
        decoded = decoded.reshape(-1, *self.b_dec.shape) + self.b_dec
        scale, mean = self._output_normalisation()
        if scale is not None:
            decoded = decoded / scale[:, None]
        return decoded if mean is None else decoded + mean

    def fold(self) -> "Crosscoder":
        """The same function with normalisation and centring inside the weights.

        Codes and raw outputs are equal up to float32 rounding; ``norm_*`` are None, ``b_dec`` is no
        longer subtracted from the input, and `feature_weights` stay. One that is folded comes back.
        """
        if self.config.folded:
            return self
        scale, mean = self._output_normalisation()
        W_enc, b_enc = np.float64(self.W_enc), np.float64(self.b_enc)
        if self.config.apply_b_dec_to_input:
            b_enc = b_enc - np.einsum("ld,ldh->h", np.float64(self.b_dec), W_enc)
        if self.norm_scale is not None:
            W_enc = W_enc * self.norm_scale[:, None, None]
        if self.norm_mean is not None:
            b_enc = b_enc - np.einsum("ld,ldh->h", np.float64(self.norm_mean), W_enc)
        W_dec, b_dec = np.float64(self.W_dec), np.float64(self.b_dec)
        if scale is not None:
            W_dec, b_dec = W_dec / scale[:, None], b_dec / scale[:, None]
        if mean is not None:
            b_dec = b_dec + mean
        return replace(
            self,
            config=replace(self.config, folded=True, apply_b_dec_to_input=False),
            W_enc=np.float32(W_enc),
            b_enc=np.float32(b_enc),
            W_dec=np.float32(W_dec),
            b_dec=np.float32(b_dec),
            norm_scale=None,
            norm_mean=None,
            out_scale=None,
            out_mean=None,
            feature_scale=self.feature_weights(),
        )

    def to_sae(self, site: str | Site) -> dict[str, Float32[np.ndarray, "..."]]:
        """The decoder at one written site under SAELens names: ``W_dec`` [H, d], ``b_dec`` [d].

        In raw units, for dashboards that show directions; no encoder, because the code needs every
        site. Raises CrosscoderError for a site that is not written, or a name that two models have.
        """
        sites = self.config.written_sites
        found = [i for i, one in enumerate(sites) if site in (one, one.name)]
        if len(found) != 1:
            what = "is not written" if not found else "is written in several models; pass the Site"
            raise CrosscoderError(f"site {site!r} {what}: {', '.join(s.name for s in sites)}")
        folded = self.fold()
        return {
            "W_dec": np.array(folded.W_dec[:, found[0]]),
            "b_dec": np.array(folded.b_dec[found[0]]),
        }

    def _candidates(self, h: Float32[np.ndarray, "n H"]) -> Float32[np.ndarray, "n H"]:
        codes = np.maximum(h, np.float32(0))
        if self.threshold is None or self.config.architecture == BATCHTOPK:
            return codes
        return np.where(h > self.threshold, codes, np.float32(0))

    def _kept_largest(
        self, codes: Float32[np.ndarray, "n H"], k: int
    ) -> Float32[np.ndarray, "n H"]:
        return np.where(largest(codes * self.feature_weights(), k), codes, np.float32(0))

    def _output_normalisation(
        self,
    ) -> tuple[Float32[np.ndarray, " L"] | None, Float32[np.ndarray, "L d"] | None]:
        if self.config.architecture == CLT:
            return self.out_scale, self.out_mean
        return self.norm_scale, self.norm_mean

    def _checked(self, acts: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "n L d"]:
        acts = np.asarray(acts)
        if acts.ndim != 3 or acts.shape[1:] != self.b_dec.shape:
            n_sites, d = self.b_dec.shape
            raise CrosscoderError(
                f"activations have shape {acts.shape}, not [n, L={n_sites}, d={d}] "
                f"for the sites {', '.join(site.name for site in self.config.sites)}"
            )
        return _as_float32("activations", acts)


def _weights(W_dec: Float32[np.ndarray, "H L d"], score: str) -> Float32[np.ndarray, " H"]:
    if score == "none":
        return np.ones(len(W_dec), np.float32)
    squares = np.square(W_dec, dtype=np.float64).sum(axis=2)
    weights = np.sqrt(squares).sum(axis=1) if score == "sum" else np.sqrt(squares.sum(axis=1))
    return weights.astype(np.float32)


def _as_float32(name: str, array: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    if array.dtype.kind not in "fiu":
        raise CrosscoderError(f"{name} have type {array.dtype}; give floating-point numbers")
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise CrosscoderError(f"{name} hold {array[where]} at {list(where)}; drop that sample")
    with np.errstate(over="ignore"):
        narrow = np.asarray(array, np.float32)
    if not np.isfinite(narrow).all():
        raise CrosscoderError(f"{name} hold numbers beyond float32; scale them down")
    return narrow


def _kept(name: str, value: object, shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    array = np.asarray(value)
    if array.shape != shape:
        raise CrosscoderError(f"{name} has shape {array.shape}, but the config says {shape}")
    if array.dtype.kind not in "fiu":
        raise CrosscoderError(f"{name} has type {array.dtype}; give float32")
    with np.errstate(over="ignore"):
        # Always a copy: what was checked must stay as it was.
        kept = np.array(array, dtype=np.float32, order="C", copy=True)
    if not np.isfinite(kept).all():
        raise CrosscoderError(f"{name} holds NaN, infinity or a number beyond float32")
    kept.setflags(write=False)
    return kept


def _kept_mask(name: str, value: object, shape: tuple[int, ...]) -> Bool[np.ndarray, "H L"]:
    mask = np.array(value, order="C", copy=True)
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise CrosscoderError(
            f"{name} is {mask.dtype} {mask.shape}, but it must be bool [H, L] = {list(shape)}"
        )
    mask.setflags(write=False)
    return mask
