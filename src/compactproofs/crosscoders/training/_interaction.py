"""Features that meet in the neurons of an MLP: what that costs a proof, differentiably.

Notation follows theorem B, row vectors in raw units: u the activations that the MLP reads, its
reconstruction ``b + sum_i f_i d_i``, at distance rho; neuron k reads the direction ``w_k``, column
k of W_in, and writes ``o_k``, row k of W_out; ``beta_k = b . w_k + b_in,k`` and
``p_ki = f_i d_i . w_k``. For a label y and a rival y' let ``c`` be the difference of their columns
of W_U, and ``a_k = c . o_k``.

Shapes: n samples, r features of each (all active ones, then zeros), H features, d width, m neurons,
x answers. Nothing here is a proof: it is float arithmetic.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int64

from ...kernel import Transformer
from ._forward import mlp_of


@final
@dataclass(frozen=True)
class Readout:
    """An MLP in raw units and, if its output is what is answered from, the unembedding."""

    W_in: Float[torch.Tensor, "d m"]
    b_in: Float[torch.Tensor, " m"]
    W_out: Float[torch.Tensor, "m d"]
    b_out: Float[torch.Tensor, " d"]
    W_U: Float[torch.Tensor, "d x"]
    """No answers (x = 0) for an MLP that others follow: it has a penalty, but no certificate."""
    b_U: Float[torch.Tensor, " x"]

    @classmethod
    def of(
        cls,
        transformer: Transformer,
        layer: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "Readout":
        """The MLP of a block (None: the last), with the unembedding if it is the last."""
        last = len(transformer.blocks) - 1
        layer = last if layer is None else layer
        block = mlp_of(transformer, layer)
        answers = transformer.d_vocab_out if layer == last else 0
        arrays = (
            block.W_in,
            block.b_in,
            block.W_out,
            block.b_out,
            transformer.W_U[:, :answers],
            transformer.b_U[:answers],
        )
        return cls(*(torch.tensor(one, dtype=dtype, device=device) for one in arrays))

    @property
    def answers(self) -> int:
        """x."""
        return self.W_U.shape[1]

    @cached_property
    def effect(self) -> Float[torch.Tensor, "m x"]:
        """Of each neuron on each logit, ``o_k . W_U``."""
        return self.W_out @ self.W_U

    @cached_property
    def gain(self) -> Float[torch.Tensor, "x x"]:
        """R of label y (rows) and rival y': what a unit of rho can cost, no neuron being decided.

        ``|c + sum_k a_k w_k / 2| + min(sum_k |a_k| |w_k|, |W_in|_2 |a|) / 2``. Cost: O(x^2 d m).
        """
        c = self.W_U.T[:, None] - self.W_U.T[None]
        a = self.effect.T[:, None] - self.effect.T[None]
        straight = (c + a @ self.W_in.T / 2).norm(dim=2)
        spectral = torch.linalg.matrix_norm(self.W_in, 2)
        spread = torch.minimum(a.abs() @ self.W_in.norm(dim=0), spectral * a.norm(dim=2))
        return straight + spread / 2


class Sparse(NamedTuple):
    """Codes of a batch, the active features alone."""

    features: Int64[torch.Tensor, "n r"]
    values: Float[torch.Tensor, "n r"]


class Decoded(NamedTuple):
    """The decoder at the site that the MLP reads, in raw units."""

    directions: Float[torch.Tensor, "H d"]
    base: Float[torch.Tensor, " d"]


class Certified(NamedTuple):
    """Theorem B of a batch, for every answer; at the label itself the margins are infinite."""

    margin: Float[torch.Tensor, "n x"]
    """The certified one: ``sums - slack - R rho``."""
    sums: Float[torch.Tensor, "n x"]
    """Of the responses of single features: what would be if they did not interact."""
    slack: Float[torch.Tensor, "n x"]
    """``sum_i omega_i - max_i omega_i``."""
    rho: Float[torch.Tensor, " n"]


def sparse(codes: Float[torch.Tensor, "n H"]) -> Sparse:
    """The active features of each sample, padded with zeros to as many as any sample has."""
    most = max(1, int((codes > 0).sum(dim=1).max()))
    values, features = codes.topk(most, dim=1)
    return Sparse(features, values)


def contributions(
    readout: Readout, decoded: Decoded, codes: Sparse
) -> Float[torch.Tensor, "n r m"]:
    """p_ki of the active features. Cost: O(H d m + n r m)."""
    return codes.values[:, :, None] * (decoded.directions @ readout.W_in)[codes.features]


def interaction_penalty(
    readout: Readout, p: Float[torch.Tensor, "n r m"]
) -> Float[torch.Tensor, " n"]:
    """``sum_k |o_k| (sum_i |p_ki| - max_i |p_ki|)`` of each sample."""
    size = p.abs()
    return (size.sum(dim=1) - size.amax(dim=1)) @ readout.W_out.norm(dim=1)


def dominant_share(p: Float[torch.Tensor, "n r m"]) -> Float[torch.Tensor, ""]:
    """Mean over samples and neurons of ``max_i |p_ki| / sum_i |p_ki|``, where something arrives."""
    size = p.abs()
    total = size.sum(dim=1)
    return (size.amax(dim=1)[total > 0] / total[total > 0]).mean()


def certified_margins(
    readout: Readout,
    decoded: Decoded,
    codes: Sparse,
    u: Float[torch.Tensor, "n d"],
    label: Int64[torch.Tensor, " n"],
    rivals: int | None = None,
) -> Certified:
    """Theorem B of every sample against every answer; differentiable in decoder and codes.

    rivals: only so many answers beside the label, those with the smallest `sums`; the margins of
    the others are infinite. Cost: O(H d m + n r m x).
    """
    p = contributions(readout, decoded, codes)
    beta = decoded.base @ readout.W_in + readout.b_in
    off = torch.relu(beta)
    h = torch.relu(beta + p) - off
    decode = (codes.values[:, :, None] * decoded.directions[codes.features]).sum(dim=1)
    decode = decode + decoded.base
    neurons = off + h.sum(dim=1)
    logits = neurons @ readout.effect + (decode + readout.b_out) @ readout.W_U + readout.b_U
    sums = logits.gather(1, label[:, None]) - logits
    rho = _norm(u - decode)
    n, x = sums.shape
    rival = torch.arange(x, device=label.device).expand(n, x)
    if rivals is not None and rivals < x - 1:
        near = sums.detach().scatter(1, label[:, None], torch.inf)
        rival = near.topk(rivals, dim=1, largest=False).indices
    a = readout.effect.T[label][:, None] - readout.effect.T[rival]
    # omega_i = sum_k [a]+ (h - min(0, p)) + [-a]+ (max(0, p) - h), as one product.
    up, down = h + torch.relu(-p), torch.relu(p) - h
    weight = torch.cat([torch.relu(a), torch.relu(-a)], dim=2)
    omega = torch.cat([up, down], dim=2) @ weight.transpose(1, 2)
    slack = omega.sum(dim=1) - omega.amax(dim=1)
    chosen = sums.gather(1, rival)
    margin = chosen - slack - readout.gain[label[:, None], rival] * rho[:, None]
    # Where the label is its own rival, or a rival is left out, nothing can be lost.
    whole = margin.new_full((n, x), torch.inf)
    is_label = rival == label[:, None]
    return Certified(
        margin=whole.scatter(1, rival, margin.masked_fill(is_label, torch.inf)),
        sums=whole.scatter(1, rival, chosen.masked_fill(is_label, torch.inf)),
        slack=slack.new_zeros((n, x)).scatter(1, rival, slack.masked_fill(is_label, 0)),
        rho=rho,
    )


def certificate_loss(certified: Certified, scale: float) -> Float[torch.Tensor, " n"]:
    """``log(1 + sum over rivals of exp(-margin / scale))`` of each sample; scale in logits.

    That is softplus of minus the (smoothly) smallest margin: the cross-entropy of logits that are
    worse than the model's by all that the proof cannot exclude.
    """
    threats = -certified.margin / scale
    return torch.logsumexp(torch.cat([torch.zeros_like(threats[:, :1]), threats], dim=1), dim=1)


def _norm(e: Float[torch.Tensor, "n d"]) -> Float[torch.Tensor, " n"]:
    # The gradient of a norm at 0 is not a number.
    squared = e.square().sum(dim=1)
    return torch.sqrt(torch.clamp(squared, min=torch.finfo(e.dtype).tiny))
