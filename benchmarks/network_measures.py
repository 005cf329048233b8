"""What `bigger_network.py` measures of a crosscoder on held-out text.

Notation: N rows (positions of sequences), s sequences, k positions, H features.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64

import norm_ball
from compactproofs.crosscoders import Crosscoder, encoded_from_codes
from compactproofs.crosscoders.fidelity import Scheme, _strongest
from compactproofs.crosscoders.interactions import Measure, interactions, neuron_view
from compactproofs.crosscoders.training import Rows, TransformerSource, crosscoder_metrics
from compactproofs.crosscoders.training._forward import Patch, TorchTransformer
from compactproofs.kernel import Transformer, independence


@dataclass(frozen=True)
class Samples:
    """On how much it is measured; less is faster."""

    codes: int = 1024
    """Of as many positions, about which independence is proved."""
    ball_sequences: int = 16
    """Of which every position is bounded."""
    fidelity_sequences: int = 64
    """Of which every position is predicted."""


def measured(
    net: Transformer, crosscoder: Crosscoder, held_out: TransformerSource, samples: Samples
) -> dict[str, Any]:
    """All that is measured, on every position of `held_out`; scores of predictions at the last."""
    scores = crosscoder_metrics(crosscoder, held_out, most_rows=len(held_out))
    rows = held_out.rows(np.arange(len(held_out)))
    tokens = rows.token_ids[:: net.n_ctx].numpy()
    codes = crosscoder.encode(rows.activations.numpy())
    layers = [
        of_layer(net, crosscoder, codes, rows, layer, samples) for layer in range(len(net.blocks))
    ]
    return {
        "rows": len(held_out),
        "l0": scores["l0"],
        "l0_percentiles": scores["l0_percentiles"],
        "never_active": int((codes > 0).sum(axis=0).tolist().count(0)),
        "freq_over_10_percent": scores["freq_over_10_percent"],
        "sites": {name: one["fvu"] for name, one in scores["sites"].items()},
        "model_accuracy": scores["model_accuracy"],
        "claimed_accuracy": scores["claimed_accuracy"],
        "patched": scores["patched"],
        "theorem_b_of_last_mlp": scores["interaction"],
        "layers": layers,
        "ball": ball_of(net, crosscoder, tokens, samples.ball_sequences),
    }


def of_layer(
    net: Transformer,
    crosscoder: Crosscoder,
    codes: Float[np.ndarray, "N H"],
    rows: Rows,
    layer: int,
    samples: Samples,
) -> dict[str, Any]:
    """What features do to each other in the MLP of a layer."""
    print(f"measuring layer {layer}", flush=True)
    chosen = codes[np.linspace(0, len(codes) - 1, samples.codes).astype(np.int64)]
    encoded = encoded_from_codes(
        chosen,
        token_ids=np.zeros((len(chosen), 1), np.int64),
        position=np.zeros(len(chosen), np.int64),
        label=np.zeros(len(chosen), np.int64),
        d_vocab=net.d_vocab,
        d_vocab_out=net.d_vocab_out,
    )
    met = interactions(neuron_view(net, crosscoder, layer), encoded, Measure.PUBLISHED)
    return {
        "dominant_share": met.dominant_share,
        "dominant_mass": met.dominant_mass,
        "fidelity": fidelities(
            losses_of(net, crosscoder, rows, codes, layer, samples.fidelity_sequences)
        ),
        "neurons_and_codes": proved_apart(net, crosscoder, chosen, layer),
    }


def fidelities(losses: Mapping[Scheme, Float64[np.ndarray, "s k"]]) -> dict[str, dict[str, float]]:
    """Mean loss and fidelity of each scheme, as `compactproofs.crosscoders.fidelity` defines it."""
    mean = {scheme: float(loss.mean()) for scheme, loss in losses.items()}
    lost = mean[Scheme.NONE] - mean[Scheme.MODEL]
    return {
        scheme.name.lower(): {
            "loss": loss,
            "fidelity": 1 - (loss - mean[Scheme.MODEL]) / lost if lost else math.nan,
        }
        for scheme, loss in mean.items()
    }


def losses_of(
    net: Transformer,
    crosscoder: Crosscoder,
    rows: Rows,
    codes: Float[np.ndarray, "N H"],
    layer: int,
    sequences: int,
) -> dict[Scheme, Float64[np.ndarray, "s k"]]:
    """Cross-entropy (nats) at every position under each `Scheme` at the MLP of a layer.

    rows, codes: of all positions of some sequences; so many sequences are taken, evenly spaced.
    `compactproofs.crosscoders.fidelity.fidelity` looks at the last positions alone. In float32.
    """
    k, block, view = net.n_ctx, net.blocks[layer], neuron_view(net, crosscoder, layer)
    s = min(sequences, len(codes) // k)
    picked = np.linspace(0, len(codes) // k - 1, s).astype(np.int64)
    places = (picked[:, None] * k + np.arange(k)).reshape(-1)
    names = [site.name for site in crosscoder.config.sites]
    mid = rows.activations[places, names.index(f"blocks.{layer}.hook_resid_mid")].double().numpy()
    own = codes[places].astype(np.float64)
    everything, strongest = view.beta + own @ view.gain, _strongest(own, view)
    seen = {
        Scheme.MODEL: mid @ block.W_in + block.b_in,
        Scheme.ALL: everything,
        Scheme.STRONGEST: view.beta + strongest,
        Scheme.OTHERS: everything - strongest,
        Scheme.NONE: np.broadcast_to(view.beta, everything.shape),
    }
    model, last = TorchTransformer(net), f"blocks.{len(net.blocks) - 1}.hook_resid_post"
    tokens = rows.token_ids[places[::k]]
    following = torch.cat([tokens[:, 1:], rows.label[places[::k], None]], dim=1)
    found = {}
    for scheme, z in seen.items():
        added = np.maximum(z, 0) @ block.W_out + block.b_out
        patch = Patch(f"blocks.{layer}.hook_mlp_out", torch.from_numpy(added).unflatten(0, (s, k)))
        with torch.no_grad():
            stream = model(tokens, [last], patch).sites[last]
            logits = (stream @ model.W_U + model.b_U).double().transpose(1, 2)
            loss = torch.nn.functional.cross_entropy(logits, following, reduction="none")
        found[scheme] = loss.numpy()
    return found


def proved_apart(
    net: Transformer, crosscoder: Crosscoder, codes: Float[np.ndarray, "N H"], layer: int
) -> dict[str, Any]:
    """For how many neurons and codes it is proved that features do not interact there.

    The proof is about the reconstruction of each code, not about the activations it stands for.
    """
    directions = crosscoder.to_sae(f"blocks.{layer}.hook_resid_mid")
    active = codes > 0
    # Every coefficient is a level of its own: its number among those of its feature.
    number = np.cumsum(active, axis=0) - 1
    levels = np.zeros((codes.shape[1], max(1, int(active.sum(axis=0).max()))))
    atoms = np.full((len(codes), max(1, int(active.sum(axis=1).max()))), -1, np.int64)
    for row, column in enumerate(active):
        features = np.flatnonzero(column)
        own = number[row, features]
        levels[features, own] = codes[row, features]
        atoms[row, : len(features)] = features * levels.shape[1] + own
    proved = independence(
        net,
        layer,
        directions["W_dec"].astype(np.float64),
        directions["b_dec"].astype(np.float64),
        levels,
        atoms,
        pairs=False,
    )
    shares = {name: count / proved.tally.sum() for name, count in proved.cells().items()}
    return {"codes": len(codes), "shares": shares, "additive_codes": proved.additive_codes}


def ball_of(
    net: Transformer, crosscoder: Crosscoder, tokens: Int64[np.ndarray, "s k"], sequences: int
) -> dict[str, Any]:
    """Medians over positions of the norm-ball bound, from each site on, and what it certifies.

    margin, lost: see `norm_ball.Certified`; allowed: the radius at the end at which both are equal.
    """
    print("measuring the norm ball", flush=True)
    picked = tokens[np.linspace(0, len(tokens) - 1, sequences).astype(np.int64)]
    found = norm_ball.streams(net, crosscoder, picked)
    starts = []
    for start, site in enumerate(found.sites):
        bounds = norm_ball.radii(net, found, start)
        end = norm_ball.certified(net, found, bounds[-1])
        starts.append(
            {
                "from": site,
                "radius": [float(np.median(one)) for one in bounds],
                "margin": float(np.median(end.margin)),
                "largest_margin": float(end.margin.max()),
                "lost": float(np.median(end.lost)),
                "smallest_lost": float(end.lost.min()),
                "allowed": float(np.median(end.margin * bounds[-1] / end.lost)),
                "certified": int(end.certain.sum()),
            }
        )
    return {
        "tokens": picked.size,
        "sites": list(found.sites),
        "distance": [float(np.median(one)) for one in np.moveaxis(found.distance, 2, 0)],
        "norm": [float(np.median(one)) for one in np.linalg.norm(found.true, axis=3).T],
        "starts": starts,
    }
