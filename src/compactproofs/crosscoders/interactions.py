"""Which features meet at which neurons, and how much: estimates over a data set, not proofs.

The MLP of a layer reads ``u = bias + sum_i f_i d_i``. At neuron ``n`` the pull of feature ``i`` is
``p_i = f_i (d_i . W_in[:, n])`` and ``beta = bias . W_in[:, n] + b_in[n]``; ``s`` is ReLU. Every
measure adds up over all neurons, each weighted by ``|W_out[n]|``, so that its unit is that of the
residual stream. What is proved of interactions is in `compactproofs.kernel.independence`.

Notation: N inputs, H features, K active ones of an input, m neurons.
Source of the first measure and of the dominant share: arXiv 2606.09940.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ..kernel import Tick, Transformer, no_tick
from ._crosscoder import Crosscoder
from ._encoded import EncodedDataset
from ._errors import CrosscoderError

_NUMBERS: Final = 1 << 20  # of an array of n K m numbers


class Measure(Enum):
    """What an input adds to a pair of features at a neuron."""

    PUBLISHED = "published"
    """``|p_j|`` to (i, j), where i is the strongest feature there: the published metric."""
    SMALLER = "smaller"
    """``min(|p_i|, |p_j|)``, which no second difference exceeds, beside whatever else is active."""
    SECOND_DIFFERENCE = "second-difference"
    """``|s(beta+p_i+p_j) - s(beta+p_i) - s(beta+p_j) + s(beta)|``: the two by themselves."""
    IN_CONTEXT = "in-context"
    """The second difference beside all other features of the input."""


@final
@dataclass(frozen=True, eq=False)
class NeuronView:
    """An MLP as features see it, in float64; see the top of this file."""

    gain: Float64[np.ndarray, "H m"]
    """``d_i . W_in[:, n]``."""
    beta: Float64[np.ndarray, " m"]
    weight: Float64[np.ndarray, " m"]
    """``|W_out[n]|``."""


@final
@dataclass(frozen=True, eq=False)
class Interactions:
    """Sums over a data set."""

    measure: Measure
    inputs: int
    matrix: Float64[np.ndarray, "H H"]
    """Mean over inputs; symmetric but for ``published``, where the row is the strongest."""
    together: Int64[np.ndarray, "H H"]
    """Inputs in which both are active; on the diagonal, in which the feature is."""
    share_of_neuron: Float64[np.ndarray, " m"]
    """Mean over inputs of ``max |p| / sum |p|``; NaN where no feature ever pulls."""
    dominant_share: float
    """The same over inputs and neurons: the published number. NaN if nothing ever pulls."""
    dominant_mass: float
    """``sum w max |p| / sum w sum |p|``: the share in the unit of the residual stream."""

    @property
    def of_pairs(self) -> Float64[np.ndarray, "H H"]:
        """Symmetric, zero on the diagonal: what the two have to do with each other."""
        return self.matrix + self.matrix.T if self.measure is Measure.PUBLISHED else self.matrix

    def ranked(self, most: int | None = None) -> tuple["Pair", ...]:
        """The pairs that interact, the strongest first; ``most`` of them at most."""
        first, second = np.triu_indices(len(self.matrix), 1)
        value = self.of_pairs[first, second]
        order = np.argsort(-value, kind="stable")[: np.count_nonzero(value)][:most]
        return tuple(
            Pair(
                int(i), int(j), float(value[n]), int(self.together[i, j]),
                float(value[n]) * self.inputs / int(self.together[i, j]),
            )
            for n, i, j in zip(order, first[order], second[order], strict=True)
        )  # fmt: skip


class Pair(NamedTuple):
    """Two features that interact."""

    first: int
    second: int
    mean: float
    """Interaction of an input, on average over all inputs."""
    together: int
    """Inputs in which both are active."""
    when_together: float
    """Interaction of an input in which both are active, on average."""


def neuron_view(net: Transformer, crosscoder: Crosscoder, layer: int) -> NeuronView:
    """The MLP of a layer as the features of a crosscoder see it. Cost: H d m multiply-adds.

    Raises CrosscoderError for a layer that has no MLP, or whose ``hook_resid_mid`` the crosscoder
    does not write.
    """
    if not 0 <= layer < len(net.blocks) or not net.blocks[layer].d_mlp:
        with_neurons = [n for n, block in enumerate(net.blocks) if block.d_mlp]
        raise CrosscoderError(f"layer {layer} has no MLP; layers with one: {with_neurons}")
    directions = crosscoder.to_sae(f"blocks.{layer}.hook_resid_mid")
    block = net.blocks[layer]
    return NeuronView(
        gain=directions["W_dec"].astype(np.float64) @ block.W_in,
        beta=directions["b_dec"].astype(np.float64) @ block.W_in + block.b_in,
        weight=np.linalg.norm(block.W_out, axis=1),
    )


def interactions(
    view: NeuronView,
    dataset: EncodedDataset,
    measure: Measure = Measure.SECOND_DIFFERENCE,
    tick: Tick = no_tick,
) -> Interactions:
    """Measure how the features of a data set interact at the neurons of one layer.

    Inputs are taken in blocks, so memory does not grow with their number.
    Cost: O(N K^2 m); memory O(H^2). Raises CrosscoderError for a data set of another H.
    """
    n_features, m = view.gain.shape
    if dataset.d_sae != n_features:
        raise CrosscoderError(
            f"the data set is in {dataset.d_sae} features, but the crosscoder has {n_features}"
        )
    total = np.zeros((n_features, n_features))
    together = np.zeros((n_features, n_features), dtype=np.int64)
    shares, pulled = np.zeros(m), np.zeros(m, dtype=np.int64)
    strongest_mass = mass = 0.0
    done = 0
    for feature, active, pull in _blocks(view, dataset):
        pairs = (feature[:, :, None], feature[:, None, :])
        # An indexed += would keep one of several writes to the same pair.
        np.add.at(total, pairs, _of_block(measure, view, pull))
        np.add.at(together, pairs, active[:, :, None] & active[:, None, :])
        size = np.abs(pull)
        strongest, everything = size.max(axis=1), size.sum(axis=1)
        some = everything > 0
        shares += np.divide(strongest, everything, out=np.zeros_like(strongest), where=some).sum(0)
        pulled += some.sum(axis=0)
        strongest_mass += float(strongest.sum(axis=0) @ view.weight)
        mass += float(everything.sum(axis=0) @ view.weight)
        done += len(feature)
        tick(done, len(dataset))
    ever = int(pulled.sum())
    return Interactions(
        measure=measure,
        inputs=len(dataset),
        matrix=total / max(1, len(dataset)),
        together=together,
        share_of_neuron=np.where(pulled > 0, shares / np.maximum(pulled, 1), np.nan),
        dominant_share=float(shares.sum()) / ever if ever else np.nan,
        dominant_mass=strongest_mass / mass if mass else np.nan,
    )


def _blocks(
    view: NeuronView, dataset: EncodedDataset
) -> Iterator[
    tuple[Int64[np.ndarray, "n K"], Bool[np.ndarray, "n K"], Float64[np.ndarray, "n K m"]]
]:
    """Features, whether they are there, and pulls of the inputs in turn; padded with pulls of 0."""
    counts = dataset.active()
    slots = int(counts.max(initial=1))
    at_once = max(1, _NUMBERS // (slots * view.gain.shape[1]))
    for start in range(0, len(dataset), at_once):
        own = counts[start : start + at_once]
        active = np.arange(slots) < own[:, None]
        begin, end = dataset.indptr[start], dataset.indptr[start + len(own)]
        feature, value = np.zeros(active.shape, dtype=np.int64), np.zeros(active.shape)
        feature[active], value[active] = dataset.indices[begin:end], dataset.values[begin:end]
        yield feature, active, value[:, :, None] * view.gain[feature]


def _of_block(
    measure: Measure, view: NeuronView, pull: Float64[np.ndarray, "n K m"]
) -> Float64[np.ndarray, "n K K"]:
    """What each input adds to each two of its features; 0 for a feature and itself."""
    slots = pull.shape[1]
    size = np.abs(pull)
    if measure is Measure.PUBLISHED:
        leads = np.argmax(size, axis=1)[:, None] == np.arange(slots)[:, None]
        added = leads.astype(np.float64) @ (size * view.weight).transpose(0, 2, 1)
        added[:, np.arange(slots), np.arange(slots)] = 0.0
        return added
    added = np.zeros((len(pull), slots, slots))
    whole = view.beta + pull.sum(axis=1)
    for j in range(slots):
        for i in range(j):
            found = np.minimum(size[:, i], size[:, j])
            if measure is not Measure.SMALLER:
                # The bend of ReLU between the lowest and the highest of four points.
                below = np.minimum(pull[:, i], 0) + np.minimum(pull[:, j], 0)
                above = np.maximum(pull[:, i], 0) + np.maximum(pull[:, j], 0)
                alone = measure is Measure.SECOND_DIFFERENCE
                low, high = (
                    (view.beta + below, view.beta + above)
                    if alone
                    else (whole - above, whole - below)
                )
                found = np.maximum(np.minimum(found, np.minimum(-low, high)), 0.0)
            added[:, i, j] = added[:, j, i] = found @ view.weight
    return added
