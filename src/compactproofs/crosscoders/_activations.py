"""Activations of a model at named sites, in float64 numpy: what a crosscoder reads and claims.

Nothing here is trusted: proofs run the model again, in enclosures.
Notation: n sequences, k positions, L sites, d width of the residual stream.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int, Int64

from ..kernel import Block, Task, Transformer, sequences
from ._config import CrosscoderConfig, Site, site_of
from ._errors import CrosscoderError

_NUMBERS = 1 << 22  # of an array; a few tens of megabytes


def require_sites_of(net: Transformer, names: Sequence[str]) -> tuple[Site, ...]:
    """The sites of those names; CrosscoderError for one that the model does not have."""
    sites = tuple(site_of(name) for name in names)
    for site in sites:
        if site.role not in ("resid_pre", "resid_mid", "resid_post"):
            raise CrosscoderError(
                f"site {site.name!r} has the role {site.role}: models without LayerNorm have "
                "resid_pre, resid_mid and resid_post"
            )
        if site.layer >= len(net.blocks):
            raise CrosscoderError(
                f"site {site.name!r}: the model has {len(net.blocks)} layers, counted from 0"
            )
    return sites


def default_sites(net: Transformer) -> tuple[str, ...]:
    """``resid_pre`` of the first layer, then ``resid_mid`` and ``resid_post`` of every layer."""
    names = ["blocks.0.hook_resid_pre"]
    for number in range(len(net.blocks)):
        names += [f"blocks.{number}.hook_resid_mid", f"blocks.{number}.hook_resid_post"]
    return tuple(names)


def residuals(
    net: Transformer, tokens: Int[np.ndarray, "n k"], names: Sequence[str], positions: str = "last"
) -> Float64[np.ndarray, "rows L d"]:
    """The residual stream at the sites ``names`` and the last or all positions.

    rows: n for ``last``; n k for ``all``, the positions of a sequence in a row. Cost: n forward
    passes. Raises CrosscoderError for a site that the model does not have.
    """
    sites = require_sites_of(net, names)
    if positions not in ("last", "all"):
        raise CrosscoderError(f"positions = {positions!r} must be last or all")
    kept = slice(-1, None) if positions == "last" else slice(None)
    several = net.n_ctx if positions == "all" else 1
    result = np.empty((len(tokens), several, len(sites), net.d_model))
    width = max(net.d_model, net.blocks[0].d_mlp, net.n_ctx * net.blocks[0].W_Q.shape[2])
    rows = max(1, _NUMBERS // (net.n_ctx * width))
    for start in range(0, len(tokens), rows):
        stop = start + rows
        stream = net.W_E[tokens[start:stop]] + net.W_pos
        for number, block in enumerate(net.blocks):
            mid = stream + _attention(net, block, stream)
            post = _mlp(block, mid)
            for place, site in enumerate(sites):
                if site.layer == number:
                    found = {"resid_pre": stream, "resid_mid": mid, "resid_post": post}[site.role]
                    result[start:stop, :, place] = found[:, kept]
            stream = post
    return result.reshape(-1, len(sites), net.d_model)


def unembedded(
    net: Transformer, residual: Float64[np.ndarray, "rows d"]
) -> Float64[np.ndarray, "rows x"]:
    """The logits of residuals after the last layer."""
    return residual @ net.W_U + net.b_U


def inputs_of(
    task: Task, limit: int, seed: int = 0
) -> tuple[Int64[np.ndarray, "n k"], Int64[np.ndarray, " n"]]:
    """Token sequences of the task and their labels: all of them, or ``limit`` drawn uniformly."""
    if task.total <= limit:
        tokens = sequences(task, 0, task.total)
    else:
        rng = np.random.default_rng(seed)
        tokens = rng.integers(0, task.v, (limit, task.k))
        tokens[:, -1] = rng.integers(task.queries.start, task.queries.stop, limit)
    return tokens, np.asarray(task.labels(tokens), dtype=np.int64)


def require_own_crosscoder(config: CrosscoderConfig, net: Transformer) -> None:
    """Refuse a crosscoder of another model, of sites that this one lacks, or of unfolded units."""
    if config.model_sha256 and config.model_sha256 != net.sha256:
        raise CrosscoderError(
            f"the crosscoder was trained on the model {config.model_sha256[:16]}..., not on this "
            f"one, {net.sha256[:16]}...: pass its own model"
        )
    require_sites_of(net, [site.name for site in config.sites])
    if config.d_in[0] != net.d_model:
        raise CrosscoderError(
            f"the crosscoder reads vectors of width {config.d_in[0]}, the model has {net.d_model}"
        )
    if not config.folded and config.normalize_activations != "none":
        raise CrosscoderError(
            f"the crosscoder's normalisation ({config.normalize_activations}) is not folded into "
            "its weights: fold it first (crosscoder.fold())"
        )


def _attention(
    net: Transformer, block: Block, stream: Float64[np.ndarray, "n k d"]
) -> Float64[np.ndarray, "n k d"]:
    written = np.broadcast_to(block.b_O, stream.shape)
    hidden = np.triu(np.ones((net.n_ctx, net.n_ctx), dtype=bool), 1)
    for head in range(block.n_heads):
        query = stream @ block.W_Q[head] + block.b_Q[head]
        key = stream @ block.W_K[head] + block.b_K[head]
        value = stream @ block.W_V[head] + block.b_V[head]
        score = query @ key.transpose(0, 2, 1) / float(net.score_divisor_squared) ** 0.5
        if net.attention_dir == "causal":
            score = np.where(hidden, -np.inf, score)
        weight = np.exp(score - score.max(axis=2, keepdims=True))
        weight /= weight.sum(axis=2, keepdims=True)
        written = written + weight @ value @ block.W_O[head]
    return written


def _mlp(block: Block, mid: Float64[np.ndarray, "n k d"]) -> Float64[np.ndarray, "n k d"]:
    return mid + np.maximum(mid @ block.W_in + block.b_in, 0) @ block.W_out + block.b_out
