"""What to train and how. Nothing here imports torch.

Notation: n samples of a batch, L sites, d their width, H features, k active ones.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Final, final

from .._config import (
    ARCHITECTURES,
    BATCHTOPK,
    CENTRED,
    CLT,
    NORMALISATIONS,
    SCORES,
    TOPK,
)
from .._errors import CrosscoderError

INITIAL: Final = ("data", "uniform")
"""``data``: decoders are data points, of norm 1, the encoder their transpose. ``uniform``: decoders
from U(-1/sqrt(n), 1/sqrt(n)) with n = L d, the encoder n/H times their transpose."""
PENALTIES: Final = ("interaction", "slack")

# A batch's codes and contributions are dense: an absurd size should be a sentence, not a failed
# allocation.
_MOST_NUMBERS: Final = 1 << 34


@final
@dataclass(frozen=True)
class Revival:
    """What is done about features that no longer fire.

    dead_after: steps without firing after which a feature is dead.
    aux_weight: of the auxiliary loss, in which dead features reconstruct what the others leave;
    0 turns it off. aux_k: how many of them in a sample (None: d / 2, at most the number dead).
    resample_every: steps between moves of dead features onto the worst reconstructed samples;
    0 turns them off. resample_until: the share of the run after which they stop.
    """

    dead_after: int = 200
    aux_weight: float = 0.125
    aux_k: int | None = None
    resample_every: int = 200
    resample_until: float = 0.7

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _require_whole("dead_after", self.dead_after, 1)
        _require_real("aux_weight", self.aux_weight, 0.0)
        if self.aux_k is not None:
            _require_whole("aux_k", self.aux_k, 1)
        _require_whole("resample_every", self.resample_every, 0)
        _require_real("resample_until", self.resample_until, 0.0, 1.0)


@final
@dataclass(frozen=True)
class Penalty:
    """A price on features that meet in one neuron of an MLP, in the units of the bound.

    weight: lambda. kind ``interaction``: lambda times the mean over samples of
    ``sum_k |o_k| (sum_i |p_ki| - max_i |p_ki|)``, with ``p_ki = f_i d_i . w_k`` in raw units;
    ``slack``: of ``sum_i omega_i - max_i omega_i`` of theorem B, averaged over the rivals.
    site: name of the site that the MLP reads (None: the last ``resid_mid``).
    rows: how many samples of a batch are used (None: all).
    """

    weight: float
    kind: str = "interaction"
    site: str | None = None
    rows: int | None = 256

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _require_real("penalty weight", self.weight, 0.0)
        _require_choice("penalty kind", self.kind, PENALTIES)
        if self.rows is not None:
            _require_whole("penalty rows", self.rows, 1)


@final
@dataclass(frozen=True)
class CertificateLoss:
    """Trains on what is to be certified: the margin of theorem B of a labelled sample.

    Adds ``weight`` times the mean over samples of ``log(1 + sum over rivals of exp(-margin /
    scale))``, a softplus of minus the smallest margin.

    scale: in logits. start: the share of the run after which it is added, so that it works on
    features that mean something. rate: the learning rate is multiplied by it from then on.
    rows: how many samples of a batch are used (None: all). rivals: how many answers beside the
    label, the most dangerous ones (None: all).
    """

    weight: float
    scale: float = 8.0
    start: float = 0.3
    rate: float = 1.0
    rows: int | None = 256
    rivals: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _require_real("certificate weight", self.weight, 0.0)
        _require_real("certificate scale", self.scale, 1e-9)
        _require_real("certificate start", self.start, 0.0, 1.0)
        _require_real("certificate rate", self.rate, 1e-9)
        for name in ("rows", "rivals"):
            if getattr(self, name) is not None:
                _require_whole(f"certificate {name}", getattr(self, name), 1)


@final
@dataclass(frozen=True)
class CrosscoderSettings:
    """One training run; with one source of activations it fixes the result.

    Raises CrosscoderError, naming the field and its value, when a value is out of range.
    """

    features: int = 64
    """H."""
    k: int | None = 4
    """Active features of a sample; for ``batchtopk_crosscoder`` on average. None: not limited."""
    architecture: str = BATCHTOPK
    """One of `compactproofs.crosscoders.ARCHITECTURES`."""
    steps: int = 1500
    batch: int = 1024
    """Samples of a step; over all processes, if there are several."""
    learning_rate: float = 2e-3
    """Adam's."""
    warm_up: int = 100
    """Steps in which the learning rate grows from 0."""
    decay: float = 0.3
    """The last share of the run, in which the learning rate falls to 0."""
    clip: float = 10.0
    """Largest norm of the gradient."""
    seed: int = 0
    device: str = "cpu"
    """``cpu``, ``cuda`` or ``cuda:N``."""
    score: str = "sum"
    """One of `SCORES`: what weighs a code when the largest are selected."""
    mask: str = "acausal"
    """``acausal``, ``weakly_causal`` or (architecture ``clt``) ``clt``; see `CrosscoderConfig`.

    Of the last two each site is read by an equal share of the features."""
    reads: tuple[str, ...] = ()
    """Names of the sites that the encoder reads; empty: all. For instance the one before an MLP,
    while the decoder writes both sides of it. Only with the mask ``acausal``."""
    normalize: str = CENTRED
    """One of `NORMALISATIONS`; always folded into the weights that are returned."""
    site_weights: tuple[float, ...] = ()
    """How much the squared error of each site counts; empty: 1 each."""
    initial: str = "data"
    """One of `INITIAL`."""
    unit_decoder: bool = True
    """Whether each feature's directions together are scaled back to norm 1 after every step."""
    sparsity: float = 0.0
    """``l1_crosscoder``: lambda; ``jumprelu_crosscoder``: lambda_S, growing over the whole run."""
    pre_activation: float = 3e-6
    """``jumprelu_crosscoder``: lambda_P, on pre-activations below the threshold."""
    revival: Revival = field(default_factory=Revival)
    penalty: Penalty | None = None
    certificate: CertificateLoss | None = None
    balance: float = 0.0
    """The share of samples that are drawn with every label equally likely, so that rare answers are
    served too; the others are drawn uniformly. Needs a source that knows labels."""
    held_out: float | None = None
    """Share of the rows, the last ones, that are kept from training; the threshold of
    ``batchtopk_crosscoder`` and the metrics come from them. None: 0.05, or 0 where the rows are all
    inputs of a task. With 0, all rows serve for both."""
    threshold_ema: float | None = None
    """``batchtopk_crosscoder``: None: the threshold is estimated at the end, on held-out rows, so
    that k features are active on average. Else it is the moving average of the smallest kept score,
    with this factor (0.999 is usual)."""
    checkpoint_every: int = 1000
    """Steps between checkpoints, where there is a directory for them."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        object.__setattr__(self, "reads", tuple(self.reads))
        object.__setattr__(self, "site_weights", tuple(map(float, self.site_weights)))
        for name in ("features", "steps", "batch", "checkpoint_every"):
            _require_whole(name, getattr(self, name), 1)
        for name in ("warm_up", "seed"):
            _require_whole(name, getattr(self, name), 0)
        for name in ("learning_rate", "clip"):
            _require_real(name, getattr(self, name), 1e-12)
        for name in ("sparsity", "pre_activation"):
            _require_real(name, getattr(self, name), 0.0)
        _require_real("decay", self.decay, 0.0, 1.0)
        _require_choice("architecture", self.architecture, ARCHITECTURES)
        _require_choice("score", self.score, SCORES)
        _require_choice("mask", self.mask, ("acausal", "weakly_causal", "clt"))
        _require_choice("normalize", self.normalize, NORMALISATIONS)
        _require_choice("initial", self.initial, INITIAL)
        for weight in self.site_weights:
            _require_real("site_weights", weight, 1e-12)
        _require_real("balance", self.balance, 0.0, 1.0)
        if self.held_out is not None:
            _require_real("held_out", self.held_out, 0.0, 0.5)
        if self.threshold_ema is not None:
            _require_real("threshold_ema", self.threshold_ema, 0.0, 1.0)
        self._require_consistent()

    def _require_consistent(self) -> None:
        if self.k is not None:
            _require_whole("k", self.k, 1)
            if self.k > self.features:
                raise CrosscoderError(f"k = {self.k} is more than features = {self.features}")
        elif self.architecture in (BATCHTOPK, TOPK):
            raise CrosscoderError(f"k is missing: {self.architecture} needs it")
        if (self.architecture == CLT) != (self.mask == "clt"):
            raise CrosscoderError(
                f"mask {self.mask!r} with architecture {self.architecture!r}: the mask 'clt' goes "
                "with the architecture 'clt' and with no other"
            )
        if self.reads and self.mask != "acausal":
            raise CrosscoderError(f"reads = {self.reads} goes only with the mask 'acausal'")
        if self.batch * self.features > _MOST_NUMBERS:
            raise CrosscoderError(
                f"batch = {self.batch} times features = {self.features} is too large; lower one"
            )

    def stated(self) -> dict[str, Any]:
        """All fields as plain JSON, for checkpoints and metadata."""
        fields = asdict(self)
        fields["reads"], fields["site_weights"] = list(self.reads), list(self.site_weights)
        return fields


@final
@dataclass(frozen=True)
class CrosscoderProgress:
    """Where a run stands: steps done, steps in all, and the latest batch's loss and its parts.

    loss: what is minimised. fvu: squared error of the batch by its variance, sites as weighted.
    l0: mean number of active features. dead: features that count as dead.
    penalty, certificate: those terms without their weights; 0 where they are off.
    """

    step: int
    steps: int
    loss: float
    fvu: float
    l0: float
    dead: int
    penalty: float
    certificate: float


def _require_whole(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise CrosscoderError(f"{name} = {value!r} must be an integer, at least {least}")


def _require_real(name: str, value: object, least: float, most: float = math.inf) -> None:
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    if not (math.isfinite(number) and least <= number <= most):
        limits = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise CrosscoderError(f"{name} = {value!r} must be a number, {limits}")


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise CrosscoderError(f"{name} = {value!r} is not one of {', '.join(choices)}")
