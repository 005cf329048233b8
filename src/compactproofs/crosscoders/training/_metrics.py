"""How good a crosscoder is: what it reconstructs, how sparsely, and what the model then answers.

Everything is measured on the numpy crosscoder that is saved, in raw units. Notation: n rows, L
sites, d width, H features.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64

from .._crosscoder import Crosscoder
from ._forward import Patch, TorchTransformer
from ._interaction import (
    Decoded,
    Readout,
    Sparse,
    certified_margins,
    contributions,
    dominant_share,
    interaction_penalty,
    sparse,
)
from ._proof_terms import mlp_site
from ._sources import ActivationSource, Rows

_AT_ONCE = 2048
_PERCENTILES = (5, 25, 75, 95)


def crosscoder_metrics(
    crosscoder: Crosscoder,
    source: ActivationSource,
    *,
    k: int | None = None,
    first_row: int = 0,
    most_rows: int = 8192,
) -> dict[str, Any]:
    """The metrics of a crosscoder on rows of a source, as plain JSON.

    k: encode with at most so many active features (`Crosscoder.encode_topk`); None: as trained.
    first_row, most_rows: rows from the first on are used, at most so many, evenly spaced; whole
    sequences where the source is a model read at all positions.

    ``sites``: for each written site ``fvu`` (squared error by the variance over rows, 0 is
    perfect), ``explained_variance``, ``cossim``, ``l2_ratio``, ``relative_reconstruction_bias``.
    The rest has the names of SAEBench where it has one: ``l0`` and its percentiles, ``l1``,
    ``frac_alive``, ``freq_over_1_percent``, ...; pooled over sites. Where the source is a model:
    ``ce_loss_score``, ``kl_div_score`` and ``accuracy_recovered`` with one site's activations
    replaced; ``claimed_accuracy``, of the answers read off the last decoded site; and
    ``interaction``, with ``certified_share``, theorem B in float64: an estimate and no proof.

    Cost: the rows through the crosscoder once, and twice through the model for each site.
    """
    indices = _chosen_rows(source, first_row, most_rows)
    batches = [
        source.rows(indices[begin : begin + _AT_ONCE]) for begin in range(0, len(indices), _AT_ONCE)
    ]
    rows = Rows(*(torch.cat(column).cpu() for column in zip(*batches, strict=True)))
    acts = rows.activations.numpy()
    codes = crosscoder.encode(acts) if k is None else crosscoder.encode_topk(acts, k)
    decoded = crosscoder.decode(codes)
    target = rows.targets.numpy()
    metrics: dict[str, Any] = {
        "rows": len(indices),
        "held_out": first_row > 0,
        **_reconstruction(target, decoded),
        **_sparsity(codes),
        **_geometry(crosscoder),
        "sites": {
            site.name: _reconstruction(target[:, [place]], decoded[:, [place]])
            for place, site in enumerate(crosscoder.config.written_sites)
        },
    }
    if source.transformer is not None:
        metrics |= _model_scores(crosscoder, source, rows, decoded)
        interaction = _interaction(crosscoder, source, rows, codes)
        if interaction is not None:
            metrics["interaction"] = interaction
    return metrics


def _chosen_rows(source: ActivationSource, first: int, most: int) -> Int64[np.ndarray, " n"]:
    run = 1
    if source.transformer is not None and source.positions == "all":
        run = source.transformer.n_ctx
    first = -(-first // run)
    n = len(source) // run - first
    starts = first + np.linspace(0, n - 1, max(1, min(n, most // run))).astype(np.int64)
    return (starts[:, None] * run + np.arange(run)).reshape(-1)


def _reconstruction(
    target: Float[np.ndarray, "n L d"], decoded: Float[np.ndarray, "n L d"]
) -> dict[str, float]:
    a, b = np.float64(target), np.float64(decoded)
    squared = np.square(a - b).sum()
    variance = np.square(a - a.mean(axis=0)).sum()
    norms, others = np.linalg.norm(a, axis=2), np.linalg.norm(b, axis=2)
    product = (a * b).sum(axis=2)
    fvu = _ratio(squared, variance)
    return {
        "fvu": fvu,
        "explained_variance": 1 - fvu,
        "mse": float(np.square(a - b).mean()),
        "cossim": float((product / np.maximum(norms * others, 1e-30)).mean()),
        "l2_norm_in": float(norms.mean()),
        "l2_norm_out": float(others.mean()),
        "l2_ratio": float((others / np.maximum(norms, 1e-30)).mean()),
        "relative_reconstruction_bias": _ratio(np.square(others).mean(), product.mean()),
    }


def _sparsity(codes: Float[np.ndarray, "n H"]) -> dict[str, Any]:
    active = codes > 0
    frequency = active.mean(axis=0)
    l0 = active.sum(axis=1)
    return {
        "l0": float(l0.mean()),
        "l0_percentiles": {str(p): float(np.percentile(l0, p)) for p in _PERCENTILES},
        "l1": float(np.float64(codes).sum(axis=1).mean()),
        "frac_alive": float((frequency > 0).mean()),
        "freq_over_1_percent": float((frequency > 0.01).mean()),
        "freq_over_10_percent": float((frequency > 0.1).mean()),
        "log10_frequency_histogram": _histogram(frequency),
    }


def _histogram(frequency: Float64[np.ndarray, " H"]) -> dict[str, list[float]]:
    edges = np.linspace(-6, 0, 13)
    alive = np.clip(np.log10(frequency[frequency > 0]), -6, 0)
    return {"edges": edges.tolist(), "counts": np.histogram(alive, edges)[0].tolist()}


def _geometry(crosscoder: Crosscoder) -> dict[str, Any]:
    norms = np.linalg.norm(np.float64(crosscoder.W_dec), axis=2)
    share = norms / np.maximum(norms.sum(axis=1, keepdims=True), 1e-30)
    n_features = crosscoder.config.d_sae
    decoder = np.float64(crosscoder.W_dec).reshape(n_features, -1)
    encoder = np.float64(crosscoder.W_enc).reshape(-1, n_features).T
    return {
        "average_max_decoder_cosine_sim": _nearest(decoder),
        "average_max_encoder_cosine_sim": _nearest(encoder),
        "decoder_norm_profile": {
            site.name: {
                "mean": float(norms[:, place].mean()),
                "mean_share": float(share[:, place].mean()),
                "peak_here": int((norms.argmax(axis=1) == place).sum()),
            }
            for place, site in enumerate(crosscoder.config.written_sites)
        },
    }


def _nearest(vectors: Float64[np.ndarray, "H w"]) -> float:
    """Mean over vectors of the cosine with the one that is most like it; blockwise, O(H^2 w)."""
    if len(vectors) < 2:
        return 0.0
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    largest = []
    for begin in range(0, len(unit), _AT_ONCE):
        cosines = unit[begin : begin + _AT_ONCE] @ unit.T
        places = np.arange(len(cosines))
        cosines[places, begin + places] = -1
        largest.append(cosines.max(axis=1))
    return float(np.concatenate(largest).mean())


def _model_scores(
    crosscoder: Crosscoder,
    source: ActivationSource,
    rows: Rows,
    decoded: Float[np.ndarray, "n L d"],
) -> dict[str, Any]:
    if source.transformer is None:
        return {}
    model = TorchTransformer(source.transformer)
    run = source.transformer.n_ctx if source.positions == "all" else 1
    tokens, label = rows.token_ids[::run], rows.label[::run]
    clean = _log_probabilities(model, tokens, None)
    scores: dict[str, Any] = {"model_accuracy": _accuracy(clean, label), "patched": {}}
    sites = crosscoder.config.written_sites
    for place, site in enumerate(sites):
        values = torch.from_numpy(decoded[:, place]).unflatten(0, (-1, run))
        patched = _log_probabilities(model, tokens, Patch(site.name, values))
        zero = _log_probabilities(model, tokens, Patch(site.name, torch.zeros_like(values)))
        kl = [_divergence(clean, one) for one in (patched, zero)]
        ce = [_cross_entropy(one, label) for one in (clean, patched, zero)]
        right = [_accuracy(one, label) for one in (clean, patched, zero)]
        scores["patched"][site.name] = {
            "ce_loss_score": _ratio(ce[2] - ce[1], ce[2] - ce[0]),
            "kl_div_score": _ratio(kl[1] - kl[0], kl[1]),
            "accuracy": right[1],
            "accuracy_recovered": _ratio(right[1] - right[2], right[0] - right[2]),
        }
    last = f"blocks.{len(source.transformer.blocks) - 1}.hook_resid_post"
    for place, site in enumerate(sites):
        if site.name == last:
            end = torch.from_numpy(decoded[run - 1 :: run, place])
            scores["claimed_accuracy"] = _accuracy(end @ model.W_U + model.b_U, label)
    return scores


def _log_probabilities(
    model: TorchTransformer, tokens: torch.Tensor, patch: Patch | None
) -> Float[torch.Tensor, "s x"]:
    parts = []
    for begin in range(0, len(tokens), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        here = None if patch is None else Patch(patch.site, patch.values[part])
        with torch.no_grad():
            parts.append(torch.log_softmax(model(tokens[part], patch=here).logits.double(), dim=1))
    return torch.cat(parts)


def _divergence(clean: Float[torch.Tensor, "s x"], other: Float[torch.Tensor, "s x"]) -> float:
    return float((clean.exp() * (clean - other)).sum(dim=1).mean())


def _cross_entropy(logs: Float[torch.Tensor, "s x"], label: Int64[torch.Tensor, " s"]) -> float:
    return float(-logs.gather(1, label[:, None]).mean())


def _accuracy(logits: Float[torch.Tensor, "s x"], label: Int64[torch.Tensor, " s"]) -> float:
    return float((logits.argmax(dim=1) == label).double().mean())


def _interaction(
    crosscoder: Crosscoder,
    source: ActivationSource,
    rows: Rows,
    codes: Float[np.ndarray, "n H"],
) -> dict[str, float] | None:
    """Of the last MLP; None where no site is read by it."""
    transformer = source.transformer
    last = len(transformer.blocks) - 1 if transformer is not None else 0
    reads = f"blocks.{last}.hook_resid_mid"
    names = [site.name for site in source.sites]
    if transformer is None or transformer.blocks[last].d_mlp == 0 or reads not in names:
        return None
    if crosscoder.config.output_sites:
        return None
    site = mlp_site(source, reads)
    readout = Readout.of(transformer, dtype=torch.float64)
    decoded = Decoded(
        torch.from_numpy(np.float64(crosscoder.W_dec[:, site])),
        torch.from_numpy(np.float64(crosscoder.b_dec[site])),
    )
    answered = (rows.position == transformer.n_ctx - 1).numpy()
    active = sparse(torch.from_numpy(np.float64(codes[answered])))
    u = rows.activations[:, site].double()[torch.from_numpy(answered)]
    label = rows.label[torch.from_numpy(answered)]
    sums: dict[str, list[torch.Tensor]] = {"share": [], "interaction": [], "slack": [], "rho": []}
    certified: list[Bool[torch.Tensor, " n"]] = []
    claimed: list[Bool[torch.Tensor, " n"]] = []
    for begin in range(0, len(u), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        here = Sparse(active.features[part], active.values[part])
        p = contributions(readout, decoded, here)
        bound = certified_margins(readout, decoded, here, u[part], label[part])
        sums["share"].append(dominant_share(p)[None])
        sums["interaction"].append(interaction_penalty(readout, p))
        sums["slack"].append(bound.slack.sum(dim=1) / max(1, readout.answers - 1))
        sums["rho"].append(bound.rho)
        certified.append((bound.margin > 0).all(dim=1))
        claimed.append((bound.sums > 0).all(dim=1))
    return {
        "dominant_share": float(torch.cat(sums["share"]).mean()),
        "interaction": float(torch.cat(sums["interaction"]).mean()),
        "certified_slack": float(torch.cat(sums["slack"]).mean()),
        "rho": float(torch.cat(sums["rho"]).mean()),
        "sum_of_singles_accuracy": float(torch.cat(claimed).double().mean()),
        "certified_share": float(torch.cat(certified).double().mean()),
    }


def _ratio(part: float | np.floating, whole: float | np.floating) -> float:
    """0 where the whole is: nothing is missing of nothing."""
    return float(part / whole) if whole else 0.0
