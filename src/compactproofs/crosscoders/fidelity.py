"""What is left of an MLP when its neurons see some of the features alone; estimates, not proofs."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, final

import numpy as np
from jaxtyping import Float64, Int

from ..kernel import Tick, Transformer, no_tick
from ._activations import _attention, _mlp, require_own_crosscoder, residuals, unembedded
from ._crosscoder import Crosscoder
from .interactions import NeuronView, neuron_view

_NUMBERS: Final = 1 << 20


class Scheme(Enum):
    """What each neuron sees; everything outside the MLP stays as it is in the model."""

    MODEL = "the model"
    ALL = "all features"
    STRONGEST = "only the strongest feature"
    OTHERS = "all but the strongest feature"
    NONE = "no feature, biases alone"


@final
@dataclass(frozen=True)
class Fidelity:
    """Of one scheme, over a data set."""

    scheme: Scheme
    accuracy: float
    """Share of inputs whose label has strictly the largest logit."""
    loss: float
    """Mean cross-entropy of the label, nats."""
    fidelity: float
    """``1 - (loss - loss of the model) / (loss of no feature - loss of the model)``; NaN if the
    features make no difference to the loss."""


def fidelity(
    net: Transformer,
    crosscoder: Crosscoder,
    tokens: Int[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
    layer: int,
    *,
    active: int | None = None,
    tick: Tick = no_tick,
) -> tuple[Fidelity, ...]:
    """Accuracy and loss under every `Scheme` at the MLP of ``layer``.

    The strongest feature of a neuron is the one with the largest ``|p|`` for this input; see
    `interactions`. The MLP is replaced at the positions that the crosscoder encodes: at the last
    one, or at all. active: encode with so many features at most; None: as trained.

    Raises CrosscoderError for a crosscoder of another model or without ``hook_resid_mid`` of the
    layer. Cost: a forward pass of each input, O(H m) and O(K m) for each encoded position.
    """
    require_own_crosscoder(crosscoder.config, net)
    view = neuron_view(net, crosscoder, layer)
    right, loss = dict.fromkeys(Scheme, 0), dict.fromkeys(Scheme, 0.0)
    rows = max(1, _NUMBERS // (net.n_ctx * max(view.gain.shape)))
    for start in range(0, len(tokens), rows):
        own, wanted = tokens[start : start + rows], labels[start : start + rows]
        for scheme, logits in _answers(net, crosscoder, view, own, layer, active):
            of_label = logits[np.arange(len(own)), wanted]
            rivals = logits.copy()
            rivals[np.arange(len(own)), wanted] = -np.inf
            right[scheme] += int((of_label > rivals.max(axis=1)).sum())
            top = logits.max(axis=1)
            spread = np.log(np.exp(logits - top[:, None]).sum(axis=1))
            loss[scheme] += float((spread + top - of_label).sum())
        tick(start + len(own), len(tokens))
    mean = {scheme: total / len(tokens) for scheme, total in loss.items()}
    lost = mean[Scheme.NONE] - mean[Scheme.MODEL]
    return tuple(
        Fidelity(
            scheme,
            right[scheme] / len(tokens),
            mean[scheme],
            1 - (mean[scheme] - mean[Scheme.MODEL]) / lost if lost else np.nan,
        )
        for scheme in Scheme
    )


def _answers(
    net: Transformer,
    crosscoder: Crosscoder,
    view: NeuronView,
    tokens: Int[np.ndarray, "n k"],
    layer: int,
    active: int | None,
) -> Iterator[tuple[Scheme, Float64[np.ndarray, "n x"]]]:
    """The logits of some sequences under each scheme."""
    positions, names = crosscoder.config.positions, [s.name for s in crosscoder.config.sites]
    acts = residuals(net, tokens, names, positions)
    codes = crosscoder.encode(acts) if active is None else crosscoder.encode_topk(acts, active)
    codes = codes.astype(np.float64)
    block, mid = net.blocks[layer], acts[:, names.index(f"blocks.{layer}.hook_resid_mid")]
    everything = view.beta + codes @ view.gain
    strongest = _strongest(codes, view)
    seen = {
        Scheme.MODEL: mid @ block.W_in + block.b_in,
        Scheme.ALL: everything,
        Scheme.STRONGEST: view.beta + strongest,
        Scheme.OTHERS: everything - strongest,
        Scheme.NONE: np.broadcast_to(view.beta, everything.shape),
    }
    for scheme, z in seen.items():
        post = mid + np.maximum(z, 0) @ block.W_out + block.b_out
        yield scheme, _rest_of_the_model(net, tokens, layer, post)


def _strongest(
    codes: Float64[np.ndarray, "rows H"], view: NeuronView
) -> Float64[np.ndarray, "rows m"]:
    """The pull of largest size at each neuron, the lower feature among equals."""
    found = np.zeros((len(codes), len(view.beta)))
    slots = int((codes > 0).sum(axis=1).max(initial=0))
    # The active features first, in their own order.
    order = np.argsort(codes <= 0, axis=1, kind="stable")[:, :slots]
    for feature in order.T:
        pull = codes[np.arange(len(codes)), feature, None] * view.gain[feature]
        found = np.where(np.abs(pull) > np.abs(found), pull, found)
    return found


def _rest_of_the_model(
    net: Transformer,
    tokens: Int[np.ndarray, "n k"],
    layer: int,
    post: Float64[np.ndarray, "rows d"],
) -> Float64[np.ndarray, "n x"]:
    """The logits if the residual after ``layer`` is ``post``, at the last or all positions."""
    several = len(post) // len(tokens)
    if layer < len(net.blocks) - 1:
        stream = residuals(net, tokens, [f"blocks.{layer}.hook_resid_post"], "all")
        stream = stream.reshape(len(tokens), net.n_ctx, net.d_model)
        stream[:, net.n_ctx - several :] = post.reshape(len(tokens), several, net.d_model)
        for block in net.blocks[layer + 1 :]:
            stream = _mlp(block, stream + _attention(net, block, stream))
        return unembedded(net, stream[:, -1])
    return unembedded(net, post.reshape(len(tokens), several, net.d_model)[:, -1])
