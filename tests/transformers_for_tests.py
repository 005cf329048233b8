"""Transformers to attack theorems with, and what they compute, written down independently."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from compactproofs.kernel import Block, Transformer
from compactproofs.models import save_model
from random_models import float32


def random_transformer(
    rng: np.random.Generator,
    *,
    k: int,
    v: int,
    layers: int = 1,
    heads: int = 1,
    mlp: int = 6,
    d: int = 5,
    h: int = 3,
    outputs: int | None = None,
    scale: float = 1.0,
    weights: float = 1.0,
    direction: str = "causal",
) -> Transformer:
    """Gaussian weights and biases that float32 can hold.

    scale: standard deviation of the scores of the first layer, about; weights: of all logits.
    """
    x = v if outputs is None else outputs

    def normal(*shape: int) -> np.ndarray:
        return float32(rng.normal(size=shape) / shape[-2] ** 0.5)

    def bias(*shape: int) -> np.ndarray:
        return float32(0.5 * rng.normal(size=shape))

    blocks = tuple(
        Block(
            W_Q=float32(scale**0.5 * normal(heads, d, h)),
            W_K=float32(scale**0.5 * normal(heads, d, h)),
            W_V=normal(heads, d, h),
            W_O=normal(heads, h, d),
            b_Q=bias(heads, h),
            b_K=bias(heads, h),
            b_V=bias(heads, h),
            b_O=bias(d),
            W_in=normal(d, mlp),
            b_in=bias(mlp),
            W_out=normal(mlp, d) if mlp else np.zeros((0, d)),
            b_out=bias(d) if mlp else np.zeros(d),
        )
        for _ in range(layers)
    )
    return Transformer(
        score_divisor_squared=Fraction(h),
        W_E=float32(rng.normal(size=(v, d))),
        W_pos=float32(0.5 * rng.normal(size=(k, d))),
        blocks=blocks,
        W_U=float32(weights * normal(d, x)),
        b_U=float32(weights * bias(x)),
        attention_dir=direction,
    )


def float_forward(net: Transformer, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Every residual ``[n, k, d]`` by its TransformerLens name, and ``logits`` ``[n, x]``.

    One sequence, one position, one head at a time, in float64: nothing shared with the kernel.
    """
    found: dict[str, list[np.ndarray]] = {}
    answers = []
    for row in tokens:
        stream = [net.W_E[t] + net.W_pos[i] for i, t in enumerate(row)]
        for number, block in enumerate(net.blocks):
            found.setdefault(f"blocks.{number}.hook_resid_pre", []).append(np.array(stream))
            mids = []
            for i, r in enumerate(stream):
                out = r + block.b_O
                for head in range(block.n_heads):
                    query = r @ block.W_Q[head] + block.b_Q[head]
                    reach = len(row) if net.attention_dir == "bidirectional" else i + 1
                    score = np.array(
                        [
                            query
                            @ (stream[j] @ block.W_K[head] + block.b_K[head])
                            / float(net.score_divisor_squared) ** 0.5
                            for j in range(reach)
                        ]
                    )
                    weight = np.exp(score - score.max())
                    weight /= weight.sum()
                    mixed = sum(
                        weight[j] * (stream[j] @ block.W_V[head] + block.b_V[head])
                        for j in range(reach)
                    )
                    out = out + mixed @ block.W_O[head]
                mids.append(out)
            found.setdefault(f"blocks.{number}.hook_resid_mid", []).append(np.array(mids))
            stream = [
                m + np.maximum(m @ block.W_in + block.b_in, 0) @ block.W_out + block.b_out
                for m in mids
            ]
            found.setdefault(f"blocks.{number}.hook_resid_post", []).append(np.array(stream))
        answers.append(stream[-1] @ net.W_U + net.b_U)
    named = {name: np.array(rows) for name, rows in found.items()}
    return named | {"logits": np.array(answers)}


def float_logits(net: Transformer, tokens: np.ndarray) -> np.ndarray:
    """``[n, x]``; see ``float_forward``."""
    return float_forward(net, tokens)["logits"]


def write_transformer(path: Path, net: Transformer) -> Path:
    """A model directory under TransformerLens 3 names."""
    first = net.blocks[0]
    tensors = {"embed.W_E": net.W_E, "pos_embed.W_pos": net.W_pos}
    for number, block in enumerate(net.blocks):
        for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"):
            tensors[f"blocks.{number}.attn.{name}"] = getattr(block, name)
        for name in ("W_in", "b_in", "W_out", "b_out") if first.d_mlp else ():
            tensors[f"blocks.{number}.mlp.{name}"] = getattr(block, name)
    tensors |= {"unembed.W_U": net.W_U, "unembed.b_U": net.b_U}
    config = {
        "n_layers": len(net.blocks),
        "n_heads": first.n_heads,
        "d_model": net.d_model,
        "d_head": first.W_Q.shape[2],
        "d_mlp": first.d_mlp or None,
        "d_vocab": net.d_vocab,
        "d_vocab_out": net.d_vocab_out,
        "n_ctx": net.n_ctx,
        "act_fn": "relu" if first.d_mlp else None,
        "attn_only": not first.d_mlp,
        "normalization_type": None,
        "attention_dir": net.attention_dir,
        "positional_embedding_type": "standard",
    }
    return save_model(path, config, tensors)
