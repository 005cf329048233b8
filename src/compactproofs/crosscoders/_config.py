"""What a crosscoder is: where it reads and writes, how many features, which selection."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

from ._errors import CrosscoderError

BATCHTOPK: Final = "batchtopk_crosscoder"
TOPK: Final = "topk_crosscoder"
JUMPRELU: Final = "jumprelu_crosscoder"
L1: Final = "l1_crosscoder"
CLT: Final = "clt"

ARCHITECTURES: Final = (BATCHTOPK, TOPK, JUMPRELU, L1, CLT)
"""Selections of the active features; ``clt`` is the cross-layer transcoder."""
SCORES: Final = ("sum", "concat", "none")
"""What weighs a code when the largest are selected; see `Crosscoder.feature_weights`."""
MASKS: Final = ("acausal", "weakly_causal", "clt", "custom")
"""Which sites a feature reads and writes; see `CrosscoderConfig.mask`."""
POSITIONS: Final = ("last", "all")
SCALED: Final = "sqrt_d_over_mean_norm"
CENTRED: Final = "centred_sqrt_d_over_mean_norm"
NORMALISATIONS: Final = ("none", SCALED, CENTRED)
"""``sqrt_d_over_mean_norm``: each site times sqrt(d) / E|a|; ``centred_...``: its mean taken off
first."""

# TransformerLens names of the sites of a block, after "blocks.N.".
_HOOKS: Final = {
    "hook_resid_pre": "resid_pre",
    "ln1.hook_normalized": "ln1",
    "hook_resid_mid": "resid_mid",
    "ln2.hook_normalized": "ln2",
    "hook_mlp_out": "mlp_out",
    "hook_resid_post": "resid_post",
}
ROLES: Final = tuple(_HOOKS.values())
"""What a site is in its block, in order of computation."""
_HOOK_NAME: Final = re.compile(r"blocks\.(0|[1-9][0-9]{0,5})\.(.+)", re.ASCII)


@final
@dataclass(frozen=True)
class Site:
    """One place of a network whose activations a crosscoder reads or writes.

    name: TransformerLens hook name (``blocks.0.hook_resid_mid``), or another framework's.
    role: one of `ROLES`; layer: block, from 0; model_index: which model, where several are read.

    Raises CrosscoderError for a value out of range, or a TransformerLens name that says another
    role or layer.
    """

    name: str
    role: str
    layer: int
    model_index: int = 0

    def __post_init__(self) -> None:
        """Refuse a site that contradicts itself."""
        if type(self.name) is not str or not self.name:
            raise CrosscoderError(f"site name {self.name!r} must be a non-empty string")
        if self.role not in ROLES:
            raise CrosscoderError(
                f"site {self.name!r}: role {self.role!r} is not one of {', '.join(ROLES)}"
            )
        for name in ("layer", "model_index"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise CrosscoderError(
                    f"site {self.name!r}: {name} = {value!r} must be an integer, at least 0"
                )
        said = _parsed(self.name)
        if said is not None and said != (self.role, self.layer):
            raise CrosscoderError(
                f"site {self.name!r} is role {said[0]!r} of layer {said[1]}, but role "
                f"{self.role!r} and layer {self.layer} were given; use site_of({self.name!r})"
            )


def site_of(name: str, model_index: int = 0) -> Site:
    """The site of a TransformerLens hook name, such as ``blocks.0.hook_resid_mid``.

    Raises CrosscoderError for any other name; `Site` takes those with an explicit role.
    """
    said = _parsed(name)
    if said is None:
        raise CrosscoderError(
            f"site name {name!r} is not blocks.N. followed by one of {', '.join(_HOOKS)}; "
            "Site(name, role, layer) takes other names"
        )
    return Site(name, said[0], said[1], model_index)


def _parsed(name: str) -> tuple[str, int] | None:
    match = _HOOK_NAME.fullmatch(name)
    if match is None or match[2] not in _HOOKS:
        return None
    return _HOOKS[match[2]], int(match[1])


@final
@dataclass(frozen=True)
class CrosscoderConfig:
    """Settings of one crosscoder; the weights are in `Crosscoder`.

    L is the number of sites, d their width, H the number of features. Sequences given as lists
    are kept as tuples. Raises CrosscoderError naming the field and its value.
    """

    architecture: str
    """One of `ARCHITECTURES`."""
    sites: tuple[Site, ...]
    """What the encoder reads (L of them), and the decoder writes unless `output_sites` is given."""
    d_in: tuple[int, ...]
    """Width of each site; all equal."""
    d_sae: int
    """Features, H."""
    k: int | None = None
    """Active features of a sample (``batchtopk_crosscoder``: on average); None: not limited."""
    output_sites: tuple[Site, ...] = ()
    """What the decoder of a ``clt`` writes (L of them); empty for every other architecture."""
    dtype: str = "float32"
    positions: str = "last"
    """Token positions of a sequence that are read: the ``last`` one, or ``all``."""
    score: str = "sum"
    """One of `SCORES`."""
    mask: str = "acausal"
    """``acausal``: every feature reads and writes every site. ``weakly_causal``: it reads one and
    writes that and later ones. ``clt``: likewise, with output sites. ``custom``: as the masks say.
    """
    apply_b_dec_to_input: bool = False
    """Whether the decoder's bias is subtracted before encoding (in normalised units)."""
    normalize_activations: str = "none"
    """One of `NORMALISATIONS`: what training applied to every site."""
    folded: bool = False
    """Whether that normalisation is in the weights, which then read and write raw units."""
    model_sha256: str = ""
    """Digest (hex) of the model, as `compactproofs.kernel.Model.sha256`; empty: unknown."""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Anything JSON: name and revision of the model, dataset, seed. Changes no number."""

    def __post_init__(self) -> None:
        """Refuse what no crosscoder can be."""
        for name in ("sites", "d_in", "output_sites"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise CrosscoderError(f"{name} = {value!r} must be a list or tuple")
            object.__setattr__(self, name, tuple(value))
        _require_choice("architecture", self.architecture, ARCHITECTURES)
        _require_choice("dtype", self.dtype, ("float32",))
        _require_choice("positions", self.positions, POSITIONS)
        _require_choice("score", self.score, SCORES)
        _require_choice("mask", self.mask, MASKS)
        _require_choice("normalize_activations", self.normalize_activations, NORMALISATIONS)
        for name in ("apply_b_dec_to_input", "folded"):
            if type(getattr(self, name)) is not bool:
                raise CrosscoderError(f"{name} = {getattr(self, name)!r} must be True or False")
        require_digest("model_sha256", self.model_sha256)
        require_sites("sites", self.sites)
        self._require_sizes()
        self._require_clt()
        object.__setattr__(self, "metadata", _plain_metadata(self.metadata))

    @property
    def d(self) -> int:
        """Width of every site."""
        return self.d_in[0]

    @property
    def written_sites(self) -> tuple[Site, ...]:
        """What the decoder writes: `output_sites`, or `sites` where there are none."""
        return self.output_sites or self.sites

    def _require_sizes(self) -> None:
        if len(self.d_in) != len(self.sites):
            raise CrosscoderError(
                f"d_in has {len(self.d_in)} widths for {len(self.sites)} sites; give one each"
            )
        for width in self.d_in:
            require_positive("d_in", width)
        if len(set(self.d_in)) != 1:
            raise CrosscoderError(f"d_in = {list(self.d_in)}: all sites must have one width")
        require_positive("d_sae", self.d_sae)
        if self.k is None:
            if self.architecture in (BATCHTOPK, TOPK):
                raise CrosscoderError(f"k is missing: {self.architecture} needs it")
            return
        require_positive("k", self.k)
        if self.k > self.d_sae:
            raise CrosscoderError(
                f"k = {self.k} is more than the {self.d_sae} features of the dictionary (d_sae)"
            )

    def _require_clt(self) -> None:
        is_clt = self.architecture == CLT
        if is_clt != (self.mask == "clt"):
            raise CrosscoderError(
                f"mask {self.mask!r} with architecture {self.architecture!r}: "
                "the mask 'clt' goes with the architecture 'clt' and with no other"
            )
        if is_clt != bool(self.output_sites):
            raise CrosscoderError(
                f"output_sites has {len(self.output_sites)} sites with architecture "
                f"{self.architecture!r}: a clt needs them, and nothing else has them"
            )
        if not is_clt:
            return
        require_sites("output_sites", self.output_sites)
        if len(self.output_sites) != len(self.sites):
            raise CrosscoderError(
                f"output_sites has {len(self.output_sites)} sites for {len(self.sites)} sites "
                "that are read; a clt has as many of both"
            )
        if self.apply_b_dec_to_input:
            raise CrosscoderError("apply_b_dec_to_input: a clt does not read what it writes")


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise CrosscoderError(f"{name} = {value!r} is not one of {', '.join(choices)}")


def require_positive(name: str, value: object) -> None:
    """Raise CrosscoderError, naming the value, unless it is an integer of at least 1."""
    if type(value) is not int or value < 1:
        raise CrosscoderError(f"{name} = {value!r} must be an integer, at least 1")


def require_digest(name: str, value: object) -> None:
    if type(value) is not str or re.fullmatch(r"([0-9a-f]{64})?", value) is None:
        raise CrosscoderError(
            f"{name} = {value!r} must be 64 lower-case hexadecimal digits, or empty if unknown"
        )


def require_sites(name: str, sites: tuple[Site, ...]) -> None:
    if not sites:
        raise CrosscoderError(f"{name} is empty; give at least one site")
    for site in sites:
        if not isinstance(site, Site):
            raise CrosscoderError(f"{name} holds {site!r}; use site_of(name) or Site(...)")
    places = [(site.model_index, site.name) for site in sites]
    for place in places:
        if places.count(place) > 1:
            raise CrosscoderError(f"{name} holds {place[1]!r} of model {place[0]} twice")


def _plain_metadata(metadata: object) -> dict[str, Any]:
    """A copy that JSON holds as it is, keys sorted, so that equal metadata give equal bytes."""
    if not isinstance(metadata, Mapping):
        raise CrosscoderError(f"metadata = {metadata!r} must be a mapping")
    plain: dict[str, Any] = {}
    for name, value in metadata.items():
        try:
            if type(name) is not str:
                raise TypeError
            text = json.dumps(value, allow_nan=False, sort_keys=True)
        except (TypeError, ValueError, RecursionError):
            raise CrosscoderError(
                f"metadata field {name!r} is {value!r}, which JSON cannot hold; convert or drop it"
            ) from None
        plain[name] = json.loads(text)
    return dict(sorted(plain.items()))
