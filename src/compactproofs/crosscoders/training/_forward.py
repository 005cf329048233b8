"""A transformer in torch: its activations at named sites, and what it answers if they are changed.

The function is that of `compactproofs.kernel.Transformer`, in float32 or float64: good enough to
train on, and never part of a proof. Notation: n sequences, k positions, d width, x outputs.
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, final

import torch
from jaxtyping import Float, Int

from ...kernel import Block, Transformer
from ...training._torch import usable_device
from .._errors import CrosscoderError

PATCHABLE: Final = ("hook_resid_pre", "hook_resid_mid", "hook_mlp_out", "hook_resid_post")
"""Sites of a block: before it, after attention, what the MLP adds, after it."""


class Patch(NamedTuple):
    """Replaces the activations of one site in a forward pass, from some position on.

    values: [n, p, d], of the last p positions. Of one position that is the one that is answered.
    """

    site: str
    values: Float[torch.Tensor, "n p d"]


class Passed(NamedTuple):
    """What a forward pass gives: logits at the last position, and the sites that were asked for."""

    logits: Float[torch.Tensor, "n x"]
    sites: dict[str, Float[torch.Tensor, "n k d"]]


@final
class TorchTransformer:
    """The weights of a transformer on a device."""

    def __init__(
        self,
        transformer: Transformer,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Copy the weights to `device`, rounded to `dtype`."""

        def tensor(array: object) -> torch.Tensor:
            return torch.tensor(array, dtype=dtype, device=device)

        self.source: Final = transformer
        self.W_E: Final = tensor(transformer.W_E)
        self.W_pos: Final = tensor(transformer.W_pos)
        self.W_U: Final = tensor(transformer.W_U)
        self.b_U: Final = tensor(transformer.b_U)
        self.blocks: Final = [
            {name: tensor(values) for name, values in vars(block).items()}
            for block in transformer.blocks
        ]
        self._divisor = float(transformer.score_divisor_squared) ** 0.5

    def __call__(
        self,
        tokens: Int[torch.Tensor, "n k"],
        wanted: Collection[str] = (),
        patch: Patch | None = None,
    ) -> Passed:
        """The logits, and the activations of the sites `wanted`, with `patch` put in their place.

        Cost: that of the model on n sequences; all positions of every block are computed.
        """
        seen: dict[str, Float[torch.Tensor, "n k d"]] = {}

        def visit(site: str, values: Float[torch.Tensor, "n k d"]) -> Float[torch.Tensor, "n k d"]:
            if patch is not None and patch.site == site:
                replaced = patch.values.shape[1]
                kept = values[:, : values.shape[1] - replaced]
                values = torch.cat([kept, patch.values.to(values.dtype)], dim=1)
            if site in wanted:
                seen[site] = values
            return values

        residual = self.W_E[tokens] + self.W_pos
        for layer, block in enumerate(self.blocks):
            prefix = f"blocks.{layer}."
            residual = visit(prefix + "hook_resid_pre", residual)
            residual = visit(prefix + "hook_resid_mid", residual + self._attention(block, residual))
            added = visit(prefix + "hook_mlp_out", _mlp(block, residual))
            residual = visit(prefix + "hook_resid_post", residual + added)
        return Passed(residual[:, -1] @ self.W_U + self.b_U, seen)

    def _attention(
        self, block: Mapping[str, torch.Tensor], residual: Float[torch.Tensor, "n k d"]
    ) -> Float[torch.Tensor, "n k d"]:
        heads = residual[:, None]
        query = heads @ block["W_Q"] + block["b_Q"][:, None]
        key = heads @ block["W_K"] + block["b_K"][:, None]
        value = heads @ block["W_V"] + block["b_V"][:, None]
        scores = query @ key.transpose(2, 3) / self._divisor
        if self.source.attention_dir == "causal":
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        mixed = torch.softmax(scores, dim=-1) @ value
        return (mixed @ block["W_O"]).sum(dim=1) + block["b_O"]


def _mlp(
    block: Mapping[str, torch.Tensor], mid: Float[torch.Tensor, "n k d"]
) -> Float[torch.Tensor, "n k d"]:
    hidden = torch.relu(mid @ block["W_in"] + block["b_in"])
    return hidden @ block["W_out"] + block["b_out"]


def device_of(name: str) -> torch.device:
    """The device of that name; CrosscoderError if torch cannot train on it."""
    try:
        return usable_device(name)
    except ValueError as error:
        raise CrosscoderError(str(error)) from None


def require_sites(transformer: Transformer, names: Collection[str]) -> None:
    """Raise CrosscoderError unless every name is a site of the model, as ``blocks.0.hook_...``."""
    layers = range(len(transformer.blocks))
    known = [f"blocks.{layer}.{site}" for layer in layers for site in PATCHABLE]
    for name in names:
        if name not in known:
            raise CrosscoderError(f"site {name!r} is not one of the model's: {', '.join(known)}")


def mlp_of(transformer: Transformer, layer: int) -> Block:
    """The block of that number, if it has an MLP; else CrosscoderError."""
    if not 0 <= layer < len(transformer.blocks):
        raise CrosscoderError(f"layer {layer} is not one of the {len(transformer.blocks)} blocks")
    block = transformer.blocks[layer]
    if block.d_mlp == 0:
        raise CrosscoderError(f"block {layer} has no MLP, so no features meet in its neurons")
    return block
